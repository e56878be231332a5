// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/memory/action.hpp"
#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/fit.hpp"
#include "ashlar/memory/kinds.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/statistics.hpp"
