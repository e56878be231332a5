// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/analysis.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_pass.hpp"
#include "support/tile_random.hpp"

namespace {

namespace tile = ashlar::tile;
using ashlar::dtype;
using tile::builder;
using tile::index_facts;
using tile::opcode;
using tile::program;
using tile::tile_type;
using tile::value_id;

/// Index arithmetic by chance: scalars, tiles, all integer types, wrapping where it happens.
program random_indices(std::uint64_t seed) {
  tile_test::dice dice(seed);
  builder b("indices");
  b.add_parameter({.element = dtype::int32, .rank = 2});
  std::vector<value_id> pool{
      b.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type}),
      b.emit({.op = opcode::extent, .index = 0, .value = 1, .type = tile::index_type}),
      b.index(dice.between(-70, 70)),
      b.index(static_cast<std::int64_t>(std::uint64_t{1} << dice.between(0, 63)))};
  const auto random_element = [&] {
    return dice.one_of({dtype::int64, dtype::int64, dtype::int32, dtype::int8, dtype::uint8});
  };
  const auto pick = [&] {
    const int n = static_cast<int>(pool.size());
    return pool[static_cast<std::size_t>(std::max(dice.between(0, n - 1), dice.between(0, n - 1)))];
  };
  const auto as = [&](value_id x, const tile_type& t) {
    x = b.type_of(x).element == t.element ? x : b.cast(x, t.element);
    if (!broadcasts_to(b.type_of(x), t)) {
      x = b.cast(pool[static_cast<std::size_t>(dice.between(0, 3))], t.element);
    }
    return b.broadcast(x, t);
  };
  for (int k = 0; k < 14; ++k) {
    const value_id x = pick();
    const tile_type t = b.type_of(x);
    const bool wide = t.rank == 2;
    switch (dice.between(0, 9)) {
      case 0: {
        const tile_type to(dice.one_of({dtype::int64, dtype::int32}),
                           {dice.one_of({1, 2, 6}), dice.one_of({1, 4, 8})});
        pool.push_back(b.emit({.op = opcode::iota, .index = dice.between(0, 1), .type = to}));
        break;
      }
      case 1:
        pool.push_back(b.cast(x, random_element()));
        break;
      case 2:
        pool.push_back(as(x, {t.element, {2, dice.one_of({4, 8})}}));
        break;
      case 3:
        if (wide) {
          pool.push_back(b.transpose(x, std::array{1, 0}));
        }
        break;
      case 4:
        if (wide) {
          pool.push_back(b.reshape(x, dice.chance(50)
                                          ? tile_type(t.element, {1, t.extent(0), 1, t.extent(1)})
                                          : tile_type(t.element, {t.extent(0) * t.extent(1)})));
        }
        break;
      case 5:
        if (wide && t.extent(1) % 2 == 0) {
          tile_type half = t;
          half.extents[1] /= 2;
          pool.push_back(
              b.emit({.op = opcode::split, .index = dice.between(0, 1), .type = half}, {x}));
          pool.push_back(b.emit({.op = opcode::join, .type = t}, {pool.back(), as(pick(), half)}));
        }
        break;
      case 6:
        pool.push_back(b.select(b.binary(opcode::less, x, as(pick(), t)), x, as(pick(), t)));
        break;
      default: {
        const opcode op =
            dice.one_of({opcode::add, opcode::add, opcode::sub, opcode::mul, opcode::mul,
                         opcode::div, opcode::rem, opcode::min, opcode::max, opcode::bit_and,
                         opcode::bit_or, opcode::bit_xor, opcode::shift_left, opcode::shift_right});
        const value_id y =
            dice.chance(50)
                ? b.broadcast(b.constant(t.element, dice.one_of({0, 1, 2, 3, 4, 6, 16, -1, -8})), t)
                : as(pick(), t);
        pool.push_back(dice.chance(70) ? b.binary(op, x, y) : b.binary(op, y, x));
        break;
      }
    }
  }
  return b.finish();
}

/// Adds a `require` for everything that the analysis says of value `v`.
void require_facts(tile::passes::rewriter& out, value_id v, const index_facts& f) {
  const tile_type t = out.so_far().type_of(v);
  const auto all_of = [&](std::int64_t x) {
    const value_id c =
        out.emit({.op = opcode::constant, .value = x, .type = tile::scalar_type(t.element)});
    return out.emit({.op = opcode::broadcast, .type = t}, {c});
  };
  const auto binary = [&](opcode op, value_id a, value_id b) {
    const bool compares = tile::info(op).kind == tile::opcode_kind::compare;
    return out.emit({.op = op, .type = compares ? t.with(dtype::boolean) : t}, {a, b});
  };
  const auto require = [&](int number, value_id holds) {
    out.emit({.op = opcode::require, .index = number}, {holds});
  };
  require(1, binary(opcode::less_equal, all_of(f.low), v));
  require(2, binary(opcode::less_equal, v, all_of(f.high)));
  // Without what the strides add, the value is the same along the axes that have one.
  value_id base = v;
  for (int a = 0; a < t.rank; ++a) {
    if (f.has_stride[static_cast<std::size_t>(a)]) {
      const value_id wide =
          out.emit({.op = opcode::iota, .index = a, .type = t.with(dtype::int64)});
      const value_id places = out.emit({.op = opcode::cast, .type = t}, {wide});
      const value_id step = all_of(f.stride[static_cast<std::size_t>(a)]);
      base = binary(opcode::sub, base, binary(opcode::mul, places, step));
    }
  }
  const int width = 8 * static_cast<int>(size_of(t.element)) - 1;
  const auto mask =
      static_cast<std::int64_t>((std::uint64_t{1} << std::min<int>(f.zeros, width)) - 1);
  require(3, binary(opcode::equal, binary(opcode::bit_and, base, all_of(mask)), all_of(0)));
  for (int a = 0; a < t.rank; ++a) {
    if (!f.has_stride[static_cast<std::size_t>(a)]) {
      continue;
    }
    value_id ends[2];
    for (int k = 0; k < 2; ++k) {
      const opcode op = k == 0 ? opcode::min : opcode::max;
      const tile_type s = tile::scalar_type(t.element);
      const value_id owner = out.emit({.op = opcode::reduce, .index = a}, {base});
      const value_id left = out.emit({.op = opcode::region_input, .index = 0, .type = s});
      const value_id right = out.emit({.op = opcode::region_input, .index = 1, .type = s});
      out.emit({.op = opcode::yield}, {out.emit({.op = op, .type = s}, {left, right})});
      ends[k] = out.emit({.op = opcode::result, .type = t.without(a)}, {owner});
    }
    require(4, out.emit({.op = opcode::equal, .type = t.without(a).with(dtype::boolean)},
                        {ends[0], ends[1]}));
  }
}

/// Runs a program of `random_indices`' kind up to value `v` with what is said of it required.
/// Returns: what failed; nothing, where it holds.
std::string violation(const program& p, value_id v, const index_facts& f) {
  tile::passes::rewriter out(p);
  for (int i = 0; i <= v; ++i) {
    out.copy(i);
  }
  require_facts(out, out[v], f);
  tile::expect_valid(out.finish());
  std::vector<std::int32_t> memory(21);
  const std::array<std::int64_t, 2> shape{3, 7};
  const std::array<std::int64_t, 2> stride{7, 1};
  const std::array arguments{tile::argument(memory.data(), shape, stride)};
  try {
    tile::interpret(out.finish(), {3, 1, 1}, arguments);
  } catch (const tile::execution_error& e) {
    return std::string(e.what()) + "\n" + print(out.finish());
  }
  return {};
}

program read(const std::string& body) {
  return tile_test::read("kernel \"k\"(p0: f32[?, ?], p1: f32[?, ?] written) {" + body + "}");
}

}  // namespace

TEST_CASE("tile/analysis: what is said of random index arithmetic holds when it runs") {
  int strided = 0;
  int multiples = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const program p = random_indices(seed);
    REQUIRE(verify(p));
    const auto facts = tile::analyse_indices(p);
    // One value after the other, since a program has room for a few checks only.
    for (int v = 0; v < p.size; ++v) {
      const tile_type& t = p.type_of(v);
      if (!t.is_value() || t.element == dtype::boolean) {
        continue;
      }
      const index_facts& f = at(facts, v);
      strided += t.rank > 0 && f.has_stride[static_cast<std::size_t>(t.rank - 1)] ? 1 : 0;
      multiples += f.zeros > 0 ? 1 : 0;
      const std::string wrong = violation(p, static_cast<value_id>(v), f);
      if (!wrong.empty()) {
        FAIL("seed " << seed << ", value " << v << ": " << wrong);
      }
    }
  }
  CHECK(strided > 3000);
  CHECK(multiples > 3000);
}

TEST_CASE("tile/analysis: rows of a kernel begin at multiples of their block") {
  const program p = read(R"(
    %0 = program_id axis=0 : i64
    %1 = constant 64 : i64
    %2 = mul %0, %1 : i64
    %3 = constant 0 : i64
    %4 = extent p0, axis=1 : i64
    %5 = constant 24 : i64
    loop %3, %4, %5 (%6: i64) {
      %7 = load p0, %2, %6 : f32[48]
      %8 = add %6, %1 : i64
      store p1, %7, %2, %8
      yield
    })");
  const auto facts = tile::analyse_indices(p);
  CHECK(at(facts, 2).zeros == 6);
  CHECK(at(facts, 7).low == 0);
  const auto width = [&](opcode op, int most) {
    for (int i = 0; i < p.size; ++i) {
      if (p.at(i).op == op) {
        return tile::access_width(p, facts, i, most);
      }
    }
    return 0;
  };
  CHECK(width(opcode::load, 64) == 8);  // 24 = 3 * 8, 48 = 3 * 16
  CHECK(width(opcode::load, 4) == 4);
  CHECK(width(opcode::store, 64) == 8);
}

TEST_CASE("tile/analysis: a gather of neighbours may be taken at once, others may not") {
  builder b("gather");
  b.add_parameter({.element = dtype::float32, .rank = 2});
  const tile_type t(dtype::int64, {4, 16});
  const auto id = b.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
  const auto row = b.emit({.op = opcode::iota, .index = 0, .type = t});
  const auto column = b.emit({.op = opcode::iota, .index = 1, .type = t});
  const auto first = b.broadcast(b.binary(opcode::mul, id, b.index(8)), t);
  const auto near = b.binary(opcode::add, first, column);
  const auto shifted = b.binary(opcode::add, near, b.broadcast(b.index(2), t));
  const auto twice = b.binary(opcode::add, column, column);
  const auto skewed = b.binary(opcode::add, near, row);
  const auto gather = [&](value_id i, value_id j) {
    return b.emit({.op = opcode::gather, .index = 0, .type = t.with(dtype::float32)}, {i, j});
  };
  const std::array places{gather(row, near),  gather(id, near),  gather(row, shifted),
                          gather(row, twice), gather(near, row), gather(column, near),
                          gather(row, skewed)};
  const std::array widths{8, 8, 2, 1, 1, 1, 1};
  const program p = b.finish();
  const auto facts = tile::analyse_indices(p);
  for (std::size_t k = 0; k < places.size(); ++k) {
    INFO(k);
    CHECK(tile::access_width(p, facts, places[k], 64) == widths[k]);
  }
}

TEST_CASE("tile/analysis: a narrow type that wraps is no straight line in a wider one") {
  for (const int factor : {1, 15, 32, 64}) {
    for (const dtype narrow : {dtype::int8, dtype::uint8, dtype::int32}) {
      builder b("wraps");
      b.add_parameter({.element = dtype::int32, .rank = 2});
      const tile_type t(dtype::int64, {2, 16});
      const auto places = b.emit({.op = opcode::iota, .index = 1, .type = t});
      const auto small = b.cast(places, narrow);
      const auto line =
          b.binary(opcode::mul, small, b.broadcast(b.constant(narrow, factor), b.type_of(small)));
      const auto wide = b.cast(line, dtype::int64);
      const program p = b.finish();
      const auto facts = tile::analyse_indices(p);
      const std::int64_t most = narrow == dtype::int8 ? 127 : narrow == dtype::uint8 ? 255 : 1000;
      CHECK(at(facts, wide).has_stride[1] == (15 * factor <= most));
      CHECK(at(facts, wide).repeats(0));
      CHECK(violation(p, wide, at(facts, wide)) == "");
    }
  }
}
