// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "ashlar/memory/resource.hpp"

/// Memories of made-up chips: bounded, with queues that the test moves on, failing when told to.
namespace upstreams {

struct refused {};  ///< what a driver throws

/// What a caller holds.
struct held {
  std::byte* p;
  std::size_t bytes;
};
/// One block goes back to its allocator.
template <class A>
void give_one(A& a, std::vector<held>& blocks, std::size_t which) {
  const held h = std::exchange(blocks[which], blocks.back());
  blocks.pop_back();
  a.deallocate(h.p, h.bytes);
}
template <class A>
void give_all(A& a, const std::vector<held>& blocks) {
  for (const held& h : blocks) {
    a.deallocate(h.p, h.bytes);
  }
}

/// Addresses alone, given out in order from a base that is aligned to 32 MiB: nothing lies there.
template <int Tag>
struct paper {
  static constexpr std::size_t alignment = 512;
  static inline std::size_t capacity = ~std::size_t{0};
  static inline std::size_t used = 0;
  static inline std::uintptr_t next = std::uintptr_t{1} << 40U;
  static inline std::map<std::uintptr_t, std::size_t> segments;
  static inline int calls = 0;
  static inline int throws_at = -1;  ///< the number of the call that throws

  static void reset(std::size_t bytes = ~std::size_t{0}) {
    capacity = bytes;
    used = 0;
    calls = 0;
    throws_at = -1;
    segments.clear();
    ranges.clear();
    now.clear();
  }
  static std::byte* place(std::size_t n, std::map<std::uintptr_t, std::size_t>& among) {
    const std::uintptr_t at = next;
    next += (n + (std::size_t{32} << 20U) - 1) >> 25U << 25U;
    among[at] = n;
    return reinterpret_cast<std::byte*>(at);
  }
  static std::byte* allocate(std::size_t n) {
    if (calls++ == throws_at) {
      throw refused{};
    }
    if (n > capacity - used) {
      return nullptr;
    }
    used += n;
    return place(n, segments);
  }
  static void free(std::byte* p, std::size_t n) noexcept {
    const auto at = segments.find(reinterpret_cast<std::uintptr_t>(p));
    if (at == segments.end() || at->second != n) {
      ++wrong;
      return;
    }
    used -= n;
    segments.erase(at);
  }
  // Addresses that get bytes piece by piece: the pieces count as segments.
  static constexpr std::size_t page = 64 * 1024;
  static inline std::map<std::uintptr_t, std::size_t> ranges;
  static std::byte* reserve(std::size_t n) {
    if (calls++ == throws_at) {
      throw refused{};
    }
    return place(n, ranges);
  }
  static void unreserve(std::byte* p, std::size_t n) noexcept {
    const auto at = ranges.find(reinterpret_cast<std::uintptr_t>(p));
    wrong += at == ranges.end() || at->second != n;
    ranges.erase(at);
  }
  static bool map(std::byte* p, std::size_t n) {
    if (calls++ == throws_at) {
      throw refused{};
    }
    if (n > capacity - used) {
      return false;
    }
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    const auto in = ranges.upper_bound(at);
    wrong += at % page != 0 || n % page != 0 || in == ranges.begin() ||
             at + n > std::prev(in)->first + std::prev(in)->second;
    for (std::uintptr_t piece = at; piece < at + n; piece += page) {
      wrong += !segments.emplace(piece, page).second;
    }
    used += n;
    return true;
  }
  static void unmap(std::byte* p, std::size_t n) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    for (std::uintptr_t piece = at; piece < at + n; piece += page) {
      wrong += segments.erase(piece) != 1;
    }
    used -= n;
  }
  static void copy_in(std::byte*, const void*, std::size_t) {}
  static void copy_out(void*, const std::byte*, std::size_t) {}
  static inline int wrong = 0;  ///< frees of what was not given out

  // Queues: event `n` of a queue has happened once the queue's clock is at least `n`.
  struct event {
    ashlar::memory::queue_id queue;
    std::uint64_t tick;
  };
  struct clocks {
    std::uint64_t recorded = 0, reached = 0;
  };
  static inline std::map<ashlar::memory::queue_id, clocks> now;
  static event record(ashlar::memory::queue_id q) noexcept { return {q, ++now[q].recorded}; }
  static bool happened(const event& e) noexcept { return now[e.queue].reached >= e.tick; }
  static void wait(const event& e) noexcept {
    clocks& c = now[e.queue];
    c.reached = c.reached > e.tick ? c.reached : e.tick;
  }
};

}  // namespace upstreams
