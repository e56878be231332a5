// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/kv/usage.hpp"
