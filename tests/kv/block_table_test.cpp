// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/block_table.hpp"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <limits>
#include <random>
#include <set>
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
  CHECK(usage == kv::usage{64, 48});
  CHECK(usage.waste() == 0.25);
}
