// SPDX-License-Identifier: Apache-2.0
// Private pools of captured graphs, checkpoints, and two memories as one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/tiers.hpp"
#include "memory/upstreams.hpp"

using namespace ashlar;

namespace {

using memory::kib, memory::mib;
using upstreams::held;
using upstream = upstreams::paper<3>;
using allocator = memory::caching_allocator<upstream>;

/// The blocks of a pool, without what does not count: labels of what is free.
std::vector<std::pair<std::uintptr_t, std::size_t>> in_use(const allocator& a, memory::pool_id p) {
  std::vector<std::pair<std::uintptr_t, std::size_t>> all;
  for (const memory::block_info& b : a.checkpoint(p).blocks) {
    if (b.is == memory::block_info::state::in_use) {
      all.emplace_back(b.address, b.bytes);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("memory/private_pools: what is captured lies in segments of its own") {
  upstream::reset();
  allocator a;
  std::byte* const before = a.allocate(1000);
  a.deallocate(before, 1000);
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool);
  std::byte* const inside = a.allocate(1000);
  CHECK(inside != before);  // though that was cached, and waited for its own size
  std::byte* const gone = a.allocate(5000);
  a.deallocate(gone, 5000);
  CHECK(a.allocate(5000) == gone);  // within the capture, memory is used again
  a.end_capture();
  CHECK(a.allocate(1000) == before);
  a.deallocate(inside, 1000);
  std::byte* const after = a.allocate(1000);
  CHECK(after != inside);  // the graph writes there when it runs again
  for (const memory::block_info& b : a.blocks()) {
    CHECK((b.owner == pool) ==
          (reinterpret_cast<std::uintptr_t>(inside) >> 25U == b.address >> 25U));
  }
  a.deallocate(after, 1000);
  a.deallocate(before, 1000);
  a.deallocate(gone, 5000);
  CHECK(a.stats().allocated == 0);
  a.release_cached();
  CHECK(a.stats().reserved > 0);  // a graph's memory stays while it may run
  a.begin_capture(pool);          // the same graph, again: the same place
  CHECK(a.allocate(1000) == inside);
  a.deallocate(inside, 1000);
  a.end_capture();
  a.drop_pool(pool);
  a.release_cached();
  CHECK(a.stats().reserved == 0);
  CHECK(upstream::used == 0);
  // From here on small blocks wait for their own size again.
  std::byte* const quick = a.allocate(700);
  a.deallocate(quick, 700);
  CHECK(a.blocks().front().is == memory::block_info::state::in_use);
}

TEST_CASE("memory/private_pools: only the captured queue is served from the pool") {
  upstream::reset();
  allocator a;
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool, 2);
  std::byte* const other = a.allocate(1000, 1);
  std::byte* const captured = a.allocate(1000, 2);
  for (const memory::block_info& b : a.blocks()) {
    if (b.is == memory::block_info::state::in_use) {
      CHECK((b.owner == pool) == (b.address == reinterpret_cast<std::uintptr_t>(captured)));
    }
  }
  a.end_capture(2);
  a.deallocate(other, 1000);
  a.deallocate(captured, 1000);
}

TEST_CASE("memory/private_pools: during a capture no event is recorded, afterwards all are") {
  upstream::reset();
  allocator a;
  std::byte* const shared = a.allocate(100 * kib);
  a.record_use(shared, 1);
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool, 5);
  a.deallocate(shared, 100 * kib);
  CHECK(upstream::now[1].recorded == 0);
  std::byte* const second = a.allocate(100 * kib);
  CHECK(second != shared);
  a.end_capture(5);
  CHECK(upstream::now[1].recorded == 1);
  CHECK(a.allocate(100 * kib) != shared);  // the queue has not come by yet
  upstream::now[1].reached = 1;
  CHECK(a.allocate(100 * kib) == shared);
}

TEST_CASE("memory/private_pools: during a capture the cache is not given back") {
  upstream::reset(8 * mib);
  allocator a;
  std::byte* const cached = a.allocate(6 * mib);
  a.deallocate(cached, 6 * mib);
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool);
  CHECK(a.allocate_or_null(6 * mib) == nullptr);
  try {
    a.allocate(6 * mib);
    FAIL("must throw");
  } catch (const memory::out_of_memory& e) {
    CHECK((e.tried & static_cast<unsigned>(memory::ladder::release_all)) == 0);
  }
  a.end_capture();
  CHECK(a.allocate(6 * mib) == cached);
}

TEST_CASE("memory/private_pools: a checkpoint is returned to at the same addresses") {
  upstream::reset();
  allocator a;
  const memory::pool_id pool = a.make_pool();
  std::mt19937 random(1);
  std::vector<held> mine;
  const auto run = [&](int count) {
    a.begin_capture(pool);
    for (int i = 0; i < count; ++i) {
      if (mine.empty() || random() % 5 < 3) {
        const std::size_t bytes = 1 + random() % (random() % 2 == 0 ? 3000 : 3 * mib);
        mine.push_back({a.allocate(bytes), bytes});
      } else {
        upstreams::give_one(a, mine, random() % mine.size());
      }
    }
    a.end_capture();
  };
  for (int round = 0; round < 30; ++round) {
    run(40);
    const std::vector<held> then = mine;
    const memory::pool_checkpoint point = a.checkpoint(pool);
    const auto used = in_use(a, pool);
    const memory::statistics stats = a.stats();
    run(60);
    const auto later = in_use(a, pool);
    const memory::pool_restored changed = a.restore(point);
    CHECK(in_use(a, pool) == used);
    CHECK(a.stats().allocated == stats.allocated);
    CHECK(a.stats().requested == stats.requested);
    for (const memory::block_info& b : point.blocks) {  // cut as they were
      const auto now = a.checkpoint(pool).blocks;
      const auto same = std::find_if(now.begin(), now.end(), [&](const memory::block_info& x) {
        return x.address == b.address;
      });
      CHECK((same != now.end() && same->bytes == b.bytes));
    }
    // What it says about callers' blocks is the difference of the two sets.
    std::size_t freed = 0, taken = 0;
    for (const auto& b : later) {
      freed += std::find(used.begin(), used.end(), b) == used.end();
    }
    for (const auto& b : used) {
      taken += std::find(later.begin(), later.end(), b) == later.end();
    }
    CHECK(changed.freed.size() == freed);
    CHECK(changed.taken.size() == taken);
    mine = then;  // those it names are the caller's again
  }
  upstreams::give_all(a, mine);
  CHECK(a.stats().allocated == 0);
  CHECK(a.stats().requested == 0);
  a.drop_pool(pool);
  a.release_cached();
  CHECK(upstream::used == 0);
  CHECK(upstream::wrong == 0);
}

TEST_CASE("memory/private_pools: a checkpoint whose segments are gone changes nothing") {
  upstream::reset();
  allocator a;
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool);
  std::byte* const p = a.allocate(5 * mib);
  a.end_capture();
  const memory::pool_checkpoint point = a.checkpoint(pool);
  a.deallocate(p, 5 * mib);
  a.drop_pool(pool);
  a.release_cached();
  std::byte* const other = a.allocate(5 * mib);
  const memory::statistics before = a.stats();
  CHECK_THROWS_AS(a.restore(point), memory::checkpoint_error);
  CHECK(a.stats().allocated == before.allocated);
  a.deallocate(other, 5 * mib);
}

TEST_CASE("memory/private_pools: a pool that is dropped while it is captured into serves on") {
  upstream::reset(3 * mib);
  allocator a;
  std::byte* const cached = a.allocate(2 * mib);
  a.deallocate(cached, 2 * mib);
  const memory::pool_id pool = a.make_pool();
  a.begin_capture(pool);
  a.drop_pool(pool);
  a.on_low_memory(
      [](void* with) {
        static_cast<allocator*>(with)->release_cached();
        return true;
      },
      &a);
  std::byte* const p = a.allocate(2 * mib);
  REQUIRE(a.checkpoint(pool).blocks.size() == 1);
  CHECK(a.checkpoint(pool).blocks[0].address == reinterpret_cast<std::uintptr_t>(p));
  a.end_capture();
  a.deallocate(p, 2 * mib);
  a.release_cached();
  CHECK(a.blocks().empty());
  CHECK(upstream::used == 0);
}

TEST_CASE("memory/private_pools: ids of other allocators and checkpoints of no pool do no harm") {
  upstream::reset();
  allocator a;
  std::byte* const p = a.allocate(mib);
  for (const auto id : {memory::pool_id::shared, memory::pool_id{1}, memory::pool_id{~0U}}) {
    a.drop_pool(id);
    CHECK(a.checkpoint(id).blocks.size() == (id == memory::pool_id::shared ? 2 : 0));
  }
  CHECK_THROWS_AS(a.restore({}), argument_error);
  CHECK_THROWS_AS(a.restore(a.checkpoint(memory::pool_id::shared)), argument_error);
  CHECK(a.stats().requested == mib);
  a.deallocate(p, mib);
}

TEST_CASE("memory/private_pools: two memories, each with its alignment, are one resource") {
  using sram = upstreams::paper<10>;
  using dram = upstreams::paper<11>;
  sram::reset(256 * kib);
  dram::reset();
  dram::next = std::uintptr_t{1} << 41U;  // the chip tells them apart by address
  {
    memory::tiers<memory::caching_allocator<sram, memory::exact<64>, memory::aligned<64>,
                                            memory::plain_segments<256 * kib>>,
                  memory::caching_allocator<dram, memory::aligned<512>>>
        both(16 * kib);
    std::mt19937 random(1);
    std::map<std::byte*, std::size_t> held;
    std::size_t fast = 0, spilled = 0;
    for (int i = 0; i < 5000; ++i) {
      if (held.size() < 60 || random() % 2 == 0) {
        const std::size_t bytes = 1 + random() % (random() % 4 == 0 ? 100 * kib : 16 * kib);
        std::byte* const p = both.allocate(bytes);
        CHECK(held.emplace(p, bytes).second);
        const bool in_fast = both.fast().owns(p);
        CHECK(reinterpret_cast<std::uintptr_t>(p) % (in_fast ? 64 : 512) == 0);
        CHECK((!in_fast || bytes <= 16 * kib));
        fast += in_fast;
        spilled += !in_fast && bytes <= 16 * kib;
      } else {
        const auto which =
            std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()));
        both.deallocate(which->first, which->second);
        held.erase(which);
      }
    }
    CHECK(fast > 300);
    CHECK(spilled > 300);  // the fast one is full, the large one serves
    for (const auto& [p, bytes] : held) {
      both.deallocate(p, bytes);
    }
    CHECK(both.fast().stats().allocated + both.large().stats().allocated == 0);
    std::byte* const chosen = both.fast().allocate(100);  // asked for by name
    CHECK(both.fast().owns(chosen));
    both.deallocate(chosen, 100);
    // Queues are kept apart in both.
    for (const std::size_t bytes : {std::size_t{1000}, 100 * kib}) {
      std::byte* const shared = both.allocate(bytes, 1);
      both.used_by(shared, 2);
      both.deallocate(shared, bytes);
      std::byte* const next = both.allocate(bytes, 1);
      CHECK(next != shared);  // queue 2 is not done with it
      both.deallocate(next, bytes);
    }
  }
  CHECK(sram::used + dram::used == 0);
  CHECK(sram::wrong + dram::wrong == 0);
}
