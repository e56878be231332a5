// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/resource.hpp"

namespace ashlar::memory {

/// Two memories of a chip as one: what is small lies in the fast one while there is room, all else
/// in the large one. `Fast` and `Large` are allocators (`caching_allocator`), each with alignment,
/// sizes and fit of its own memory.
///
/// Requires: no address lies in both memories.
/// Cost: of a small block that finds no room, the fast allocator's whole ladder.
template <class Fast, class Large>
class tiers final : public resource {
 public:
  /// Blocks up to `most` bytes may lie in the fast memory.
  explicit tiers(std::size_t most) : most_(most) {}

  /// For what must lie in one of them.
  [[nodiscard]] Fast& fast() { return fast_; }
  [[nodiscard]] Large& large() { return large_; }

  std::byte* allocate(std::size_t bytes) override { return allocate(bytes, 0); }
  std::byte* allocate(std::size_t bytes, queue_id queue) override {
    if (std::byte* const p = bytes <= most_ ? fast_.allocate_or_null(bytes, queue) : nullptr) {
      return p;
    }
    return queue == 0 ? large_.allocate(bytes) : large_.allocate(bytes, queue);
  }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    if (bytes <= most_ && fast_.owns(p)) {
      fast_.deallocate(p, bytes);
    } else {
      large_.deallocate(p, bytes);
    }
  }
  void used_by(std::byte* p, queue_id by) override {
    if (fast_.owns(p)) {
      fast_.used_by(p, by);
    } else {
      large_.used_by(p, by);
    }
  }

 private:
  Fast fast_;
  Large large_;
  std::size_t most_;
};

}  // namespace ashlar::memory
