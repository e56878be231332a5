// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/block_table.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/usage.hpp"

namespace kv = ashlar::kv;

static_assert(kv::CachePolicy<kv::paged<16>>);
static_assert(kv::CachePolicy<kv::contiguous<2048>>);
static_assert(kv::blocks_for(0, 4) == 0 && kv::blocks_for(4, 4) == 1 && kv::blocks_for(5, 4) == 2);

namespace {
struct counting {
  template <class Base>
  struct apply : Base {
    static constexpr int extra = 3;
  };
};
std::vector<kv::block_id> ids(const kv::block_table& table) {
  return {table.blocks().begin(), table.blocks().end()};
}
}  // namespace

static_assert(kv::paged<8, counting>::extra == 3);

TEST_CASE("kv/block_table: a block is taken when a token needs it and not before") {
  kv::block_pool pool(4);
  kv::block_table table(pool, 3);
  CHECK(table.blocks_needed(0) == 0);
  for (int token = 0; token < 12; ++token) {
    CHECK(table.blocks_needed(1) == (token % 3 == 0 ? 1 : 0));
    CHECK_FALSE(table.append(1).has_value());
    CHECK(pool.used() == token / 3 + 1);
    CHECK(table.slot(token) == token);  // the only user of a new pool gets it in order
  }
  CHECK_THROWS_AS(static_cast<void>(table.slot(12)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(table.slot(-1)), ashlar::argument_error);
}

TEST_CASE("kv/block_table: a shortage changes neither table nor pool") {
  kv::block_pool pool(3);
  kv::block_table table(pool, 2);
  table.append(3);
  try {
    table.append(4);
    FAIL("seven tokens in six places");
  } catch (const kv::out_of_blocks& error) {
    CHECK(error.requested == 2);
    CHECK(error.free == 1);
  }
  CHECK(table.tokens() == 3);
  CHECK(pool.used() == 2);
  CHECK_THROWS_AS(table.append(-1), ashlar::argument_error);
  CHECK_THROWS_AS(table.append(std::numeric_limits<int>::max()), ashlar::argument_error);
  table.append(3);
  CHECK(table.tokens() == 6);
  CHECK_THROWS_AS(kv::block_table(pool, 0), ashlar::argument_error);
}

TEST_CASE("kv/block_table: blocks go back in reverse order") {
  kv::block_pool pool(3);
  {
    kv::block_table table(pool, 1);
    table.append(3);
    table.truncate(2);
    CHECK(table.tokens() == 2);
    CHECK(pool.free() == 1);
    CHECK_THROWS_AS(table.truncate(3), ashlar::argument_error);
  }
  CHECK(pool.allocate() == 2);
  CHECK(pool.allocate() == 1);
  CHECK(pool.allocate() == 0);
}

TEST_CASE("kv/block_table: a moved table takes its blocks along") {
  kv::block_pool pool(4);
  kv::block_table a(pool, 2);
  a.append(4);
  kv::block_table b(std::move(a));
  CHECK(b.tokens() == 4);
  kv::block_table c(pool, 2);
  c.append(1);
  c = std::move(b);
  CHECK(c.tokens() == 4);
  CHECK(pool.used() == 2);
}

TEST_CASE("kv/block_table: a fork shares full blocks and copies a half-filled one when it writes") {
  kv::block_pool pool(5);
  kv::block_table parent(pool, 4);
  parent.append(6);
  kv::block_table child = parent.fork();
  CHECK(pool.used() == 2);
  CHECK(ids(child) == ids(parent));

  CHECK(child.blocks_needed(1) == 1);
  const auto copy = child.append(1);
  REQUIRE(copy.has_value());
  CHECK(copy->from == 1);
  CHECK(copy->to == 2);
  CHECK(ids(child) == std::vector<kv::block_id>{0, 2});
  CHECK(ids(parent) == std::vector<kv::block_id>{0, 1});
  CHECK_FALSE(parent.append(1).has_value());  // alone again

  kv::block_table other = parent.fork();
  const auto long_copy = other.append(5);  // fills the copy, and takes one more block
  REQUIRE(long_copy.has_value());
  CHECK(ids(other) == std::vector<kv::block_id>{0, 3, 4});
  CHECK(pool.free() == 0);

  kv::block_table third = parent.fork();
  CHECK_THROWS_AS(third.append(1), kv::out_of_blocks);
  CHECK(ids(third) == ids(parent));
}

TEST_CASE("kv/block_table: a fork at a block's end copies nothing") {
  kv::block_pool pool(3);
  kv::block_table parent(pool, 2);
  parent.append(2);
  kv::block_table child = parent.fork();
  CHECK_FALSE(child.append(1).has_value());
  CHECK_FALSE(parent.append(1).has_value());
  CHECK(parent.slot(2) != child.slot(2));
}

TEST_CASE("kv/block_table: reserved places are taken at once and given back by truncate") {
  kv::block_pool pool(6);
  kv::block_table plain(pool, 4);
  kv::block_table drafting(pool, 4);
  plain.append(7);
  drafting.append(7);
  CHECK(drafting.blocks_needed(1, 5) == 2);
  drafting.append(1, 5);
  CHECK(drafting.tokens() == 8);
  CHECK(drafting.room() == 16);
  CHECK(drafting.slot(12) == std::int64_t{drafting.blocks()[3]} * 4);
  CHECK_THROWS_AS(static_cast<void>(drafting.slot(16)), ashlar::argument_error);
  CHECK(drafting.blocks_needed(2, 5) == 0);
  CHECK(kv::block_table(drafting.fork()).blocks().size() == 2);  // nothing reserved is shared
  drafting.append(2);                                            // two drafts were right
  CHECK(pool.used() == 6);
  drafting.truncate(8);  // they were not
  plain.append(1);
  CHECK(drafting.blocks().size() == plain.blocks().size());
  CHECK(pool.used() == 4);
  CHECK_THROWS_AS(plain.append(1, 5 * 4), kv::out_of_blocks);
  CHECK_THROWS_AS(plain.append(1, -1), ashlar::argument_error);
  CHECK_THROWS_AS(plain.append(1, std::numeric_limits<int>::max()), ashlar::argument_error);
  CHECK(plain.tokens() == 8);
}

TEST_CASE("kv/block_table: reserving in a shared block copies it, too") {
  kv::block_pool pool(4);
  kv::block_table parent(pool, 4);
  parent.append(2);
  kv::block_table child = parent.fork();
  const auto copy = child.append(0, 1);
  REQUIRE(copy.has_value());
  CHECK(*copy == kv::block_copy{0, 1});
  CHECK(child.tokens() == 2);
}

TEST_CASE("kv/block_table: a block that others may find is copied before it is written") {
  kv::block_pool pool(3);
  kv::block_table table(pool, 2);
  table.append(4);
  pool.keep(1);
  table.truncate(3);
  const auto copy = table.append(1);
  REQUIRE(copy.has_value());
  CHECK(*copy == kv::block_copy{1, 2});
  CHECK(pool.references(1) == 0);
}

TEST_CASE("kv/block_table: tokens before a window leave the null block behind") {
  kv::block_pool pool(6, {.null_block = true});
  kv::block_table table(pool, 2);
  table.append(9);
  CHECK(pool.free() == 0);
  table.drop_before(5);  // tokens 0 to 3
  CHECK(ids(table) == std::vector<kv::block_id>{0, 0, 3, 4, 5});
  CHECK(table.dropped() == 4);
  CHECK(table.slot(4) == 6);
  CHECK_THROWS_AS(static_cast<void>(table.slot(3)), ashlar::argument_error);
  table.drop_before(-3);
  table.drop_before(2);
  CHECK(table.dropped() == 4);
  CHECK(pool.allocate() == 2);  // the later one first
  CHECK(pool.allocate() == 1);
  pool.release(1);
  pool.release(2);
  const std::array<std::reference_wrapper<const kv::block_table>, 1> one{table};
  CHECK(kv::measure(pool, 2, one) == kv::usage{6, 5, 6});
  {
    const kv::block_table twin = table.fork();
    const std::array<std::reference_wrapper<const kv::block_table>, 2> two{table, twin};
    CHECK(kv::measure(pool, 2, two) == kv::usage{6, 5, 12});
    CHECK(kv::measure(pool, 2, two).sharing() == 0.5);
    CHECK_NOTHROW(kv::validate(pool, two));
  }
  CHECK_THROWS_AS(table.truncate(3), ashlar::argument_error);
  CHECK_THROWS_AS(table.drop_before(10), ashlar::argument_error);
  table.truncate(4);
  CHECK(pool.used() == 0);
  table.append(1);
  table.truncate(0);
  CHECK(table.dropped() == 0);
  table.append(1);
  CHECK(table.slot(0) > 1);

  kv::block_pool without(4);
  kv::block_table other(without, 2);
  other.append(4);
  CHECK_THROWS_AS(other.drop_before(2), ashlar::argument_error);
}

TEST_CASE("kv/block_table: adopted and exchanged blocks must be kept ones") {
  kv::block_pool pool(4);
  kv::block_table table(pool, 2);
  table.append(4);
  pool.keep(0);
  kv::block_table other(pool, 2);
  CHECK_THROWS_AS(other.adopt(table.blocks()), ashlar::argument_error);  // 1 is not
  CHECK(pool.references(0) == 1);
  other.adopt(table.blocks().first(1));
  CHECK(other.tokens() == 2);
  CHECK(pool.references(0) == 2);
  CHECK_THROWS_AS(other.adopt({}), ashlar::argument_error);
  kv::block_table third(pool, 2);
  third.append(2);
  CHECK_THROWS_AS(third.exchange(0, 1), ashlar::argument_error);
  CHECK_THROWS_AS(third.exchange(1, 0), ashlar::argument_error);
  third.exchange(0, 0);
  CHECK(pool.references(0) == 3);
  CHECK(pool.used() == 2);
}

TEST_CASE("kv/block_table: more tokens than a sequence can count are not adopted") {
  kv::block_pool pool(2);
  constexpr std::int32_t half = 1 << 30;
  kv::block_table table(pool, half);
  table.append(half);
  pool.keep(0);
  const std::array<kv::block_id, 2> both{0, 0};
  kv::block_table other(pool, half);
  CHECK_THROWS_AS(other.adopt(both), ashlar::argument_error);
  CHECK(pool.references(0) == 1);
  other.adopt(std::span(both).first(1));
  CHECK(other.tokens() == half);
}

TEST_CASE("kv/usage: validate finds a reference that no table has") {
  kv::block_pool pool(4);
  kv::block_table table(pool, 2);
  table.append(3);
  const std::array<std::reference_wrapper<const kv::block_table>, 1> one{table};
  CHECK_NOTHROW(kv::validate(pool, one));
  pool.share(1);
  CHECK_NOTHROW(pool.validate());  // by itself the pool cannot know
  try {
    kv::validate(pool, one);
    FAIL("a lost reference was not found");
  } catch (const kv::broken_invariant& e) {
    CHECK(e.rule == "a block has as many references as tables hold it");
  }
  pool.release(1);
  CHECK_NOTHROW(kv::validate(pool, one));
}

TEST_CASE("kv/block_table: no two live sequences write to one slot on random calls") {
  constexpr int block_tokens = 3;
  kv::block_pool pool(40);
  std::vector<kv::block_table> tables;
  std::mt19937 random(11);
  for (int i = 0; i < 4000; ++i) {
    const auto pick = tables.empty() ? 0 : random() % tables.size();
    switch (random() % 5) {
      case 0:
        tables.emplace_back(pool, block_tokens);
        break;
      case 1:
        if (!tables.empty()) {
          tables.push_back(tables[pick].fork());
        }
        break;
      case 2:
        if (!tables.empty()) {
          tables.erase(tables.begin() + static_cast<std::ptrdiff_t>(pick));
        }
        break;
      default:
        if (!tables.empty()) {
          auto& table = tables[pick];
          const int before = table.tokens();
          const int count = static_cast<int>(random() % 8);
          try {
            table.append(count);
          } catch (const kv::out_of_blocks&) {
            REQUIRE(table.tokens() == before);
            break;
          }
          for (int token = before; token < table.tokens(); ++token) {
            const auto block = table.blocks()[static_cast<std::size_t>(token / block_tokens)];
            REQUIRE(pool.references(block) == 1);
            REQUIRE(table.slot(token) == block * block_tokens + token % block_tokens);
          }
        }
    }
    std::set<kv::block_id> distinct;
    std::set<std::int64_t> slots;
    for (const auto& table : tables) {
      distinct.insert(table.blocks().begin(), table.blocks().end());
      for (int token = 0; token < table.tokens(); ++token) {
        slots.insert(table.slot(token));
      }
    }
    REQUIRE(pool.used() == static_cast<std::int64_t>(distinct.size()));
    const kv::usage usage = kv::measure(pool, block_tokens, tables);
    REQUIRE(usage.held == static_cast<std::int64_t>(slots.size()));
    REQUIRE(usage.slots == pool.used() * block_tokens);
  }
  tables.clear();
  CHECK(pool.used() == 0);
}

TEST_CASE("kv/usage: waste is the share of taken places that hold no token") {
  kv::block_pool pool(8);
  CHECK(kv::measure(pool, 16, std::vector<std::reference_wrapper<kv::block_table>>{}).waste() == 0);
  kv::block_table a(pool, 16);
  kv::block_table b(pool, 16);
  a.append(17);
  b.append(31);
  const std::array<std::reference_wrapper<const kv::block_table>, 2> both{a, b};
  const kv::usage usage = kv::measure(pool, 16, both);
  CHECK(usage == kv::usage{64, 48, 64});
  CHECK(usage.waste() == 0.25);
}
