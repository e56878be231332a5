// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/errors.hpp"
