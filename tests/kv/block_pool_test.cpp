// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/block_pool.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace kv = ashlar::kv;

TEST_CASE("kv/block_pool: the first blocks come in order of their ids") {
  kv::block_pool pool(5);
  for (kv::block_id id = 0; id < 5; ++id) {
    CHECK(pool.allocate() == id);
  }
  CHECK(pool.free() == 0);
}

TEST_CASE("kv/block_pool: a freed block is reused last") {
  kv::block_pool pool(3);
  const auto a = pool.allocate();
  const auto b = pool.allocate();
  pool.release(b);
  pool.release(a);
  CHECK(pool.allocate() == 2);
  CHECK(pool.allocate() == b);
  CHECK(pool.allocate() == a);
}

TEST_CASE("kv/block_pool: a shortage is reported with its numbers and changes nothing") {
  kv::block_pool pool(4);
  static_cast<void>(pool.allocate());
  std::array<kv::block_id, 4> four{-1, -1, -1, -1};
  try {
    pool.allocate(four);
    FAIL("four of three blocks were handed out");
  } catch (const kv::out_of_blocks& error) {
    CHECK(error.requested == 4);
    CHECK(error.free == 3);
    CHECK(std::string(error.what()) == "ashlar::kv: 4 blocks requested, 3 free");
  }
  CHECK(four == std::array<kv::block_id, 4>{-1, -1, -1, -1});
  CHECK(pool.free() == 3);
  CHECK(pool.allocate() == 1);
}

TEST_CASE("kv/block_pool: an empty pool has no block to give") {
  kv::block_pool pool(0);
  CHECK_THROWS_AS(static_cast<void>(pool.allocate()), kv::out_of_blocks);
  CHECK_NOTHROW(pool.allocate(std::span<kv::block_id>{}));
  CHECK_THROWS_AS(kv::block_pool(-1), ashlar::argument_error);
}

TEST_CASE("kv/block_pool: a block lives until its last reference goes") {
  kv::block_pool pool(2);
  const auto id = pool.allocate();
  pool.share(id);
  CHECK(pool.any_shared());
  pool.release(id);
  CHECK_FALSE(pool.any_shared());
  CHECK(pool.references(id) == 1);
  CHECK(pool.used() == 1);
  pool.release(id);
  CHECK(pool.used() == 0);
  CHECK_THROWS_AS(pool.release(id), ashlar::argument_error);
  CHECK_THROWS_AS(pool.share(id), ashlar::argument_error);
  CHECK_THROWS_AS(pool.release(2), ashlar::argument_error);
  CHECK_THROWS_AS(pool.release(-1), ashlar::argument_error);
  CHECK(pool.free() == 2);
}

TEST_CASE("kv/block_pool: the null block is never handed out, shared or released") {
  kv::block_pool pool(3, {.null_block = true});
  CHECK(pool.size() == 3);
  CHECK(pool.capacity() == 2);
  CHECK(pool.allocate() == 1);
  CHECK(pool.allocate() == 2);
  CHECK_THROWS_AS(static_cast<void>(pool.allocate()), kv::out_of_blocks);
  CHECK_THROWS_AS(pool.share(kv::block_pool::null_block), ashlar::argument_error);
  try {
    pool.release(0);
    FAIL("the null block was released");
  } catch (const ashlar::argument_error& e) {
    CHECK(e.reason == "block 0 is the null block");
  }
  CHECK_THROWS_AS(kv::block_pool(0, {.null_block = true}), ashlar::argument_error);
  CHECK_NOTHROW(pool.validate());
}

TEST_CASE("kv/block_pool: a kept block comes back from the middle of the list, until it is taken") {
  for (const auto order : {kv::free_order::oldest_first, kv::free_order::empty_first}) {
    kv::block_pool pool(4, {.order = order});
    for (int i = 0; i < 4; ++i) {
      static_cast<void>(pool.allocate());
    }
    pool.keep(0);
    pool.keep(2);
    for (const int id : {0, 1, 2, 3}) {
      pool.release(id);
    }
    CHECK_THROWS_AS(pool.keep(1), ashlar::argument_error);
    CHECK_THROWS_AS(pool.reuse(1), ashlar::argument_error);
    pool.reuse(2);
    CHECK(pool.references(2) == 1);
    CHECK(pool.free() == 3);
    pool.reuse(2);
    CHECK(pool.references(2) == 2);
    pool.validate();
    // In order of age 0, 1, 3; or first those that nobody may come back for.
    const std::vector<kv::block_id> expected = order == kv::free_order::oldest_first
                                                   ? std::vector<kv::block_id>{0, 1, 3}
                                                   : std::vector<kv::block_id>{1, 3, 0};
    for (const kv::block_id id : expected) {
      CHECK(pool.allocate() == id);
    }
    CHECK_FALSE(pool.kept(0));
    CHECK(pool.evictions() == 1);
    CHECK_THROWS_AS(pool.reuse(0), ashlar::argument_error);
    pool.forget(2);
    CHECK_THROWS_AS(pool.reuse(2), ashlar::argument_error);
    pool.validate();
  }
}

TEST_CASE("kv/block_pool: a free block that is forgotten goes before the kept ones") {
  kv::block_pool pool(2, {.order = kv::free_order::empty_first});
  for (const int id : {0, 1}) {
    static_cast<void>(pool.allocate());
    pool.keep(id);
  }
  pool.release(0);
  pool.release(1);
  pool.forget(1);
  pool.validate();
  CHECK(pool.free() == 2);
  CHECK(pool.allocate() == 1);
}

TEST_CASE("kv/block_pool: newcomers leave the watermark free, and what never fits is told") {
  const kv::block_pool pool(200, {.watermark = 10});
  CHECK(pool.watermark() == 2);
  CHECK(pool.admit(198) == kv::admission::now);
  CHECK(pool.admit(199) == kv::admission::never);
  kv::block_pool busy(200, {.watermark = 10});
  std::vector<kv::block_id> ids(100);
  busy.allocate(ids);
  CHECK(busy.admit(98) == kv::admission::now);
  CHECK(busy.admit(99) == kv::admission::later);
  ids.resize(100);
  CHECK_NOTHROW(busy.allocate(ids));  // who is in may take the rest
  CHECK(kv::block_pool(10).admit(10) == kv::admission::now);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(pool.admit(0) == kv::admission::now);
  CHECK(pool.admit(most) == kv::admission::never);
  for (const std::int64_t below : {std::int64_t{-1}, -most - 1}) {
    CHECK_THROWS_AS(static_cast<void>(pool.admit(below)), ashlar::argument_error);
  }
  CHECK_THROWS_AS(kv::block_pool(1, {.watermark = 1001}), ashlar::argument_error);
}

TEST_CASE("kv/block_pool: it agrees with a queue and a list of counts on random calls") {
  constexpr kv::block_id blocks = 13;
  kv::block_pool pool(blocks);
  std::deque<kv::block_id> queue;
  std::vector<int> counts(blocks, 0);
  for (kv::block_id id = 0; id < blocks; ++id) {
    queue.push_back(id);
  }
  std::mt19937 random(7);
  std::int64_t peak = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto id = static_cast<kv::block_id>(random() % blocks);
    int& count = counts[static_cast<std::size_t>(id)];
    switch (random() % 3) {
      case 0:
        if (queue.empty()) {
          CHECK_THROWS_AS(static_cast<void>(pool.allocate()), kv::out_of_blocks);
        } else {
          REQUIRE(pool.allocate() == queue.front());
          counts[static_cast<std::size_t>(queue.front())] = 1;
          queue.pop_front();
        }
        break;
      case 1:
        if (count > 0 && count < 3) {
          pool.share(id);
          ++count;
        }
        break;
      default:
        if (count > 0) {
          pool.release(id);
          if (--count == 0) {
            queue.push_back(id);
          }
        }
    }
    const auto used = blocks - static_cast<std::int64_t>(queue.size());
    peak = std::max(peak, used);
    REQUIRE(pool.used() == used);
    REQUIRE(pool.references(id) == count);
    pool.validate();
  }
  CHECK(pool.peak_used() == peak);
}
