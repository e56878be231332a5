// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/policies.hpp"
#include "ashlar/kv/precision.hpp"
#include "ashlar/kv/prefix_cache.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/kv/swap.hpp"
#include "ashlar/kv/usage.hpp"
