// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/description.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/meta.hpp"
