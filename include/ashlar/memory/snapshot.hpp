// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/statistics.hpp"

namespace ashlar::memory {

/// What an allocator holds and how it came to that.
struct snapshot {
  std::vector<block_info> blocks;    ///< by address
  std::vector<trace_entry> actions;  ///< oldest first; none where they are not recorded
  statistics stats;
};

}  // namespace ashlar::memory
