// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <type_traits>
#include <vector>

#include "ashlar/memory/resource.hpp"

namespace ashlar::memory {

// ---- policies -----------------------------------------------------------------------------------

/// Maps a request to the size of the block that serves it.
///
/// `S::rounded(n) >= n`, monotone, and `S::rounded(S::rounded(n)) == S::rounded(n)`.
/// Laws: tests/laws/memory.hpp.
template <class S>
concept SizeClasses = requires(std::size_t n) {
  { S::rounded(n) } -> std::same_as<std::size_t>;
};

/// Size classes with four steps per power of two from 512 bytes: at most 25 % of a block is unused.
struct binned {
  static constexpr std::size_t smallest = 512;
  static constexpr std::size_t rounded(std::size_t bytes) {
    if (bytes <= smallest) {
      return smallest;
    }
    const std::size_t step = std::max(std::bit_floor(bytes - 1) / 4, smallest);
    return (bytes + step - 1) / step * step;
  }
};

/// Every block starts at a multiple of `Bytes`.
template <std::size_t Bytes>
struct aligned {
  static_assert(std::has_single_bit(Bytes),
                "ashlar::memory::aligned<Bytes>: Bytes must be a power of two; round it up");
  static constexpr std::size_t alignment = Bytes;
};

/// What the allocator has done so far.
struct statistics {
  std::size_t allocated = 0;       ///< bytes in blocks that callers hold
  std::size_t peak_allocated = 0;  ///< largest value of `allocated`
  std::size_t reserved = 0;        ///< bytes held from the chip: allocated and cached
  std::uint64_t requests = 0;
  std::uint64_t upstream_requests = 0;  ///< requests that the cache could not serve
};

namespace detail {
template <class P>
inline constexpr bool is_alignment = requires { P::alignment; };
template <class Default, class... P>
struct size_classes_of {
  using type = Default;
};
template <class Default, class First, class... P>
struct size_classes_of<Default, First, P...>
    : std::conditional_t<SizeClasses<First>, std::type_identity<First>,
                         size_classes_of<Default, P...>> {};
}  // namespace detail

// ---- the allocator ------------------------------------------------------------------------------

/// Keeps freed blocks of a chip's memory for the next request of the same size class.
///
/// The driver is asked only for what the cache lacks; when the driver has nothing left, the cache
/// is given back and the driver asked once more. Thread-safe. Cost: one uncontended lock and a
/// search over the size classes in use, from the class asked for. Source: PyTorch's
/// CUDACachingAllocator, with exact classes in place of split blocks.
template <class Upstream, class... Policies>
class caching_allocator final : public resource {
  static_assert(Memory<Upstream>,
                "ashlar::memory::caching_allocator<Upstream, Policies...>: Upstream must model "
                "ashlar::memory::Memory (allocate, free, copy_in, copy_out)");
  static_assert(
      ((SizeClasses<Policies> || detail::is_alignment<Policies>)&&...),
      "ashlar::memory::caching_allocator: a policy is neither size classes (`rounded(n)`) "
      "nor an alignment (`aligned<N>`); remove it");

 public:
  using size_classes = typename detail::size_classes_of<binned, Policies...>::type;
  static constexpr std::size_t alignment = [] {
    std::size_t largest = 1;
    [[maybe_unused]] const auto take = [&]<class P>(std::type_identity<P>) {
      if constexpr (detail::is_alignment<P>) {
        largest = std::max(largest, P::alignment);
      }
    };
    (take(std::type_identity<Policies>{}), ...);
    return largest;
  }();
  static_assert(alignment <= Upstream::alignment,
                "ashlar::memory::caching_allocator: aligned<N> asks for more than "
                "Upstream::alignment; let the chip's memory align its blocks to N");

  caching_allocator() = default;
  /// Gives everything back to the chip. Requires: no block is in use any more.
  ~caching_allocator() { release_cached(); }

  /// The size of the block that serves a request.
  /// Throws: `out_of_memory` where no address range could be that long.
  [[nodiscard]] std::size_t block_size(std::size_t bytes) const {
    if (bytes > std::numeric_limits<std::size_t>::max() / 4) {
      throw out_of_memory(bytes, counts_.allocated, counts_.reserved);
    }
    return (size_classes::rounded(bytes) + alignment - 1) / alignment * alignment;
  }

  std::byte* allocate(std::size_t bytes) override {
    if (bytes == 0) {
      return nullptr;
    }
    const std::lock_guard lock(mutex_);
    const std::size_t size = block_size(bytes);
    std::byte* p = nullptr;
    if (auto* known = find(size); known != nullptr && !known->free.empty()) {
      p = known->free.back();
      known->free.pop_back();
    } else {
      add_bin(size);  // now, so that giving a block back can never need memory
      p = from_upstream(size, bytes);
    }
    ++counts_.requests;
    counts_.allocated += size;
    counts_.peak_allocated = std::max(counts_.peak_allocated, counts_.allocated);
    return p;
  }

  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    if (p == nullptr) {
      return;
    }
    const std::lock_guard lock(mutex_);
    const std::size_t size = (size_classes::rounded(bytes) + alignment - 1) / alignment * alignment;
    counts_.allocated -= size;
    find(size)->free.push_back(p);  // within the capacity that `from_upstream` saw to
  }

  /// Gives every cached block back to the chip.
  void release_cached() noexcept {
    const std::lock_guard lock(mutex_);
    release_all();
  }

  [[nodiscard]] statistics stats() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  struct bin {
    std::size_t size;
    std::size_t blocks;  ///< that exist, in use or free
    std::vector<std::byte*> free;
  };

  bin* find(std::size_t size) noexcept {
    const auto at = std::lower_bound(bins_.begin(), bins_.end(), size,
                                     [](const bin& b, std::size_t s) { return b.size < s; });
    return at != bins_.end() && at->size == size ? &*at : nullptr;
  }
  void add_bin(std::size_t size) {
    const auto at = std::lower_bound(bins_.begin(), bins_.end(), size,
                                     [](const bin& b, std::size_t s) { return b.size < s; });
    if (at == bins_.end() || at->size != size) {
      bins_.insert(at, bin{size, 0, {}});
    }
  }
  std::byte* from_upstream(std::size_t size, std::size_t bytes) {
    bin& b = *find(size);
    if (b.free.capacity() <= b.blocks) {
      b.free.reserve(std::max<std::size_t>(8, b.blocks * 2));
    }
    std::byte* p = Upstream::allocate(size);
    if (p == nullptr) {
      release_all();
      p = Upstream::allocate(size);
    }
    if (p == nullptr) {
      throw out_of_memory(bytes, counts_.allocated, counts_.reserved);
    }
    ++b.blocks;
    ++counts_.upstream_requests;
    counts_.reserved += size;
    return p;
  }
  void release_all() noexcept {
    for (bin& b : bins_) {
      for (std::byte* p : b.free) {
        Upstream::free(p, b.size);
        counts_.reserved -= b.size;
        --b.blocks;
      }
      b.free.clear();
    }
  }

  mutable std::mutex mutex_;
  std::vector<bin> bins_;  ///< by size
  statistics counts_;
};

/// The allocator as a policy of a stack: `allocate<memory::caching<memory::binned>>`.
template <class... Policies>
struct caching {
  template <class Upstream>
  using on = caching_allocator<Upstream, Policies...>;
};

/// The allocator of a chip where nothing else was chosen; it lives as long as the program.
template <class Upstream, class Policy = caching<>>
typename Policy::template on<Upstream>& shared_allocator() {
  // Never destroyed: tensors of other static objects may outlive any order of destruction.
  static auto& allocator = *new typename Policy::template on<Upstream>;
  return allocator;
}

}  // namespace ashlar::memory
