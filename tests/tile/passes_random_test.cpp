// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/passes.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/random_set.hpp"
#include "support/tile_random.hpp"

namespace {

namespace tile = ashlar::tile;
namespace passes = tile::passes;
using tile::program;

/// `fma` in two roundings, so that fusing a product and a sum keeps their bits.
struct unfused_math : tile::eval::std_math {
  template <std::floating_point T>
  static T madd(T a, T b, T c) {
    const volatile T product = a * b;  // or the compiler may fuse them
    return product + c;
  }
};

/// What running a program shows: memory, and what it prints.
struct outcome {
  std::vector<std::vector<std::byte>> memory;
  std::string said;
  friend bool operator==(const outcome&, const outcome&) = default;
};

template <class Math = tile::eval::std_math>
outcome run(const program& p, std::uint64_t seed) {
  tile_test::random_launch launch(p, seed);
  std::ostringstream out;
  tile::interpret<Math>(p, launch.size, launch.arguments(), {.out = &out});
  return {launch.buffers, out.str()};
}

struct named_pass {
  const char* name;
  program (*run)(const program&);
};

/// Every pass that keeps bits.
constexpr named_pass all_passes[] = {
    {"fold_constants", [](const program& p) { return passes::fold_constants(p); }},
    {"canonicalise", [](const program& p) { return passes::canonicalise(p); }},
    {"merge_common", [](const program& p) { return passes::merge_common(p); }},
    {"remove_dead", [](const program& p) { return passes::remove_dead(p); }},
    {"hoist_invariants", [](const program& p) { return passes::hoist_invariants(p); }},
    {"unroll", [](const program& p) { return passes::unroll(p); }},
    {"unroll_by 2", [](const program& p) { return passes::unroll_by(p, 2); }},
    {"unroll_by 3", [](const program& p) { return passes::unroll_by(p, 3); }},
    {"select_to_min_max", [](const program& p) { return passes::select_to_min_max(p); }},
    {"branches_to_selects", [](const program& p) { return passes::branches_to_selects(p); }},
    {"optimise", [](const program& p) { return passes::optimise(p); }},
};

/// Runs both and, where something is different, shows the programs and ends the test.
template <class Math = tile::eval::std_math>
void expect_same(const char* pass, std::uint64_t seed, const program& before, const outcome& wanted,
                 const program& after) {
  const auto verdict = verify(after);
  if (!verdict || !(run<Math>(after, seed) == wanted)) {
    FAIL(std::string(pass) << ", seed " << seed << ": " << std::string(verdict.rule) << "\n"
                           << print(before) << "\nbecame\n"
                           << print(after));
  }
}

using tile_test::options_of;
using tile_test::program_count;

}  // namespace

TEST_CASE("tile/passes_random: the programs have every operation, element type and rounding") {
  std::set<std::string_view> names;
  std::set<ashlar::dtype> elements;
  std::set<int> roundings;
  std::set<std::pair<tile::opcode, int>> folds;
  bool third_axis = false;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const program p = tile_test::random_program(seed, options_of(seed));
    for (int i = 0; i < p.size; ++i) {
      const tile::instruction& at = p.at(i);
      names.insert(tile::info(at.op).name);
      if (at.type.is_value()) {
        elements.insert(at.type.element);
      }
      if (at.op == tile::opcode::cast) {
        roundings.insert(at.index);
      } else if (at.op == tile::opcode::reduce || at.op == tile::opcode::scan) {
        folds.insert({at.op, at.count});
      }
      third_axis = third_axis || (at.op == tile::opcode::program_id && at.index == 2);
    }
  }
  CHECK(names.size() == tile::opcode_count);
  CHECK(elements.size() == ashlar::dtype_count);
  CHECK(roundings.size() == 3);
  CHECK(folds.size() == 6);  // of one, two and three tiles
  CHECK(third_axis);
}

TEST_CASE("tile/passes_random: each pass keeps what a random program stores and prints") {
  MESSAGE("seeds 0 to ", program_count - 1);
  std::vector<std::uint64_t> changed(std::size(all_passes));
  for (std::uint64_t seed = 0; seed < program_count; ++seed) {
    const program before = tile_test::random_program(seed, tile_test::options_of(seed));
    const outcome wanted = run(before, seed);
    for (std::size_t k = 0; k < std::size(all_passes); ++k) {
      const program after = all_passes[k].run(before);
      if (after == before) {
        continue;
      }
      ++changed[k];
      expect_same(all_passes[k].name, seed, before, wanted, after);
    }
  }
  // Each pass found something to do, often enough to say something about it.
  for (std::size_t k = 0; k < std::size(all_passes); ++k) {
    INFO(std::string(all_passes[k].name));
    CHECK(changed[k] > program_count / 200);
  }
}

// In the formats that compute in float, the product is rounded to the format and `fma` never sees
// that; there the bound below is what holds.
TEST_CASE("tile/passes_random: fused products are the same products and sums, rounded once less") {
  MESSAGE("seeds 0 to " << program_count - 1);
  std::uint64_t fused = 0;
  for (std::uint64_t seed = 0; seed < program_count; ++seed) {
    tile_test::random_options options = options_of(seed);
    options.narrow_floats = false;
    options.float8_arithmetic = false;
    const program before = tile_test::random_program(seed, options);
    const program after = passes::fuse_multiply_add(before);
    if (after == before) {
      continue;
    }
    ++fused;
    expect_same<unfused_math>("fuse_multiply_add", seed, before, run<unfused_math>(before, seed),
                              after);
  }
  CHECK(fused > program_count / 200);
}

TEST_CASE_TEMPLATE(
    "tile/passes_random: fuse_multiply_add changes a result by its roundings at most", T, float,
    ashlar::float16, ashlar::bfloat16) {
  constexpr int n = 4096;
  constexpr ashlar::dtype element = ashlar::dtype_of<T>;
  const tile::tile_type t(element, {n});
  tile::builder b("fused");
  for (int k = 0; k < 4; ++k) {
    b.add_parameter({.element = element, .rank = 1, .written = k == 3});
  }
  const auto at = b.index(0);
  const auto load = [&](int k) {
    return b.emit({.op = tile::opcode::load, .index = k, .type = t}, {at});
  };
  const auto sum =
      b.binary(tile::opcode::sub, load(0), b.binary(tile::opcode::mul, load(1), load(2)));
  b.emit({.op = tile::opcode::store, .index = 3}, {sum, at});
  const program separate = b.finish();
  const program fused = passes::fuse_multiply_add(separate);
  REQUIRE(!(fused == separate));

  tile_test::dice dice(7);
  std::vector<T> data[3], one(n), other(n);
  for (auto& x : data) {
    for (int i = 0; i < n; ++i) {
      x.push_back(T(static_cast<float>(dice.between(-1000000, 1000000)) / 4096.0f));
    }
  }
  const std::int64_t shape[] = {n};
  const std::int64_t stride[] = {1};
  const auto run_into = [&](const program& p, std::vector<T>& result) {
    const auto view = [&](std::vector<T>& x) {
      return tile::argument(x.data(), std::span(shape), std::span(stride));
    };
    tile::interpret(p, {1, 1, 1}, {view(data[0]), view(data[1]), view(data[2]), view(result)});
  };
  run_into(separate, one);
  run_into(fused, other);
  // x - a b: one result rounds a b and the difference, the other the difference. Each rounding is
  // at most u of what it gives, to first order; the factor 1.001 covers the rest, and the rounding
  // to float of the formats that compute in it.
  constexpr double u = std::is_same_v<T, float>             ? 0x1p-24
                       : std::is_same_v<T, ashlar::float16> ? 0x1p-11
                                                            : 0x1p-8;
  int different = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto number = [](T x) { return double{static_cast<float>(x)}; };
    const double product = std::abs(number(data[1][i]) * number(data[2][i]));
    const double apart = std::abs(number(one[i]) - number(other[i]));
    CHECK(apart <= 1.001 * u * (product + std::abs(number(one[i])) + std::abs(number(other[i]))));
    different += apart > 0 ? 1 : 0;
  }
  CHECK(different > 0);
}
