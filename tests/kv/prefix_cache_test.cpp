// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/prefix_cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ashlar/kv/policies.hpp"

namespace kv = ashlar::kv;
using text = std::vector<kv::token>;

namespace {

using pages = kv::vllm_v1<2>;
using merging = kv::paged<2, kv::prefix_cached<true>>;

/// A finished sequence, whose blocks are named and free.
template <class Cache>
std::vector<kv::block_id> leave(typename Cache::pool& pool, const text& tokens,
                                const kv::prefix_scope& scope = {}) {
  typename Cache::table table(pool, Cache::block_tokens);
  const int known = table.adopt(tokens, scope);
  table.append(static_cast<int>(tokens.size()) - known);
  table.publish(tokens, scope);
  return {table.blocks().begin(), table.blocks().end()};
}

/// As bad as a hash can be.
struct constant_hash {
  std::uint64_t operator()(std::uint64_t, std::span<const kv::token>) const { return 7; }
};

struct counting_hash : kv::prefix_hash {
  static inline int calls = 0;
  std::uint64_t operator()(std::uint64_t before, std::span<const kv::token> tokens) const {
    ++calls;
    return prefix_hash::operator()(before, tokens);
  }
};

/// Blocks of a size that each pool says.
using sized = kv::vllm_v1<kv::at_run_time>;

}  // namespace

TEST_CASE("kv/prefix_cache: blocks have the size that their pool was made with") {
  for (const int tokens : {1, 2, 3, 7}) {
    sized::pool pool(20, {.block_tokens = tokens});
    CHECK(kv::block_tokens_of<sized>(pool.options()) == tokens);
    CHECK(kv::block_tokens_of<pages>(pool.options()) == 2);
    const text prompt(15, 1);
    sized::table table(pool, tokens);
    table.append(15);
    table.publish(prompt);
    CHECK(std::ssize(pool.prefixes.find(prompt)) == 14 / tokens);
  }
  CHECK_THROWS_AS(sized::pool(20, {.block_tokens = 0}), ashlar::argument_error);
}

TEST_CASE(
    "kv/prefix_cache: a beginning is found block by block, and one token is left to compute") {
  pages::pool pool(10);
  const auto blocks = leave<pages>(pool, {1, 2, 3, 4, 5});
  CHECK(pool.used() == 0);
  const auto find = [&](const text& t) { return pool.prefixes.find(t); };
  const auto first = [&](std::ptrdiff_t n) {
    return std::vector<kv::block_id>(blocks.begin(), blocks.begin() + n);
  };
  CHECK(find({1, 2, 3, 4, 9, 9}) == first(2));
  CHECK(find({1, 2, 3, 4, 9}) == first(2));
  CHECK(find({1, 2, 3, 4}) == first(1));  // all known: the last block is computed again
  CHECK(find({1, 2, 3, 5, 6}) == first(1));
  CHECK(find({1, 2}).empty());
  CHECK(find({2, 2, 3, 4, 5}).empty());
  CHECK(find({3, 4, 5}).empty());  // known after 1, 2 only
  CHECK(find({}).empty());
  CHECK(pool.prefixes.blocks() == 2);  // the third block is not full
  pool.prefixes.validate();
}

TEST_CASE("kv/prefix_cache: adapter and salt keep texts apart") {
  pages::pool pool(10);
  leave<pages>(pool, {1, 2, 3}, {.adapter = "a", .salt = "b"});
  const text same{1, 2, 3};
  CHECK(pool.prefixes.find(same).empty());
  CHECK(pool.prefixes.find(same, {.adapter = "a"}).empty());
  CHECK(pool.prefixes.find(same, {.adapter = "ab"}).empty());
  CHECK(pool.prefixes.find(same, {.salt = "ab"}).empty());
  CHECK(pool.prefixes.find(same, {.adapter = "a", .salt = "b"}).size() == 1);
  pool.prefixes.validate();
}

TEST_CASE("kv/prefix_cache: a hit shares blocks with who runs, and revives those of who is gone") {
  pages::pool pool(10);
  const text prompt{1, 2, 3, 4, 5};
  pages::table running(pool, 2);
  CHECK(running.adopt(prompt) == 0);
  running.append(5);
  running.publish(prompt);
  pages::table second(pool, 2);
  CHECK(second.adopt(prompt) == 4);
  CHECK(second.blocks_needed(1) == 1);
  CHECK_FALSE(second.append(1).has_value());
  CHECK(pool.used() == 4);
  CHECK(pool.references(second.blocks()[0]) == 2);
  running.truncate(0);
  second.truncate(0);
  CHECK(pool.used() == 0);
  CHECK(second.adopt(prompt) == 4);
  CHECK(pool.prefixes.statistics().asked == 10);  // a table counts once
  CHECK(pool.prefixes.statistics().hit_rate() == 0.4);
  CHECK_THROWS_AS(second.adopt(prompt), ashlar::argument_error);
}

TEST_CASE("kv/prefix_cache: the tails of the oldest texts are evicted first") {
  pages::pool pool(7);  // six to hand out
  leave<pages>(pool, {1, 1, 2, 2, 3, 3});
  leave<pages>(pool, {5, 5, 6, 6, 7, 7});
  const auto known = [&](const text& t) { return pool.prefixes.find(t).size(); };
  pages::table table(pool, 2);
  table.append(2);
  CHECK(known({1, 1, 2, 2, 3, 3, 0}) == 2);
  table.append(2);
  CHECK(known({1, 1, 2, 2, 3, 3, 0}) == 1);
  CHECK(known({5, 5, 6, 6, 7, 7, 0}) == 3);
  table.append(6);
  CHECK(known({1, 1, 0}) == 0);
  CHECK(known({5, 5, 6, 6, 7, 7, 0}) == 1);
  CHECK(pool.evictions() == 5);
  CHECK(pool.prefixes.blocks() == 1);
  pool.prefixes.validate();
}

TEST_CASE("kv/prefix_cache: drafts are not named, and a named block is not overwritten") {
  pages::pool pool(10);
  pages::table table(pool, 2);
  const text certain{1, 2, 3};
  table.append(3, 3);
  table.publish(certain);
  CHECK(pool.prefixes.blocks() == 1);
  table.append(1);
  table.publish(text{1, 2, 3, 4});
  CHECK(pool.prefixes.blocks() == 2);
  table.truncate(3);
  const auto copy = table.append(1);
  REQUIRE(copy.has_value());
  table.publish(text{1, 2, 3, 9});
  CHECK(pool.prefixes.find(text{1, 2, 3, 4, 0}).back() == copy->from);
  CHECK(pool.prefixes.find(text{1, 2, 3, 9, 0}).back() == copy->to);
  CHECK_THROWS_AS(table.publish(text{1, 2, 3, 9, 9}), ashlar::argument_error);
  pool.prefixes.validate();
}

TEST_CASE("kv/prefix_cache: blocks of one content stay two, or are made one") {
  const text prompt{1, 2, 3, 4};
  const auto two_at_once = [&]<class Cache>(Cache) {
    typename Cache::pool pool(10);
    typename Cache::table a(pool, 2);
    typename Cache::table b(pool, 2);
    a.append(4);
    b.append(4);
    a.publish(prompt);
    b.publish(prompt);
    pool.validate();
    pool.prefixes.validate();
    CHECK(pool.prefixes.find(text{1, 2, 3, 4, 5}).size() == 2);
    CHECK(std::ranges::equal(a.blocks(), b.blocks()) == (pool.used() == 2));
    return pool.used();
  };
  CHECK(two_at_once(pages{}) == 4);
  CHECK(two_at_once(merging{}) == 2);
}

TEST_CASE("kv/prefix_cache: a table of another pool is refused") {
  kv::block_pool pool(4), other(4);
  kv::prefix_cache<> cache(pool, 2);
  kv::block_table here(pool, 2), there(other, 2);
  here.append(2);
  there.append(2);
  const text tokens{1, 2};
  CHECK_THROWS_AS(cache.publish(there, tokens), ashlar::argument_error);
  CHECK(cache.blocks() == 0);
  CHECK(cache.publish(here, tokens) == 1);
}

TEST_CASE("kv/prefix_cache: clear forgets the names, not the blocks") {
  pages::pool pool(10);
  pages::table table(pool, 2);
  table.append(5);
  table.publish(text{1, 2, 3, 4, 5});
  leave<pages>(pool, {7, 7, 8, 8});
  pool.prefixes.clear();
  CHECK(pool.prefixes.blocks() == 0);
  CHECK(pool.prefixes.find(text{1, 2, 3}).empty());
  CHECK(pool.used() == 3);
  table.append(1);
  table.publish(text{1, 2, 3, 4, 5, 6});  // all of it again
  CHECK(pool.prefixes.blocks() == 3);
  pool.validate();
  pool.prefixes.validate();
}

TEST_CASE("kv/prefix_cache: names live as long as something that follows them") {
  using windowed = kv::paged<2, kv::sliding_window<2>, kv::prefix_cached<>>;
  windowed::pool pool(4);
  windowed::table table(pool, 2);
  text tokens;
  for (int t = 0; t < 12; ++t) {  // through three blocks
    tokens.push_back(t);
    table.append(1);
    table.publish(tokens);
    table.slide();
    pool.validate();
    pool.prefixes.validate();
  }
  CHECK(table.dropped() == 10);
  CHECK(pool.used() == 1);
  CHECK(pool.prefixes.find(tokens).empty());  // the first block has gone to others
  table.truncate(0);
  pool.prefixes.clear();
  pool.prefixes.validate();
}

TEST_CASE(
    "kv/prefix_cache: a look-up that comes again finds what is there now and hashes the rest") {
  kv::block_pool pool(24);
  kv::prefix_cache<counting_hash> cache(pool, 2);
  std::mt19937 random(9);
  const auto draw = [&random] {
    text tokens(8 + random() % 9);
    std::ranges::generate(tokens, [&] { return static_cast<kv::token>(random() % 2); });
    return tokens;
  };
  struct waiting {
    text tokens;
    kv::prefix_scope scope;
    kv::prefix_cache<counting_hash>::trail trail{};
  };
  std::vector<waiting> line;
  for (int i = 0; i < 8; ++i) {
    line.push_back({draw(), {.salt = i % 2 == 0 ? "x" : ""}});
  }
  std::size_t found = 0;
  for (int i = 0; i < 3000; ++i) {
    waiting& w = line[random() % line.size()];
    const auto hits = cache.find(w.tokens, w.scope);
    REQUIRE(hits == cache.find(w.tokens, w.scope, w.trail));
    const int before = counting_hash::calls;
    REQUIRE(hits == cache.find(w.tokens, w.scope, w.trail));
    CHECK(counting_hash::calls - before <= 1);  // of the block that is not known
    found += hits.size();
    if (random() % 200 == 0) {
      cache.clear();
    } else if (random() % 4 == 0) {  // another text for the same trail
      w.tokens = draw();
      std::swap(w.scope, line[random() % line.size()].scope);
    } else {
      kv::block_table table(pool, 2);
      table.adopt(hits);
      table.append(static_cast<int>(w.tokens.size()) - table.tokens());
      cache.publish(table, w.tokens, w.scope, hits.size());
    }
  }
  CHECK(found > 500);
  CHECK(pool.evictions() > 100);
}

TEST_CASE("kv/prefix_cache: a hash under which everything collides finds the same texts") {
  kv::block_pool good_pool(24);
  kv::block_pool bad_pool(24);
  kv::prefix_cache<> good(good_pool, 2);
  kv::prefix_cache<constant_hash> bad(bad_pool, 2);
  std::mt19937 random(3);
  std::size_t found = 0;
  for (int i = 0; i < 3000; ++i) {
    text tokens(1 + random() % 9);
    std::ranges::generate(tokens, [&] { return static_cast<kv::token>(random() % 3); });
    const kv::prefix_scope scope{.salt = random() % 2 == 0 ? "x" : ""};
    const auto hits = good.find(tokens, scope);
    REQUIRE(hits == bad.find(tokens, scope));
    found += hits.size();
    const auto serve = [&](kv::block_pool& pool, auto& cache) {
      kv::block_table table(pool, 2);
      table.adopt(hits);
      table.append(static_cast<int>(tokens.size()) - table.tokens());
      cache.publish(table, tokens, scope, hits.size());
    };
    serve(good_pool, good);
    serve(bad_pool, bad);
    good.validate();
    bad.validate();
  }
  CHECK(found > 500);
  CHECK(good_pool.evictions() > 100);
}
