// SPDX-License-Identifier: Apache-2.0
#pragma once
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
/// they are in use.
template <std::size_t Classes, std::size_t Depth, class Lock>
struct alignas(64) shard {
  struct stack {
    std::size_t count = 0;
    std::array<std::byte*, Depth> blocks;
  };
  Lock lock;
  std::size_t waiting = 0;  ///< bytes of the blocks here
  std::ptrdiff_t requested =
      0;                       ///< what callers hold by way of this shard, less what they gave back
  std::uint64_t requests = 0;  ///< that it served
  std::array<stack, Classes> stacks;
};

}  // namespace ashlar::memory::detail
