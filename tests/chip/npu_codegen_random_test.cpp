// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "chip/npu_codegen_kernels.hpp"
#include "chip/npu_codegen_support.hpp"
#include "support/random_set.hpp"
#include "support/tile_kernels.hpp"
#include "support/tile_random.hpp"

namespace {

using namespace npu_codegen_test;

/// Another machine in everything that the code generator looks at.
constexpr chip::npu_description small{.name = "small",
                                      .scratchpad_bytes = 96 * 1024,
                                      .scratchpad_banks = 8,
                                      .scratchpad_alignment = 64,
                                      .vector_bytes = 32,
                                      .matrix_unit = {4, 8, 8},
                                      .dma_engines = 1,
                                      .queue_depth = 3,
                                      .semaphores = 12};

/// What the interpreter makes of a program, the machine makes of it: as it is, after the first so
/// many passes, and as the compiler improves it. Returns: how many seeds differ.
int differing(const chip::npu_description& d, std::uint64_t from, std::uint64_t to,
              const codegen::compile_options& options) {
  MESSAGE("seeds ", from, " to ", to - 1);
  int wrong = 0;
  std::uint64_t refused = 0;  // atomics of 8-bit floats, which the machine has not
  for (std::uint64_t seed = from; seed < to; ++seed) {
    const tile::program p = tile_test::random_program(seed, tile_test::options_of(seed));
    tile::program some = p;
    for (int k = 0; k < static_cast<int>(seed % tile::passes::step_count); ++k) {
      some = tile::passes::step(k).run(some, {});
    }
    std::string what;
    try {
      const auto wanted = interpreted(p, seed);
      codegen::compile_options as_it_is = options;
      as_it_is.passes = false;
      what = differing_from(wanted, d, p, seed, as_it_is);
      if (what.empty() && !(some == p)) {
        what = differing_from(wanted, d, some, seed, as_it_is);
      }
      if (what.empty()) {
        what = differing_from(wanted, d, p, seed, options);
      }
    } catch (const codegen::unsupported& e) {
      what = e.what.starts_with("atomic_") ? "" : static_cast<const ashlar::error&>(e).what();
      ++refused;
    } catch (const ashlar::error& e) {
      what = e.what();
    }
    if (!what.empty()) {
      MESSAGE("seed ", seed, ": ", what);
      ++wrong;
    }
  }
  MESSAGE("refused: ", refused);
  CHECK(100 * refused <= to - from);
  return wrong;
}

/// Two-axis views with gaps, reversed rows and columns that repeat.
template <class T>
struct matrix {
  std::vector<T> v;
  std::array<std::int64_t, 2> extents;
  std::array<std::int64_t, 2> strides;
  std::int64_t first = 0;

  matrix(std::int64_t rows, std::int64_t cols, int form, tile_test::dice& d)
      : extents{rows, cols}, strides{form == 1 ? 1 : cols + 3, form == 1 ? rows + 1 : 1} {
    v.resize(static_cast<std::size_t>((rows + 1) * (cols + 3) + 4));
    for (T& x : v) {
      x = static_cast<T>(static_cast<float>(d.between(-64, 64)) / 32.0F);
    }
    if (form == 2 && rows > 0) {
      first = (rows - 1) * strides[0];
      strides[0] = -strides[0];
    }
  }
  template <class U>
  tile::argument as() {
    return tile::argument(static_cast<U*>(v.data()) + first, extents, strides);
  }
};

struct small_floats {
  static constexpr auto name = "small_floats";
  constexpr void operator()(tile::scope& k, tile::in<ashlar::float8_e4m3, 2> x,
                            tile::out<ashlar::float8_e5m2, 2> y,
                            tile::out<ashlar::float8_e4m3, 1> most) const {
    const auto row = k.program_id(0) * 4;
    const auto a = tile::load<4, 48>(x, row, 0);
    const auto b = tile::cast<ashlar::float8_e5m2>(tile::cast<float>(a) * 100.0F);
    tile::store(y, tile::select(a < tile::abs(a) * a, b + b, tile::exp(b)), row, 0);
    tile::store(most, tile::max<1>(a) - tile::sum<1>(a), row);
  }
};

/// What is too large, in every way to round.
struct roundings {
  static constexpr auto name = "roundings";
  constexpr void operator()(tile::scope& k, tile::in<double, 1> x, tile::in<float, 1> scale,
                            tile::out<ashlar::float8_e4m3, 1> a,
                            tile::out<ashlar::float8_e5m2, 1> b, tile::out<ashlar::float16, 1> c,
                            tile::out<float, 1> d) const {
    using tile::rounding;
    const auto at = k.program_id(0) * 16;
    const auto wide = tile::load<16>(x, at) * 1e39;
    const auto y = tile::load<16>(x, at) * 300.0 + tile::cast<double>(tile::load<16>(scale, at));
    const auto z = tile::cast<float>(y * 200.0);
    tile::store(a, tile::cast<ashlar::float8_e4m3>(y, rounding::saturating), at);
    tile::store(b, tile::cast<ashlar::float8_e5m2>(z, rounding::toward_zero), at);
    tile::store(c, tile::cast<ashlar::float16>(z, rounding::saturating), at);
    tile::store(d, tile::cast<float>(wide, rounding::saturating), at);
  }
};

/// Mean and sum of squared distances of rows, by Welford's combine.
template <class T, int N>
struct spread {
  static constexpr auto name = "spread";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> x, tile::out<T, 2> y) const {
    const auto row = k.program_id(0) * 4;
    const auto a = tile::load<4, N>(x, row, 0);
    const auto all = tile::reduce<1>(
        [](auto left, auto right) {
          const auto [n, mean, far] = left;
          const auto [m, other, away] = right;
          const auto count = n + m;
          const auto step = other - mean;
          return std::tuple(count, mean + step * (m / count),
                            far + away + step * step * (n * m / count));
        },
        a * T(0) + T(1), a, a * T(0));
    tile::store(y, tile::reshape<4, 1>(std::get<1>(all)), row, 0);
    tile::store(y, tile::reshape<4, 1>(std::get<2>(all)), row, 1);
  }
};

/// A product of 8-bit floats.
template <class T>
struct small_product {
  static constexpr auto name = "small_product";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> a, tile::in<T, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(1) * 8;
    const auto n = k.program_id(0) * 16;
    const auto sum = k.loop(
        0, a.extent(1), 32,
        [&](tile::index i, auto acc) {
          return tile::dot(tile::load<8, 32>(a, m, i), tile::load<32, 16>(b, i, n), acc);
        },
        k.zeros<float, 8, 16>());
    tile::store(c, sum, m, n);
  }
};

}  // namespace

TEST_CASE("chip/npu_codegen: random programs give the interpreter's bits on the machine") {
  CHECK(differing({}, 0, 7000, {}) == 0);
}

TEST_CASE("chip/npu_codegen: on a small machine with one DMA engine and few semaphores, too") {
  CHECK(differing(small, 7000, 8000, {}) == 0);
}

TEST_CASE("chip/npu_codegen: where buffers share bytes and engines meet at each border, too") {
  CHECK(differing({}, 8000, 9000, {.compact = true}) == 0);
}

TEST_CASE("chip/npu_codegen: with four DMA engines and without padding, too") {
  chip::npu_description d;
  d.dma_engines = 4;
  CHECK(differing(d, 9000, tile_test::program_count, {.padding = false}) == 0);
}

TEST_CASE("chip/npu_codegen: products with epilogue have the interpreter's bits at any size") {
  const tile::program program = tile::trace<dense_gelu<16, 24, 32>>();
  const codegen::compiled made = codegen::compile({}, program);
  int form = 0;
  for (const std::int64_t m : {0, 1, 15, 17, 31}) {
    for (const std::int64_t n : {1, 23, 25}) {
      for (const std::int64_t k : {0, 1, 31, 32, 67}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        form = (form + 1) % 3;
        std::array<std::vector<float>, 2> results;
        for (std::size_t which = 0; which < 2; ++which) {
          tile_test::dice d(static_cast<std::uint64_t>(m * 10000 + n * 100 + k));
          matrix<bfloat16> a(m, k, form, d);
          matrix<bfloat16> b(k, n, (form + 1) % 3, d);
          matrix<float> bias(n, 1, 0, d);
          matrix<float> y(m, n, (form + 2) % 3, d);
          const std::array<std::int64_t, 1> length{n};
          const std::array<std::int64_t, 1> step{bias.strides[0]};
          const std::vector<tile::argument> arguments{
              a.as<const bfloat16>(), b.as<const bfloat16>(),
              tile::argument(static_cast<const float*>(bias.v.data()), length, step),
              y.as<float>()};
          const tile::grid size{(n + 23) / 24, (m + 15) / 16, 1};
          if (which == 0) {
            tile::interpret<machine_math>(program, size, arguments);
          } else {
            codegen::launch(made, size, arguments);
          }
          results[which] = y.v;
        }
        CHECK(results[0] == results[1]);
      }
    }
  }
}

TEST_CASE("chip/npu_codegen: rows of any length, in place, too") {
  const tile::program program = tile::trace<row_sums<32>>();
  codegen::program_cache cache{chip::npu_description{}};
  for (const std::int64_t rows : {1, 3}) {
    for (const std::int64_t n : {0, 1, 31, 32, 33, 97}) {
      for (const bool in_place : {false, true}) {
        CAPTURE(n);
        CAPTURE(in_place);
        std::array<std::vector<float>, 2> results;
        for (std::size_t which = 0; which < 2; ++which) {
          tile_test::dice d(static_cast<std::uint64_t>(n));
          matrix<float> x(rows, n, 0, d);
          matrix<float> y(rows, n, 0, d);
          std::vector<float> sums(static_cast<std::size_t>(rows));
          const std::array<std::int64_t, 1> length{rows};
          const std::array<std::int64_t, 1> step{1};
          const std::vector<tile::argument> arguments{x.as<const float>(),
                                                      in_place ? x.as<float>() : y.as<float>(),
                                                      tile::argument(sums.data(), length, step)};
          if (which == 0) {
            tile::interpret<machine_math>(program, {rows, 1, 1}, arguments);
          } else {
            codegen::run(cache, program, {rows, 1, 1}, arguments);
          }
          results[which] = in_place ? x.v : y.v;
          results[which].insert(results[which].end(), sums.begin(), sums.end());
        }
        CHECK(results[0] == results[1]);
      }
    }
  }
}

TEST_CASE("chip/npu_codegen: 8-bit floats are loaded, computed with in f32, rounded and stored") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CHECK(compare({}, tile::trace<small_floats>(), seed) == "");
  }
}

TEST_CASE("chip/npu_codegen: products of 8-bit floats have the interpreter's bits") {
  const auto check = [](const tile::program& p, auto zero) {
    using T = decltype(zero);
    const codegen::compiled made = codegen::compile({}, p);
    const bool scaled = p.parameter_count == 5;
    for (const std::int64_t m : {1, 7, 9}) {
      for (const std::int64_t depth : {0, 32, 64, 96, 100}) {
        CAPTURE(m);
        CAPTURE(depth);
        std::array<std::vector<float>, 2> results;
        for (std::size_t which = 0; which < 2; ++which) {
          tile_test::dice d(static_cast<std::uint64_t>(1000 * m + depth));
          matrix<T> a(m, depth, 0, d);
          matrix<T> b(depth, m + 10, 1, d);
          matrix<std::uint8_t> scale_a(m, (depth + 31) / 32, 0, d);
          matrix<std::uint8_t> scale_b((depth + 31) / 32, m + 10, 0, d);
          for (auto* scales : {&scale_a.v, &scale_b.v}) {
            for (std::uint8_t& x : *scales) {
              x = static_cast<std::uint8_t>(d.between(120, 133));
            }
          }
          matrix<float> c(m, m + 10, 2, d);
          std::vector<tile::argument> arguments{a.template as<const T>(), b.template as<const T>(),
                                                c.as<float>()};
          if (scaled) {
            arguments = {a.template as<const T>(), scale_a.as<const std::uint8_t>(),
                         b.template as<const T>(), scale_b.as<const std::uint8_t>(), c.as<float>()};
          }
          const tile::grid size{2, 2, 1};
          if (which == 0) {
            tile::interpret<machine_math>(p, size, arguments);
          } else {
            codegen::launch(made, size, arguments);
          }
          results[which] = c.v;
        }
        CHECK(results[0] == results[1]);
      }
    }
  };
  check(tile::trace<small_product<ashlar::float8_e4m3>>(), ashlar::float8_e4m3{});
  check(tile::trace<small_product<ashlar::float8_e5m2>>(), ashlar::float8_e5m2{});
  check(tile::trace<tile_kernels::microscaled_product<8, 16>>(), ashlar::float8_e4m3{});
}

TEST_CASE("chip/npu_codegen: Welford's combine, a reduction of three numbers each") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CHECK(compare({}, tile::trace<spread<float, 1>>(), seed) == "");
    CHECK(compare({}, tile::trace<spread<float, 37>>(), seed) == "");
    CHECK(compare({}, tile::trace<spread<double, 19>>(), seed) == "");
  }
  // Against two passes in f64: n + 4 roundings of sums of n numbers below 2 in magnitude, and of
  // squares below 16.
  constexpr int n = 37;
  tile_test::dice d(1);
  matrix<float> x(4, n, 0, d);
  matrix<float> y(4, 2, 0, d);
  const std::vector<tile::argument> arguments{x.as<const float>(), y.as<float>()};
  codegen::launch(codegen::compile({}, tile::trace<spread<float, n>>()), {1, 1, 1}, arguments);
  for (std::int64_t i = 0; i < 4; ++i) {
    const auto at = [&](const matrix<float>& m, std::int64_t j) {
      return static_cast<double>(
          m.v[static_cast<std::size_t>(m.first + i * m.strides[0] + j * m.strides[1])]);
    };
    double mean = 0;
    double far = 0;
    for (int j = 0; j < n; ++j) {
      mean += at(x, j) / n;
    }
    for (int j = 0; j < n; ++j) {
      far += (at(x, j) - mean) * (at(x, j) - mean);
    }
    CHECK(std::abs(at(y, 0) - mean) <= (n + 4) * 0x1p-24 * 2);
    CHECK(std::abs(at(y, 1) - far) <= (n + 4) * 0x1p-24 * 16 * n);
  }
}

TEST_CASE("chip/npu_codegen: casts saturate or go towards zero as the program says") {
  const tile::program program = tile::trace<roundings>();
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CHECK(compare({}, program, seed) == "");
  }
}
