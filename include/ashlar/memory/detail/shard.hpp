// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace ashlar::memory::detail {

/// For a few instructions at a time. Cost: one atomic exchange.
class spin_lock {
 public:
  void lock() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) {
      do {
        std::this_thread::yield();
      } while (taken_.load(std::memory_order_relaxed));
    }
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_ = false;
};

struct no_lock {
  void lock() noexcept {}
  void unlock() noexcept {}
};

/// Numbers the threads of the program.
inline std::size_t thread_number() {
  static constinit std::atomic<std::size_t> threads = 0;
  static constinit thread_local std::size_t mine = 0;  // from 1
  if (mine == 0) [[unlikely]] {
    mine = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  return mine - 1;
}

/// Freed blocks by size, each waiting for a request of its own size; to the rest of the allocator
/// they are in use. Class `c` has blocks of `(c + 1) * Granule` bytes, together at most `Bytes`.
template <std::size_t Granule, std::size_t Largest, std::size_t Bytes, class Lock>
struct alignas(64) shard {
  static constexpr std::size_t classes = std::max<std::size_t>(Largest / Granule, 1);
  /// Where the blocks of each class stand in `slots`.
  static constexpr auto first = [] {
    std::array<std::size_t, classes + 1> at{};
    for (std::size_t c = 0; c < classes; ++c) {
      at[c + 1] = at[c] + std::max<std::size_t>(Bytes / ((c + 1) * Granule), 1);
    }
    return at;
  }();

  Lock lock;
  std::size_t waiting = 0;       ///< bytes of the blocks here
  std::ptrdiff_t requested = 0;  ///< what callers hold by way of here, less what they gave back
  std::uint64_t requests = 0;    ///< that it served
  std::array<std::uint32_t, classes> count{};
  std::array<std::byte*, first.back()> slots;  // beyond the counts they mean nothing

  /// Returns: a block of class `c`, or null.
  std::byte* take(std::size_t c) noexcept {
    return count[c] == 0 ? nullptr : slots[first[c] + --count[c]];
  }
  /// Returns: whether there was room.
  bool put(std::size_t c, std::byte* p) noexcept {
    if (count[c] == first[c + 1] - first[c]) {
      return false;
    }
    slots[first[c] + count[c]++] = p;
    return true;
  }
};

}  // namespace ashlar::memory::detail
