// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/swap.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/kv/usage.hpp"

namespace kv = ashlar::kv;

TEST_CASE("kv/swap: shared blocks move once and are shared again") {
  kv::block_pool pool(6);
  kv::swap_space host(pool, 4);
  kv::block_table a(pool, 2);
  a.append(3);
  kv::block_table b = a.fork();
  REQUIRE(b.append(1, 3).has_value());  // a: 0 1, b: 0 2, and two blocks for drafts
  CHECK(pool.used() == 5);
  const std::array<kv::block_table*, 2> both{&a, &b};
  CHECK(kv::swap_space::blocks_needed(both) == 3);

  std::vector<kv::block_copy> copies;
  host.out(both, copies);
  CHECK(pool.used() == 0);
  CHECK(host.host().used() == 3);
  CHECK(host.host().total_references() == 4);
  CHECK(copies.size() == 3);
  for (const kv::block_copy& c : copies) {
    CHECK(c.from_place == kv::tier::device);
    CHECK(c.to_place == kv::tier::host);
  }
  CHECK(a.swapped());
  CHECK(a.blocks()[0] == b.blocks()[0]);
  CHECK(a.blocks()[1] != b.blocks()[1]);
  CHECK_THROWS_AS(a.append(1), ashlar::argument_error);
  CHECK_THROWS_AS(host.out(both, copies), ashlar::argument_error);

  CHECK(host.can_return(both) == kv::admission::now);
  CHECK(host.can_return(both, 4) == kv::admission::never);
  CHECK(host.can_return(both, std::numeric_limits<std::int64_t>::max()) == kv::admission::never);
  CHECK_THROWS_AS(static_cast<void>(host.can_return(both, -1)), ashlar::argument_error);
  kv::block_table other(pool, 2);
  other.append(8);
  CHECK(host.can_return(both) == kv::admission::later);
  try {
    host.in(both, copies);
    FAIL("three blocks in two");
  } catch (const kv::out_of_blocks& e) {
    CHECK(e.requested == 3);
    CHECK(e.free == 2);
  }
  CHECK(a.swapped());
  other.truncate(4);
  copies.clear();
  host.in(both, copies);
  CHECK(copies.size() == 3);
  CHECK(copies[0].to_place == kv::tier::device);
  CHECK(host.host().used() == 0);
  CHECK(pool.references(a.blocks()[0]) == 2);
  CHECK_FALSE(a.append(1).has_value());
  CHECK(a.tokens() == 4);
}

TEST_CASE("kv/swap: a host that is full changes nothing, and its shortage says so") {
  kv::block_pool pool(4);
  kv::swap_space host(pool, 1);
  kv::block_table a(pool, 2);
  a.append(4);
  const std::array<kv::block_table*, 1> one{&a};
  std::vector<kv::block_copy> copies;
  try {
    host.out(one, copies);
    FAIL("two blocks in one");
  } catch (const kv::out_of_blocks& e) {
    CHECK(std::string(e.what()) == "ashlar::kv: 2 host blocks requested, 1 free");
  }
  CHECK(copies.empty());
  CHECK_FALSE(a.swapped());
  CHECK(pool.used() == 2);
  const std::array<kv::block_table*, 2> twice{&a, &a};
  CHECK_THROWS_AS(host.out(twice, copies), ashlar::argument_error);
  CHECK_THROWS_AS(host.in(one, copies), ashlar::argument_error);
  CHECK_THROWS_AS(kv::swap_space(pool, -1), ashlar::argument_error);
  kv::block_pool with_null(2, {.null_block = true});
  for (const kv::block_id blocks : {-1, std::numeric_limits<kv::block_id>::max()}) {
    CHECK_THROWS_AS(kv::swap_space(with_null, blocks), ashlar::argument_error);
  }
}

TEST_CASE("kv/swap: a sequence whose copy failed comes home empty") {
  kv::block_pool pool(2);
  kv::swap_space host(pool, 2);
  kv::block_table a(pool, 2);
  a.append(4);
  const std::array<kv::block_table*, 1> one{&a};
  std::vector<kv::block_copy> copies;
  host.out(one, copies);
  kv::block_table greedy(pool, 2);
  greedy.append(4);
  a.truncate(0);
  CHECK(host.host().used() == 0);
  host.in(one, copies);  // needs nothing, so a full device is no matter
  CHECK_FALSE(a.swapped());
  greedy.truncate(0);
  a.append(4);
  CHECK(a.tokens() == 4);
}

TEST_CASE("kv/swap: tokens before a window have nothing to move") {
  using cache = kv::paged<2, kv::sliding_window<2>, kv::swap_to_host>;
  cache::pool pool(6, {.host_blocks = 2});
  cache::table a(pool, 2);
  a.append(7);
  a.slide();  // tokens 0 to 5, of which three blocks' worth
  CHECK(a.dropped() == 6);
  const std::array<kv::block_table*, 1> one{&a};
  std::vector<kv::block_copy> copies;
  pool.host.out(one, copies);
  CHECK(copies == std::vector<kv::block_copy>{{4, 1, kv::tier::device, kv::tier::host}});
  CHECK(a.blocks()[0] == kv::block_pool::null_block);
  const std::array<kv::block_table*, 0> none{};
  CHECK_NOTHROW(pool.host.in(none, copies));
  pool.host.in(one, copies);
  CHECK_FALSE(a.append(1).has_value());
  CHECK(pool.used() == 1);
}
