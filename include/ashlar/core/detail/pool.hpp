// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ASHLAR_DETAIL_POOLS_OFF 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define ASHLAR_DETAIL_POOLS_OFF 1
#endif
#endif

namespace ashlar::detail {

/// Free lists per thread for the small objects that every call makes: tensor bodies, tape nodes.
///
/// One list per 64 bytes up to `largest`; more goes to `operator new`. A block may be given back on
/// another thread. Off under the sanitizers, which must see every object. A thread's lists are
/// freed when it ends; objects that die later still (other thread-local objects) skip the lists.
/// Cost: about 2 ns to take, 1 ns to give.
class object_pool {
 public:
  static constexpr std::size_t step = 64;
  static constexpr std::size_t largest = 1024;

  static void* take(std::size_t bytes) {
#ifndef ASHLAR_DETAIL_POOLS_OFF
    if (bytes <= largest) [[likely]] {
      auto& list = lists_[list_of(bytes)];
      if (block* b = list) [[likely]] {
        list = b->next;
        return b;
      }
      return make(bytes);
    }
#endif
    return ::operator new(bytes, std::align_val_t{step});
  }

  static void give(void* p, [[maybe_unused]] std::size_t bytes) noexcept {
#ifndef ASHLAR_DETAIL_POOLS_OFF
    if (bytes <= largest && state_ == state::open) [[likely]] {
      auto& list = lists_[list_of(bytes)];
      list = ::new (p) block{list};
      return;
    }
#endif
    ::operator delete(p, std::align_val_t{step});
  }

#ifndef ASHLAR_DETAIL_POOLS_OFF

 private:
  struct block {
    block* next;
  };
  enum class state : unsigned char { unused, open, closed };
  struct closer {
    ~closer() {
      state_ = state::closed;
      for (block*& list : lists_) {
        while (block* b = list) {
          list = b->next;
          ::operator delete(b, std::align_val_t{step});
        }
      }
    }
  };
  static constexpr std::size_t list_of(std::size_t bytes) {
    return bytes == 0 ? 0 : (bytes - 1) / step;
  }
  /// The lists are plain data, so that the fast path needs no guard; the first miss on a thread
  /// registers their destructor.
  [[gnu::noinline]] static void* make(std::size_t bytes) {
    if (state_ == state::unused) {
      static thread_local closer at_exit;
      static_cast<void>(at_exit);
      state_ = state::open;
    }
    return ::operator new((list_of(bytes) + 1) * step, std::align_val_t{step});
  }

  static inline constinit thread_local std::array<block*, largest / step> lists_{};
  static inline constinit thread_local state state_ = state::unused;
#endif
};

}  // namespace ashlar::detail
