// SPDX-License-Identifier: Apache-2.0
// Memory, reductions, control flow and errors of the interpreter.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/core/philox.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/interpret.hpp"
#include "support/tile_random.hpp"
#include "tile/interpret_support.hpp"

namespace tile = ashlar::tile;
using ashlar::dtype;
using interpret_test::array;
using interpret_test::same;

namespace {

using i64 = std::int64_t;

/// `name: type` ... and a body, with `%0` a zero to begin with.
tile::program kernel(const std::string& parameters, const std::string& body) {
  return tile::parse("kernel \"k\"(" + parameters + ") {\n%0 = constant 0 : i64\n" + body + "\n}");
}

array<float> counted(std::vector<i64> shape) {
  array<float> x(std::move(shape));
  for (i64 i = 0; i < x.size; ++i) {
    x[i] = static_cast<float>(i + 1);
  }
  return x;
}

template <class E, class F>
E thrown(F f) {
  try {
    f();
  } catch (const E& e) {
    return e;
  }
  FAIL("nothing was thrown");
  throw std::bad_exception();
}

}  // namespace

// --- memory --------------------------------------------------------------------------------------

TEST_CASE("tile/interpret: what lies outside a view reads as the neutral value") {
  constexpr i64 most = std::numeric_limits<i64>::max();
  constexpr i64 least = std::numeric_limits<i64>::min();
  const tile::program p = kernel("x: f32[?, ?], m: i64, n: i64, y: f32[?, ?] written",
                                 "%m = argument m : i64\n%n = argument n : i64\n"
                                 "%x = load x, %m, %n, else=-7.5 : f32[3, 5]\n"
                                 "store y, %x, %0, %0");
  for (const auto& [rows, columns] : {std::array<i64, 2>{0, 0}, {1, 1}, {0, 7}, {2, 3}, {7, 11}}) {
    const array<float> x = counted({rows, columns});
    for (const i64 m : {i64{0}, i64{-1}, i64{-3}, i64{2}, i64{5}, rows, most, most - 1, least}) {
      for (const i64 n : {i64{0}, i64{-2}, i64{4}, columns - 1, most, least, least + 1}) {
        array<float> y({3, 5});
        tile::interpret(p, {1, 1, 1}, {x, m, n, y});
        for (i64 i = 0; i < 3; ++i) {
          for (i64 j = 0; j < 5; ++j) {
            // In double nothing overflows, and whole numbers near the view are exact.
            const double r = static_cast<double>(m) + static_cast<double>(i);
            const double c = static_cast<double>(n) + static_cast<double>(j);
            const bool inside = r >= 0 && r < static_cast<double>(rows) && c >= 0 &&
                                c < static_cast<double>(columns);
            REQUIRE(y[5 * i + j] == (inside ? x[(m + i) * columns + n + j] : -7.5f));
          }
        }
      }
    }
  }
}

TEST_CASE("tile/interpret: what is stored outside a view is dropped") {
  const tile::program p = kernel("y: f32[?, ?] written, m: i64, n: i64",
                                 "%m = argument m : i64\n%n = argument n : i64\n"
                                 "%c = constant 9 : f32\n%x = broadcast %c : f32[3, 5]\n"
                                 "store y, %x, %m, %n");
  for (const i64 m : {-4, -2, 0, 1, 3, 9}) {
    for (const i64 n : {-6, -1, 0, 3, 7}) {
      array<float> memory = counted({7, 9});
      tile::argument inner = memory;  // a view of 4 rows and 5 columns in the middle
      inner.data += sizeof(float) * (9 + 2);
      inner.extents = {4, 5};
      tile::interpret(p, {1, 1, 1}, {inner, m, n});
      for (i64 i = 0; i < 7; ++i) {
        for (i64 j = 0; j < 9; ++j) {
          const i64 r = i - 1, c = j - 2;
          const bool in_view = r >= 0 && r < 4 && c >= 0 && c < 5;
          const bool in_tile = r >= m && r < m + 3 && c >= n && c < n + 5;
          REQUIRE(memory[9 * i + j] ==
                  (in_view && in_tile ? 9.0f : static_cast<float>(9 * i + j + 1)));
        }
      }
    }
  }
}

TEST_CASE("tile/interpret: strides may be of any order, 0 or negative") {
  const tile::program p = kernel("x: f32[?, ?], y: f32[?, ?] written",
                                 "%x = load x, %0, %0 : f32[3, 4]\nstore y, %x, %0, %0");
  array<float> x = counted({3, 4});
  const std::array<i64, 2> shape{3, 4};
  for (const std::array<i64, 2> steps :
       {std::array<i64, 2>{1, 3}, {0, 1}, {0, 0}, {4, -1}, {-4, 1}}) {
    const i64 first = (steps[0] < 0 ? 8 : 0) + (steps[1] < 0 ? 3 : 0);
    array<float> y({3, 4});
    const float* start = x.data.get() + first;
    tile::interpret(p, {1, 1, 1}, {tile::argument(start, shape, steps), y});
    for (i64 i = 0; i < 3; ++i) {
      for (i64 j = 0; j < 4; ++j) {
        CHECK(y[4 * i + j] == x[first + steps[0] * i + steps[1] * j]);
      }
    }
  }
}

TEST_CASE("tile/interpret: a tile of fewer axes lies along a view's last ones") {
  const tile::program p =
      kernel("x: f32[?, ?, ?], s: f32[], y: f32[?] written, z: f32[] written",
             "%1 = constant 1 : i64\n%2 = constant 2 : i64\n%x = load x, %1, %2, %0 : f32[4]\n"
             "store y, %x, %0\n%s = load s : f32\n%d = add %s, %s : f32\nstore z, %d");
  const array<float> x = counted({2, 3, 4});
  const array<float> s({}, {2.5f});
  array<float> y({4});
  array<float> z(std::vector<i64>{});
  tile::interpret(p, {1, 1, 1}, {x, s, y, z});
  for (i64 i = 0; i < 4; ++i) {
    CHECK(y[i] == x[(1 * 3 + 2) * 4 + i]);
  }
  CHECK(z[0] == 5.0f);
}

TEST_CASE("tile/interpret: gather and scatter take one place per element") {
  const tile::program p =
      kernel("x: f32[?, ?], at: i64[?], y: f32[?] written, z: f32[?] written",
             "%at = load at, %0 : i64[6]\n%one = constant 1 : i64\n"
             "%y = gather x, %at, %one, else=-1 : f32[6]\nstore y, %y, %0\nscatter z, %y, %at");
  const array<float> x = counted({4, 3});
  constexpr i64 far = std::numeric_limits<i64>::min();
  const array<i64> at({6}, {2, -1, 2, 0, 99, far});
  array<float> y({6});
  array<float> z({3}, {10, 20, 30});
  tile::interpret(p, {1, 1, 1}, {x, at, y, z});
  const std::array<float, 6> gathered{8, -1, 8, 2, -1, -1};
  for (i64 i = 0; i < 6; ++i) {
    CHECK(y[i] == gathered[static_cast<std::size_t>(i)]);
  }
  CHECK(z[0] == 2);
  CHECK(z[1] == 20);
  CHECK(z[2] == 8);
}

TEST_CASE("tile/interpret: of equal places a scatter's last wins and atomics take all in turn") {
  const tile::program p = kernel(
      "x: f32[?], at: i64[?], s: f32[?] written, a: f32[?] written, m: f32[?] written, "
      "n: f32[?] written",
      "%x = load x, %0 : f32[7]\n%at = load at, %0 : i64[7]\nscatter s, %x, %at\n"
      "atomic_add a, %x, %at\natomic_max m, %x, %at\natomic_min n, %x, %at");
  const array<float> x({7}, {1e8f, 1, -1e8f, 5, 3, 4, 0.5f});
  const array<i64> at({7}, {1, 1, 1, 0, 0, 0, 1});
  array<float> s({2}, {0, 0}), a({2}, {1, 0}), m({2}, {3.5f, -1}), n({2}, {3.5f, 0});
  tile::interpret(p, {1, 1, 1}, {x, at, s, a, m, n});
  CHECK(s[0] == 4);
  CHECK(s[1] == 0.5f);
  CHECK(a[0] == 13);
  CHECK(a[1] == ((1e8f + 1) + -1e8f) + 0.5f);
  CHECK(m[0] == 5);
  CHECK(m[1] == 1e8f);
  CHECK(n[0] == 3);
  CHECK(n[1] == -1e8f);
}

TEST_CASE("tile/interpret: a tensor's view is an argument") {
  const tile::program p = kernel("x: f32[?, ?], y: f32[?, ?] written",
                                 "%x = load x, %0, %0 : f32[2, 3]\nstore y, %x, %0, %0");
  const std::array<i64, 2> shape{2, 3};
  const ashlar::tensor_spec spec = ashlar::contiguous_spec(dtype::float32, shape);
  array<float> x = counted({2, 3});
  array<float> y({2, 3});
  const ashlar::view<float> out{y.data.get(), &spec};
  const ashlar::view<const float> in{x.data.get(), &spec};
  tile::interpret(p, {1, 1, 1}, {in, out});
  CHECK(std::equal(x.data.get(), x.data.get() + 6, y.data.get()));
  CHECK(thrown<tile::launch_error>([&] { tile::interpret(p, {1, 1, 1}, {in, in}); }).argument == 1);
}

// --- reductions ----------------------------------------------------------------------------------

namespace {

/// What is combined has no law at all, so that only the stated order gives the result.
float odd(float a, float b) { return a - 0.75f * b; }
constexpr const char* odd_text =
    "%q = constant 0.75 : f32\n%p = mul %q, %b : f32\n%c = sub %a, %p : f32\nyield %c";

/// Lane l after the rounds h = 8 ... `h`, by the definition.
float lane(const std::vector<float>& x, std::size_t l, std::size_t h) {
  if (h == 16) {
    float sum = x[l];
    for (std::size_t i = l + 16; i < x.size(); i += 16) {
      sum = odd(sum, x[i]);
    }
    return sum;
  }
  const float left = lane(x, l, 2 * h);
  return l + h < std::min<std::size_t>(x.size(), 16) ? odd(left, lane(x, l + h, 2 * h)) : left;
}

}  // namespace

TEST_CASE("tile/interpret: reduce combines in the order that the IR states") {
  for (const i64 n : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 97}) {
    for (const int axis : {0, 1, 2}) {
      std::array<i64, 3> shape{2, 3, 2};
      shape[static_cast<std::size_t>(axis)] = n;
      const auto extents = [&](int without) {
        std::string text;
        for (int a = 0; a < 3; ++a) {
          if (a != without) {
            text += std::string(text.empty() ? "" : ", ") +
                    std::to_string(shape[static_cast<std::size_t>(a)]);
          }
        }
        return text;
      };
      const tile::program p =
          kernel("x: f32[?, ?, ?], y: f32[?, ?] written",
                 "%x = load x, %0, %0, %0 : f32[" + extents(3) +
                     "]\n%r = reduce %x, axis=" + std::to_string(axis) + " (%a: f32, %b: f32) {\n" +
                     odd_text + "\n}\n%y = result %r, number=0 : f32[" + extents(axis) +
                     "]\nstore y, %y, %0, %0");
      array<float> x({shape[0], shape[1], shape[2]});
      for (i64 i = 0; i < x.size; ++i) {
        x[i] = static_cast<float>((i * 37) % 101) / 7.0f;
      }
      std::vector<i64> left;
      for (int a = 0; a < 3; ++a) {
        if (a != axis) {
          left.push_back(shape[static_cast<std::size_t>(a)]);
        }
      }
      array<float> y(left);
      tile::interpret(p, {1, 1, 1}, {x, y});
      const i64 inner = axis == 2 ? 1 : axis == 1 ? shape[2] : shape[1] * shape[2];
      for (i64 o = 0; o < y.size; ++o) {
        std::vector<float> along;
        for (i64 i = 0; i < n; ++i) {
          along.push_back(x[(o / inner * n + i) * inner + o % inner]);
        }
        REQUIRE(y[o] == lane(along, 0, 1));
      }
    }
  }
}

TEST_CASE("tile/interpret: several tiles reduce as one") {
  const tile::program p = kernel(
      "x: f32[?], y: f32[] written, at: i32[] written",
      "%x = load x, %0, else=-inf : f32[40]\n%i = iota axis=0 : i32[40]\n"
      "%r = reduce %x, %i, axis=0 (%a: f32, %i0: i32, %b: f32, %i1: i32) {\n"
      "%l = less %a, %b : bool\n%m = select %l, %b, %a : f32\n%k = select %l, %i1, %i0 : i32\n"
      "yield %m, %k\n}\n%y = result %r, number=0 : f32\n%at = result %r, number=1 : i32\n"
      "store y, %y\nstore at, %at");
  for (const i64 n : {1, 13, 29, 40}) {
    array<float> x({n});
    for (i64 i = 0; i < n; ++i) {
      x[i] = static_cast<float>((i * 17) % 41);
    }
    array<float> y(std::vector<i64>{});
    array<std::int32_t> at(std::vector<i64>{});
    tile::interpret(p, {1, 1, 1}, {x, y, at});
    const float* best = std::max_element(x.data.get(), x.data.get() + n);
    CHECK(y[0] == *best);
    CHECK(at[0] == best - x.data.get());
  }
}

TEST_CASE("tile/interpret: scan goes one by one, from either end") {
  for (const i64 n : {1, 2, 5, 17, 33}) {
    for (const bool from_end : {false, true}) {
      const std::string t = std::string("f32[3, ") + std::to_string(n) + "]";
      const tile::program p =
          kernel("x: f32[?, ?], y: f32[?, ?] written",
                 "%x = load x, %0, %0 : " + t + "\n%r = scan %x, axis=1, from_end=" +
                     (from_end ? "1" : "0") + " (%a: f32, %b: f32) {\n" + odd_text +
                     "\n}\n%y = result %r, number=0 : " + t + "\nstore y, %y, %0, %0");
      const array<float> x = counted({3, n});
      array<float> y({3, n});
      tile::interpret(p, {1, 1, 1}, {x, y});
      for (i64 row = 0; row < 3; ++row) {
        float sum = 0;
        for (i64 k = 0; k < n; ++k) {
          const i64 at = row * n + (from_end ? n - 1 - k : k);
          sum = k == 0 ? x[at] : odd(sum, x[at]);
          REQUIRE(y[at] == sum);
        }
      }
    }
  }
}

// --- control flow --------------------------------------------------------------------------------

TEST_CASE("tile/interpret: a loop carries all its values at once") {
  const tile::program p =
      kernel("n: i64, y: i64[?] written",
             "%n = argument n : i64\n%1 = constant 1 : i64\n"
             "%l = loop %0, %n, %1, %0, %1 (%i: i64, %a: i64, %b: i64) {\n%c = add %a, %b : i64\n"
             "yield %b, %c\n}\n%f = result %l, number=0 : i64\nstore y, %f, %0");
  for (const auto& [n, fibonacci] : {std::array<i64, 2>{-5, 0}, {0, 0}, {1, 1}, {10, 55}}) {
    array<i64> y({1}, {-1});
    tile::interpret(p, {1, 1, 1}, {n, y});
    CHECK(y[0] == fibonacci);
  }
}

TEST_CASE("tile/interpret: a loop's counter stays below the end, near the largest number too") {
  const tile::program p = kernel(
      "first: i64, end: i64, step: i64, y: i64[?] written",
      "%f = argument first : i64\n%e = argument end : i64\n%s = argument step : i64\n"
      "%l = loop %f, %e, %s, %0, %0 (%i: i64, %so: i64, %before: i64) {\n%one = constant 1 : i64\n"
      "%m = add %so, %one : i64\nyield %m, %i\n}\n%n = result %l, number=0 : i64\n"
      "%last = result %l, number=1 : i64\n%1 = constant 1 : i64\nstore y, %n, %0\n"
      "store y, %last, %1");
  constexpr i64 most = std::numeric_limits<i64>::max();
  constexpr i64 least = std::numeric_limits<i64>::min();
  struct {
    i64 first, end, step, rounds, last;
  } const all[] = {{0, 7, 3, 3, 6},
                   {0, 6, 3, 2, 3},
                   {5, 5, 1, 0, 0},
                   {most - 2, most, 2, 1, most - 2},
                   {most - 3, most, 2, 2, most - 1},
                   {least, most, most, 3, most - 1},
                   {0, 1, most, 1, 0}};
  for (const auto& x : all) {
    array<i64> y({2});
    tile::interpret(p, {1, 1, 1}, {x.first, x.end, x.step, y});
    CHECK(y[0] == x.rounds);
    CHECK(y[1] == x.last);
  }
}

TEST_CASE("tile/interpret: loops in loops, values from outside") {
  const tile::program p =
      kernel("y: i64[?] written",
             "%1 = constant 1 : i64\n%3 = constant 3 : i64\n%4 = constant 4 : i64\n"
             "%l = loop %0, %4, %1, %0 (%i: i64, %s: i64) {\n"
             "  %m = loop %0, %3, %1, %s (%j: i64, %t: i64) {\n"
             "    %p = mul %i, %j : i64\n    %u = add %t, %p : i64\n    yield %u\n  }\n"
             "  %v = result %m, number=0 : i64\n  store y, %v, %i\n  yield %v\n}");
  array<i64> y({4});
  tile::interpret(p, {1, 1, 1}, {y});
  i64 sum = 0;
  for (i64 i = 0; i < 4; ++i) {
    sum += i * (0 + 1 + 2);
    CHECK(y[i] == sum);
  }
}

TEST_CASE("tile/interpret: repeat goes on while its first region says so") {
  const tile::program p = kernel(
      "x: i64, y: i64[?] written",
      "%x = argument x : i64\n%r = repeat %x, %0 (%v: i64, %n: i64) {\n"
      "%one = constant 1 : i64\n%go = not_equal %v, %one : bool\nyield %go\n"
      "} (%w: i64, %k: i64) {\n%1 = constant 1 : i64\n%2 = constant 2 : i64\n%3 = constant 3 : "
      "i64\n"
      "%h = div %w, %2 : i64\n%q = mul %w, %3 : i64\n%t = add %q, %1 : i64\n%o = rem %w, %2 : i64\n"
      "%e = equal %o, %0 : bool\n%next = select %e, %h, %t : i64\n%c = add %k, %1 : i64\n"
      "yield %next, %c\n}\n%steps = result %r, number=1 : i64\nstore y, %steps, %0");
  for (const auto& pair : {std::array<i64, 2>{1, 0}, {6, 8}, {27, 111}}) {
    const i64 x = pair[0], steps = pair[1];
    array<i64> y({1});
    tile::interpret(p, {1, 1, 1}, {x, y});
    CHECK(y[0] == steps);
    if (steps > 0) {
      tile::interpret(p, {1, 1, 1}, {x, y}, {.repeat_limit = steps});
      const auto e = thrown<tile::execution_error>([&] {
        tile::interpret(p, {1, 1, 1}, {x, y}, {.repeat_limit = steps - 1});
      });
      CHECK(e.reason == "repeat: more rounds than the limit allows");
      CHECK(e.instruction == 2);
    }
  }
}

TEST_CASE("tile/interpret: branch runs one region, with its effects") {
  const tile::program p =
      kernel("y: i64[?] written",
             "%i = program_id axis=0 : i64\n%2 = constant 2 : i64\n%o = rem %i, %2 : i64\n"
             "%c = equal %o, %0 : bool\n%b = branch %c {\n%n = neg %i : i64\nyield %n, %i\n} {\n"
             "%seven = constant 7 : i64\nstore y, %seven, %i\nyield %2, %seven\n}\n"
             "%r = result %b, number=0 : i64\n%5 = constant 5 : i64\n%at = add %i, %5 : i64\n"
             "store y, %r, %at");
  array<i64> y({10});
  tile::interpret(p, {5, 1, 1}, {y});
  for (i64 i = 0; i < 5; ++i) {
    CHECK(y[i] == (i % 2 == 0 ? 0 : 7));
    CHECK(y[i + 5] == (i % 2 == 0 ? -i : 2));
  }
}

// --- the grid, random bits, speech, errors -------------------------------------------------------

TEST_CASE("tile/interpret: programs know their place and the grid, axis 0 comes first") {
  const tile::program p = kernel(
      "next: i64[] written, y: i64[?, ?] written",
      "%x = program_id axis=0 : i64\n%y = program_id axis=1 : i64\n%z = program_id axis=2 : i64\n"
      "%nx = grid_size axis=0 : i64\n%ny = grid_size axis=1 : i64\n%nz = grid_size axis=2 : i64\n"
      "%k = load next : i64\n%1 = constant 1 : i64\n%k1 = add %k, %1 : i64\nstore next, %k1\n"
      "%e = extent y, axis=1 : i64\n%2 = constant 2 : i64\n%3 = constant 3 : i64\n"
      "%4 = constant 4 : i64\n%5 = constant 5 : i64\n%6 = constant 6 : i64\n"
      "store y, %x, %k, %0\nstore y, %y, %k, %1\nstore y, %z, %k, %2\n"
      "store y, %nx, %k, %3\nstore y, %ny, %k, %4\nstore y, %nz, %k, %5\nstore y, %e, %k, %6");
  array<i64> next(std::vector<i64>{});
  array<i64> y({24, 7});
  tile::interpret(p, {2, 3, 4}, {next, y});
  CHECK(next[0] == 24);
  for (i64 k = 0; k < 24; ++k) {
    const std::array<i64, 7> want{k % 2, k / 2 % 3, k / 6, 2, 3, 4, 7};
    CHECK(std::equal(want.begin(), want.end(), &y[7 * k]));
  }
}

TEST_CASE("tile/interpret: random bits are Philox's, whoever asks") {
  const tile::program p =
      kernel("seed: i64, y: i32[?, ?] written",
             "%i = program_id axis=0 : i64\n%n = constant 5 : i64\n%s = argument seed : i64\n"
             "%k = iota axis=0 : i64[5]\n%f = mul %i, %n : i64\n%b = broadcast %f : i64[5]\n"
             "%c = add %k, %b : i64[5]\n%r = random_bits %s, %c : i32[5]\nstore y, %r, %i, %0");
  array<std::int32_t> y({3, 5});
  constexpr i64 seed = -0x123456789;
  tile::interpret(p, {3, 1, 1}, {seed, y});
  for (i64 i = 0; i < 15; ++i) {
    CHECK(static_cast<std::uint32_t>(y[i]) ==
          ashlar::philox_block(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(i))[0]);
  }
}

TEST_CASE("tile/interpret: print writes to the caller's stream") {
  const tile::program p =
      kernel("",
             "%i = program_id axis=1 : i64\n%c = constant 0.1 : bf16\n%t = broadcast %c : bf16[2]\n"
             "print %t, number=3\nprint %i\n%b = equal %i, %0 : bool\nprint %b");
  std::ostringstream out;
  tile::interpret(p, {1, 2, 1}, {}, {.out = &out});
  CHECK(out.str() ==
        "print 3 (0, 0, 0): bf16[2] {0.10009765625, 0.10009765625}\nprint 0 (0, 0, 0): i64 {0}\n"
        "print 0 (0, 0, 0): bool {true}\n"
        "print 3 (0, 1, 0): bf16[2] {0.10009765625, 0.10009765625}\nprint 0 (0, 1, 0): i64 {1}\n"
        "print 0 (0, 1, 0): bool {false}\n");
  tile::interpret(p, {1, 2, 1}, {});  // and without one says nothing
}

TEST_CASE("tile/interpret: a broken require names instruction, place and number") {
  const tile::program p =
      kernel("y: i64[?] written",
             "%i = program_id axis=0 : i64\n%2 = constant 2 : i64\n%k = iota axis=0 : i64[3]\n"
             "%b = broadcast %i : i64[3]\n%s = add %k, %b : i64[3]\n%t = broadcast %2 : i64[3]\n"
             "store y, %i, %i\n%h = less_equal %s, %t : bool[3]\nrequire %h, number=42");
  array<i64> y({4}, {-1, -1, -1, -1});
  const auto e = thrown<tile::execution_error>([&] { tile::interpret(p, {3, 1, 1}, {y}); });
  CHECK(e.instruction == 9);
  CHECK(e.place == tile::grid{1, 0, 0});
  CHECK(e.number == 42);
  CHECK(std::string_view(e.what()) ==
        "ashlar::tile: %9 of program (1, 0, 0): what the kernel requires does not hold");
  CHECK(y[1] == 1);
  CHECK(y[2] == -1);
}

TEST_CASE("tile/interpret: a loop without a step is refused") {
  const tile::program p = kernel("s: i64",
                                 "%s = argument s : i64\n%n = constant 9 : i64\n"
                                 "%l = loop %0, %n, %s (%i: i64) {\nyield\n}");
  tile::interpret(p, {1, 1, 1}, {i64{4}});
  for (const i64 step : {i64{0}, i64{-1}, std::numeric_limits<i64>::min()}) {
    const auto e = thrown<tile::execution_error>([&] { tile::interpret(p, {1, 1, 1}, {step}); });
    CHECK(e.reason == "loop: the step must be above 0");
    CHECK(e.instruction == 3);
  }
}

TEST_CASE("tile/interpret: arguments that do not fit are named") {
  const tile::program p = kernel("x: f32[?], n: i64, y: f32[?] written", "");
  const array<float> x({3});
  const array<double> wide({3});
  const array<float> rows({3, 3});
  array<float> y({3});
  const auto refused = [&](std::vector<tile::argument> arguments, tile::grid size = {1, 1, 1}) {
    return thrown<tile::launch_error>([&] { tile::interpret(p, size, arguments); });
  };
  tile::argument null = x;
  null.data = nullptr;
  tile::argument negative = x;
  negative.extents[0] = -1;
  const std::span<const i64> shape(x.extents);
  const tile::argument constant(static_cast<const float*>(x.data.get()), shape, x.strides());
  CHECK(std::string_view(refused({x, i64{1}}).what()) ==
        "ashlar::tile: k takes 3 arguments, not 2");
  CHECK(std::string_view(refused({wide, i64{1}, y}).what()) ==
        "ashlar::tile: argument 0: it is of float64; give float32");
  CHECK(std::string_view(refused({x, 1, y}).what()) ==
        "ashlar::tile: argument 1: it is of int32; give int64");
  CHECK(std::string_view(refused({x, i64{1}, rows}).what()) ==
        "ashlar::tile: argument 2: it is a view of rank 2; give a view of rank 1");
  CHECK(refused({1.0f, i64{1}, y}).reason == "it is a scalar; give a view of rank 1");
  CHECK(refused({x, y, y}).argument == 1);
  CHECK(refused({null, i64{1}, y}).reason == "it has no memory");
  CHECK(refused({negative, i64{1}, y}).reason == "axis 0 has a negative extent");
  CHECK(refused({x, i64{1}, constant}).reason ==
        "the kernel writes it, and it is only for reading");
  CHECK(refused({x, i64{1}, y}, {1, -1, 1}).reason == "an axis of the grid is negative");
  null.extents[0] = 0;
  tile::interpret(p, {1, 1, 1}, {null, i64{1}, y});  // nothing needs no memory
  tile::interpret(p, {0, 1, 1}, {x, i64{1}, y});
  const std::array<i64, 5> five{1, 1, 1, 1, 1};
  CHECK_THROWS_AS(tile::argument(y.data.get(), five, five), tile::launch_error);
  tile::program broken = p;
  broken.size = 1000;
  CHECK_THROWS_AS(tile::interpret(broken, {1, 1, 1}, {x, i64{1}, y}), tile::program_error);
}

TEST_CASE("tile/interpret: random programs are well, run to finite numbers, and always alike") {
  int changed = 0;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    const tile::program p = tile_test::random_program(seed, {.speech = seed % 2 == 0});
    CAPTURE(seed);
    const auto out = tile_test::interpreted(p, seed);
    REQUIRE(tile_test::difference(p, out, tile_test::interpreted(p, seed)).empty());
    changed += out != tile_test::random_launch(p, seed).buffers ? 1 : 0;
    for (std::size_t k = 0; k < out.size(); ++k) {
      tile::eval::with_scalar(p.parameters[k].element, [&]<class T>(std::type_identity<T>) {
        if constexpr (ashlar::Floating<T>) {
          for (std::size_t i = 0; i < out[k].size() / sizeof(T); ++i) {
            const auto x = static_cast<ashlar::compute_type<T>>(
                tile::detail::element_at<T>(out[k].data(), static_cast<i64>(i)));
            REQUIRE(std::isfinite(x));
          }
        }
      });
    }
  }
  CHECK(changed > 1400);
}

// What `verify` lets through, the interpreter can run: no field of a program makes it read what is
// not there.
TEST_CASE("tile/interpret: damaged programs that are still well run or say why not") {
  int ran = 0;
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    tile::program p = tile_test::random_program(seed % 100, {.moves = 8});
    tile_test::dice d(seed);
    for (int k = d.between(1, 2); k > 0; --k) {
      tile::instruction& i = p.at(d.between(0, p.size - 1));
      switch (d.between(0, 5)) {
        case 0:
          i.op = static_cast<tile::opcode>(d.between(0, tile::opcode_count - 1));
          break;
        case 1:
          i.index = d.between(-1, 9);
          break;
        case 2:
          i.value = static_cast<i64>(d.bits());
          break;
        case 3:
          i.type.element = static_cast<dtype>(d.between(0, ashlar::dtype_count - 1));
          break;
        case 4:
          i.type.extents[static_cast<std::size_t>(d.between(0, 3))] = d.between(1, 40);
          break;
        default: {
          const int at = d.between(0, p.operand_count - 1);
          p.operand_list[static_cast<std::size_t>(at)] =
              static_cast<tile::value_id>(d.between(0, p.size - 1));
        }
      }
    }
    if (!tile::verify(p)) {
      continue;
    }
    tile_test::random_launch launch(p, seed);
    try {
      tile::interpret(p, {1, 2, 1}, launch.arguments(),
                      {.repeat_limit = 10, .instruction_limit = 20000});
      ++ran;
    } catch (const tile::execution_error& e) {
      REQUIRE(!e.reason.empty());
    }
  }
  CHECK(ran > 1000);
}
