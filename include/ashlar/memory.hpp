// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/fit.hpp"
#include "ashlar/memory/host_pages.hpp"
#include "ashlar/memory/kinds.hpp"
#include "ashlar/memory/policies.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/memory/snapshot.hpp"
#include "ashlar/memory/statistics.hpp"
#include "ashlar/memory/tiers.hpp"
