// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/plan/arena.hpp"
#include "ashlar/plan/gaps.hpp"
#include "ashlar/plan/network.hpp"
