// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"

/// Random requests from several threads and queues, beside books that are kept independently.
namespace model {

namespace memory = ashlar::memory;
using memory::kib, memory::mib, memory::queue_id;

constexpr std::uint64_t nobody = ~std::uint64_t{0};

struct area {
  std::size_t bytes;
  std::uint64_t queue = nobody;  ///< that the first block was for: so are all others
  bool mapped = true;
};
struct clock {
  std::uint64_t recorded = 0, reached = 0;
};

/// A chip of addresses alone that counts what it gives and has queues; no address comes twice.
struct chip {
  static constexpr std::size_t alignment = 512, page = 64 * kib;
  static constexpr std::size_t capacity = 64 * mib;
  static inline std::mutex lock;
  static inline std::uintptr_t next;
  static inline std::map<std::uintptr_t, area> areas;      ///< segments, and ranges without bytes
  static inline std::unordered_set<std::uintptr_t> pages;  ///< of ranges, that have bytes
  static inline std::size_t used, peak, wrong;
  static inline std::uint64_t given;
  static inline std::array<clock, 3> clocks;

  static void reset() {
    next = std::uintptr_t{1} << 40U;
    areas.clear();
    pages.clear();
    used = peak = wrong = 0;
    given = 0;
    clocks = {};
  }
  static std::byte* place(std::size_t n, bool mapped) {
    const std::uintptr_t at = next;
    next += (n + 4 * mib) / (2 * mib) * (2 * mib);
    areas[at] = {n, nobody, mapped};
    return reinterpret_cast<std::byte*>(at);
  }
  static bool take(std::size_t n) {
    if (n > capacity - used) {
      return false;
    }
    used += n;
    peak = std::max(peak, used);
    ++given;
    return true;
  }
  static std::byte* allocate(std::size_t n) {
    const std::lock_guard hold(lock);
    return take(n) ? place(n, true) : nullptr;
  }
  static void free(std::byte* p, std::size_t n) noexcept {
    const std::lock_guard hold(lock);
    const auto at = areas.find(reinterpret_cast<std::uintptr_t>(p));
    wrong += at == areas.end() || at->second.bytes != n || !at->second.mapped;
    areas.erase(at);
    used -= n;
  }
  static std::byte* reserve(std::size_t n) {
    const std::lock_guard hold(lock);
    return place(n, false);
  }
  static void unreserve(std::byte* p, std::size_t n) noexcept {
    const std::lock_guard hold(lock);
    const auto at = areas.find(reinterpret_cast<std::uintptr_t>(p));
    wrong += at == areas.end() || at->second.bytes != n || at->second.mapped;
    areas.erase(at);
  }
  static bool map(std::byte* p, std::size_t n) {
    const std::lock_guard hold(lock);
    if (!take(n)) {
      return false;
    }
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    for (std::uintptr_t a = at; a < at + n; a += page) {
      wrong += !pages.insert(a).second;
    }
    return true;
  }
  static void unmap(std::byte* p, std::size_t n) noexcept {
    const std::lock_guard hold(lock);
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    for (std::uintptr_t a = at; a < at + n; a += page) {
      wrong += pages.erase(a) != 1;
    }
    used -= n;
  }
  static void copy_in(std::byte*, const void*, std::size_t) {}
  static void copy_out(void*, const std::byte*, std::size_t) {}

  struct event {
    queue_id queue;
    std::uint64_t tick;
  };
  static event record(queue_id q) noexcept {
    const std::lock_guard hold(lock);
    return {q, ++clocks[q].recorded};
  }
  static bool happened(const event& e) noexcept {
    const std::lock_guard hold(lock);
    return clocks[e.queue].reached >= e.tick;
  }
  static void wait(const event& e) noexcept {
    const std::lock_guard hold(lock);
    clocks[e.queue].reached = std::max(clocks[e.queue].reached, e.tick);
  }
};

struct held {
  std::byte* p;
  std::size_t bytes;
  std::vector<queue_id> users;
};

/// What callers hold, and until when freed bytes are still used by other queues.
class books {
 public:
  std::size_t total = 0, overlaps = 0, outside = 0, misaligned = 0, early = 0, met = 0;
  std::uint64_t requests = 0, failures = 0;

  void take(const held& h, queue_id queue, std::size_t alignment) {
    const auto at = reinterpret_cast<std::uintptr_t>(h.p), end = at + h.bytes;
    const std::lock_guard hold(lock_);
    const auto above = blocks_.lower_bound(at);
    overlaps += above != blocks_.end() && above->first < end;
    overlaps += above != blocks_.begin() && std::prev(above)->second > at;
    blocks_[at] = end;
    misaligned += at % alignment != 0;
    total += h.bytes;
    ++requests;
    const std::lock_guard with_chip(chip::lock);
    auto in = chip::areas.upper_bound(at);
    if (in == chip::areas.begin() || (--in)->first + in->second.bytes < end) {
      ++outside;
      return;
    }
    if (!in->second.mapped) {
      for (std::uintptr_t a = at / chip::page * chip::page; a < end; a += chip::page) {
        outside += !chip::pages.contains(a);
      }
    }
    outside += in->second.queue != nobody && in->second.queue != queue;
    in->second.queue = queue;
    std::erase_if(uses_, [&](const use& u) {
      const bool done = chip::clocks[u.queue].reached >= u.tick;
      if (at < u.end && u.begin < end) {
        early += !done;
        met += done;
      }
      return done;
    });
  }
  /// Before the block is given back.
  void give(const held& h) {
    const auto at = reinterpret_cast<std::uintptr_t>(h.p);
    const std::lock_guard hold(lock_);
    blocks_.erase(at);
    total -= h.bytes;
    if (!h.users.empty()) {
      const std::lock_guard with_chip(chip::lock);
      for (const queue_id q : h.users) {
        uses_.push_back({at, at + h.bytes, q, chip::clocks[q].recorded + 1});
      }
    }
  }
  void refuse() {
    const std::lock_guard hold(lock_);
    ++failures;
  }
  /// While nobody asks for anything.
  template <class A>
  void compare(const A& a) const {
    const memory::statistics s = a.stats();
    CHECK(overlaps == 0);
    CHECK(outside == 0);
    CHECK(misaligned == 0);
    CHECK(early == 0);
    CHECK(chip::wrong == 0);
    CHECK(s.requested == total);
    CHECK(s.requests == requests);
    CHECK(s.failures == failures);
    CHECK(s.reserved == chip::used);
    CHECK(s.peak_reserved == chip::peak);
    CHECK(s.upstream_requests == chip::given);
    std::size_t allocated = 0, reserved = 0, disorder = 0, found = 0;
    const std::vector<memory::block_info> all = a.blocks();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const memory::block_info& b = all[i];
      const bool follows = i > 0 && all[i - 1].segment == b.segment;
      reserved += b.bytes;
      if (blocks_.contains(b.address)) {
        ++found;
        allocated += b.bytes;
        disorder += b.is != memory::block_info::state::in_use;
      }
      // Blocks tile their segments, and what is free has been joined.
      disorder +=
          follows ? all[i - 1].address + all[i - 1].bytes != b.address : b.segment != b.address;
      disorder += follows && b.is == memory::block_info::state::free &&
                  all[i - 1].is == memory::block_info::state::free;
    }
    CHECK(disorder == 0);
    CHECK(found == blocks_.size());
    CHECK(s.allocated == allocated);
    CHECK(s.reserved == reserved);
    CHECK(s.peak_allocated >= s.allocated);
    CHECK(s.peak_allocated <= s.peak_reserved);
  }

 private:
  struct use {
    std::uintptr_t begin, end;
    queue_id queue;
    std::uint64_t tick;
  };
  std::mutex lock_;
  std::map<std::uintptr_t, std::uintptr_t> blocks_;  ///< from where to where
  std::vector<use> uses_;
};

struct plan {
  std::size_t threads = 1;
  unsigned queues = 1;  ///< up to 3
  std::size_t operations = 0;
};

/// `alignment(bytes)` is what a block of that many bytes must start at a multiple of.
template <class... Policies, class Alignment>
void run(const plan& what, Alignment&& alignment) {
  chip::reset();
  books b;
  constexpr std::size_t rounds = 8;
  {
    memory::caching_allocator<chip, Policies...> a;
    std::vector<std::vector<held>> mine(what.threads);
    const auto work = [&](std::vector<held>& blocks, unsigned seed, bool grows) {
      std::mt19937 random(seed);
      for (std::size_t i = 0; i < what.operations / rounds / what.threads; ++i) {
        if (what.queues > 1 && random() % 4 == 0) {  // time goes by
          const std::lock_guard hold(chip::lock);
          clock& c = chip::clocks[random() % what.queues];
          c.reached = std::min(c.recorded, c.reached + random() % 4);
        }
        if (blocks.empty() || random() % 100 < (grows ? 55U : 45U)) {
          const auto magnitude = static_cast<unsigned>(random() % 23);
          const std::size_t bytes = 1 + random() % (std::size_t{1} << magnitude);
          const auto queue = static_cast<queue_id>(random() % what.queues);
          try {
            held h{queue == 0 ? a.allocate(bytes) : a.allocate(bytes, queue), bytes, {}};
            b.take(h, queue, alignment(bytes));
            if (what.queues > 1 && random() % 4 == 0) {
              const auto user = static_cast<queue_id>(random() % what.queues);
              a.record_use(h.p, user);
              if (user != queue) {
                h.users.push_back(user);
              }
            }
            blocks.push_back(std::move(h));
          } catch (const memory::out_of_memory&) {
            b.refuse();
          }
        } else {
          const std::size_t k = random() % blocks.size();
          const held h = std::exchange(blocks[k], std::move(blocks.back()));
          blocks.pop_back();
          b.give(h);
          a.deallocate(h.p, h.bytes);
        }
      }
    };
    for (std::size_t round = 0; round < rounds; ++round) {
      std::vector<std::thread> threads;
      for (std::size_t t = 0; t < what.threads; ++t) {
        const auto seed = static_cast<unsigned>(round * what.threads + t);
        threads.emplace_back([&, t, seed] { work(mine[t], seed, round % 3 != 2); });
      }
      for (std::thread& t : threads) {
        t.join();
      }
      b.compare(a);
      std::rotate(mine.begin(), mine.begin() + 1, mine.end());  // others give the blocks back
    }
    for (std::vector<held>& blocks : mine) {
      for (const held& h : blocks) {
        b.give(h);
        a.deallocate(h.p, h.bytes);
      }
    }
    CHECK(a.stats().allocated == 0);
    CHECK(a.stats().requested == 0);
    a.release_cached();
    CHECK(a.stats().reserved == 0);
    CHECK(a.blocks().empty());
  }
  CHECK(chip::used == 0);
  CHECK(chip::areas.empty());
  CHECK(chip::wrong == 0);
  CHECK((what.queues == 1 || b.met > 0));
  MESSAGE(b.requests, " requests served, ", b.failures, " refused, ", b.met,
          " times memory served again after another queue's event");
}

/// Ten million operations when `scale` is 1.
inline void run_all(double scale) {
  const auto plan_of = [&](std::size_t threads, unsigned queues, double millions) {
    return plan{threads, queues, static_cast<std::size_t>(millions * 1e6 * scale)};
  };
  const auto lines = [](std::size_t) { return std::size_t{512}; };
  SUBCASE("default policies, one queue, four threads") { run<>(plan_of(4, 1, 3), lines); }
  SUBCASE("default policies, three queues, four threads") { run<>(plan_of(4, 3, 1.5), lines); }
  SUBCASE("PyTorch's policies, three queues, two threads") {
    run<memory::pytorch_policies>(plan_of(2, 3, 1.5), lines);
  }
  SUBCASE("PyTorch's policies, expandable with a split limit, two threads") {
    run<memory::pytorch_expandable_policies<20 * mib>>(plan_of(2, 2, 1), lines);
  }
  SUBCASE("segments that grow, quick lists, two threads") {
    run<memory::expandable<>>(plan_of(2, 1, 1), lines);
  }
  SUBCASE("best fit, whole-block sizes, unlocked, recorded") {
    run<memory::best_fit, memory::binned, memory::unlocked, memory::recorded<1000>>(
        plan_of(1, 3, .5), lines);
  }
  SUBCASE("large blocks at multiples of 2 MiB, slack behind each") {
    run<memory::aligned_from<mib, 2 * mib>, memory::tail_slack<64>>(
        plan_of(2, 1, .5), [](std::size_t n) { return n + 64 > mib ? 2 * mib : 512; });
  }
  SUBCASE("lowest address, interleaved banks") {
    run<memory::interleaved<16, 512>, memory::lowest_address>(plan_of(2, 1, .5), lines);
  }
  SUBCASE("whole blocks that serve smaller sizes") {
    run<memory::tolerant_policies>(plan_of(2, 2, .5), lines);
  }
}

}  // namespace model
