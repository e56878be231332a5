// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

namespace ashlar::memory {

/// What an allocator has done so far. Bytes, where nothing else is said.
struct statistics {
  std::size_t requested = 0;       ///< what callers asked for and hold
  std::size_t allocated = 0;       ///< in the blocks that they hold
  std::size_t peak_allocated = 0;  ///< largest value of `allocated`
  std::size_t reserved = 0;        ///< held from the chip: allocated and cached
  std::size_t peak_reserved = 0;
  std::uint64_t requests = 0;
  std::uint64_t upstream_requests = 0;  ///< segments that the chip gave
  std::uint64_t retries = 0;            ///< times that the whole cache was given back
  std::uint64_t failures = 0;           ///< `out_of_memory`
};

}  // namespace ashlar::memory
