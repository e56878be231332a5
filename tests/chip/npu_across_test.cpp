// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"
#include "chip/npu_harness.hpp"

using namespace npu_harness;
using isa::opcode;
using isa::scratch_tile;
using tiles = std::span<const scratch_tile>;
namespace simd = ashlar::simd;

namespace {

constexpr std::array<std::array<std::int32_t, 2>, 8> shapes{
    {{0, 5}, {5, 0}, {1, 1}, {3, 17}, {2, 300}, {31, 1}, {16, 64}, {7, 15}}};

std::mt19937 generator(5);

template <class T>
matrix<T> any_matrix(std::int32_t r, std::int32_t c) {
  return matrix<T>(r, c, [](int, int) {
    return static_cast<T>(std::uniform_real_distribution<float>(-9, 9)(generator));
  });
}

/// The steps of a reduction or a scan, in the type that the unit computes in.
template <class T>
struct combine {
  using C = std::conditional_t<std::is_integral_v<T>, std::int64_t, float>;
  opcode op;
  [[nodiscard]] C neutral() const {
    using limits = std::numeric_limits<C>;
    const bool integer = std::is_integral_v<T>;
    switch (op) {
      case opcode::v_sum:
        return C(0);
      case opcode::v_prod:
        return C(1);
      case opcode::v_rmin:
        return integer ? static_cast<C>(std::numeric_limits<T>::max()) : limits::infinity();
      default:
        return integer ? static_cast<C>(std::numeric_limits<T>::min()) : -limits::infinity();
    }
  }
  C operator()(C a, C b) const {
    switch (op) {
      case opcode::v_sum:
      case opcode::v_scan_sum:
        return a + b;
      case opcode::v_prod:
      case opcode::v_scan_prod:
        return a * b;
      case opcode::v_rmin:
      case opcode::v_scan_min:
        return a != a || a < b ? a : b;
      default:
        return a != a || a > b ? a : b;
    }
  }
};

/// The naive twin of a reduction of one line.
template <class T>
T reduced(opcode op, const std::vector<T>& line, bool in_lanes) {
  const combine<T> f{op};
  using C = typename combine<T>::C;
  if (!in_lanes) {
    C total = f.neutral();
    for (const T& x : line) {
      total = f(total, static_cast<C>(x));
    }
    return static_cast<T>(total);
  }
  std::array<C, 16> lane;
  lane.fill(f.neutral());
  for (std::size_t k = 0; k < line.size(); ++k) {
    lane[k % 16] = f(lane[k % 16], static_cast<C>(line[k]));
  }
  for (const std::size_t half : {8u, 4u, 2u, 1u}) {
    for (std::size_t k = 0; k < half; ++k) {
      lane[k] = f(lane[k], lane[k + half]);
    }
  }
  return static_cast<T>(lane[0]);
}

template <class T>
void check_reductions() {
  for (const opcode op : {opcode::v_sum, opcode::v_prod, opcode::v_rmin, opcode::v_rmax}) {
    for (const auto& shape : shapes) {
      const std::int32_t r = shape[0], c = shape[1];
      const auto x = any_matrix<T>(r, c);
      for (const bool sequential : {false, true}) {
        if (sequential && op > opcode::v_prod) {
          continue;
        }
        const auto by_row =
            evaluate([&](isa::builder& b, tiles t) { b.along(op, 1, t[0], t[1], sequential); },
                     matrix<T>(r, 1), x);
        const matrix<T> expected(r, 1, [&](int i, int) {
          std::vector<T> line;
          for (int j = 0; j < c; ++j) {
            line.push_back(x(i, j));
          }
          return reduced(op, line, !sequential);
        });
        CHECK(differences(by_row, expected) == 0);
      }
      const auto by_column = evaluate([&](isa::builder& b, tiles t) { b.along(op, 0, t[0], t[1]); },
                                      matrix<T>(1, c), x);
      const matrix<T> expected(1, c, [&](int, int j) {
        std::vector<T> line;
        for (int i = 0; i < r; ++i) {
          line.push_back(x(i, j));
        }
        return reduced(op, line, false);
      });
      CHECK(differences(by_column, expected) == 0);
    }
  }
}

template <class T>
void check_scans() {
  for (const opcode op :
       {opcode::v_scan_sum, opcode::v_scan_prod, opcode::v_scan_min, opcode::v_scan_max}) {
    const combine<T> f{op};
    using C = typename combine<T>::C;
    for (const auto& shape : shapes) {
      const std::int32_t r = shape[0], c = shape[1];
      const auto x = any_matrix<T>(r, c);
      for (const int axis : {0, 1}) {
        const auto got = evaluate([&](isa::builder& b, tiles t) { b.along(op, axis, t[0], t[1]); },
                                  matrix<T>(r, c), x);
        matrix<T> expected(r, c);
        for (int line = 0; line < (axis == 1 ? r : c); ++line) {
          C total{};
          for (int k = 0; k < (axis == 1 ? c : r); ++k) {
            const int i = axis == 1 ? line : k;
            const int j = axis == 1 ? k : line;
            total = k == 0 ? static_cast<C>(x(i, j)) : f(total, static_cast<C>(x(i, j)));
            expected(i, j) = static_cast<T>(total);
          }
        }
        CHECK(differences(got, expected) == 0);
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("chip/npu/vector: reductions run in the order that the manual states", T, float,
                   ashlar::bfloat16, std::int8_t, std::int32_t) {
  check_reductions<T>();
}

TEST_CASE("chip/npu/vector: a sum along a row has the bits of the host's sixteen lanes") {
  const auto x = any_matrix<float>(1, 48);
  const auto got =
      evaluate([&](isa::builder& b, tiles t) { b.along(opcode::v_sum, 1, t[0], t[1]); },
               matrix<float>(1, 1), x);
  const float* p = x.v.data();
  CHECK(got(0, 0) == simd::sum(simd::load(p) + simd::load(p + 16) + simd::load(p + 32)));
}

TEST_CASE_TEMPLATE("chip/npu/vector: scans hold every prefix", T, float, ashlar::float16,
                   std::int32_t) {
  check_scans<T>();
}

TEST_CASE("chip/npu/vector: argmin and argmax find the first, and a NaN before all numbers") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  matrix<float> x(3, 5);
  x.v = {1, 7,   7, -2,  -2,  //
         0, 0,   0, 0,   0,   //
         3, nan, 9, nan, -4};
  const auto run = [&](opcode op, int axis) {
    return evaluate([&](isa::builder& b, tiles t) { b.along(op, axis, t[0], t[1]); },
                    matrix<std::int32_t>(axis == 1 ? 3 : 1, axis == 1 ? 1 : 5), x)
        .v;
  };
  CHECK(run(opcode::v_argmax, 1) == std::vector<std::int32_t>{1, 0, 1});
  CHECK(run(opcode::v_argmin, 1) == std::vector<std::int32_t>{3, 0, 1});
  CHECK(run(opcode::v_argmax, 0) == std::vector<std::int32_t>{2, 2, 2, 2, 1});
  CHECK(run(opcode::v_argmin, 0) == std::vector<std::int32_t>{1, 2, 1, 2, 2});
}

namespace {

template <class R, class S>
void check_cast() {
  CAPTURE(isa::name_of(element_of<R>()));
  CAPTURE(isa::name_of(element_of<S>()));
  matrix<S> x(5, 37, [](int i, int j) {
    constexpr std::array<float, 12> special{
        0.0F,   -0.0F, 0.5F,  -0.5F, 2.5F,   300.0F,
        -300.F, 3e9F,  -3e9F, 1e20F, -1e20F, std::numeric_limits<float>::infinity()};
    const float any = std::uniform_real_distribution<float>(-200, 200)(generator);
    if constexpr (std::is_integral_v<S>) {
      return static_cast<S>((static_cast<std::uint64_t>(generator()) << 32) | generator());
    } else {
      return static_cast<S>(i == 0 && j < 12 ? special[static_cast<std::size_t>(j)] : any);
    }
  });
  if constexpr (!std::is_integral_v<S>) {
    x(1, 1) = static_cast<S>(std::numeric_limits<float>::quiet_NaN());
  }
  const auto got =
      evaluate([](isa::builder& b, tiles t) { b.cast(t[0], t[1]); }, matrix<R>(5, 37), x);
  const matrix<R> expected(
      5, 37, [&](int i, int j) { return ashlar::chip::host_kernels::convert<R>(x(i, j)); });
  CHECK(differences(got, expected) == 0);
}

template <class S>
void check_casts_from() {
  check_cast<std::uint8_t, S>();
  check_cast<std::int8_t, S>();
  check_cast<std::int32_t, S>();
  check_cast<std::int64_t, S>();
  check_cast<ashlar::float16, S>();
  check_cast<ashlar::bfloat16, S>();
  check_cast<float, S>();
}

}  // namespace

TEST_CASE_TEMPLATE("chip/npu/vector: casts have the bits of the host's conversions", S,
                   std::uint8_t, std::int8_t, std::int32_t, std::int64_t, ashlar::float16,
                   ashlar::bfloat16, float) {
  check_casts_from<S>();
}

TEST_CASE("chip/npu/vector: casts to and from booleans") {
  matrix<float> x(1, 4);
  x.v = {0.0F, -0.0F, 2.0F, std::numeric_limits<float>::quiet_NaN()};
  const auto truth = evaluate([](isa::builder& b, tiles t) { b.cast(t[0], t[1]); },
                              matrix<std::uint8_t>(1, 4, isa::element::boolean), x);
  CHECK(truth.v == std::vector<std::uint8_t>{0, 0, 1, 1});
  const auto numbers =
      evaluate([](isa::builder& b, tiles t) { b.cast(t[0], t[1]); }, matrix<float>(1, 4), truth);
  CHECK(numbers.v == std::vector<float>{0, 0, 1, 1});
}

TEST_CASE("chip/npu/vector: casts towards zero give the next number that is no larger") {
  const matrix<float> x(1, 2000, [](int, int j) {
    return std::uniform_real_distribution<float>(-2, 2)(generator) * std::ldexp(1.0F, j % 60 - 30);
  });
  const auto down = [](isa::builder& b, tiles t) {
    isa::instruction i{.op = isa::opcode::v_cast,
                       .unit = isa::vector_unit,
                       .type = t[0].type,
                       .from = t[1].type,
                       .mode = 1,
                       .rows = t[0].rows,
                       .cols = t[0].cols,
                       .dst = t[0].as_operand(),
                       .a = t[1].as_operand()};
    b.emit(i);
  };
  const auto near = [](isa::builder& b, tiles t) { b.cast(t[0], t[1]); };
  const auto check = [&]<class T>(T) {
    const auto cut = evaluate(down, matrix<T>(1, 2000), x);
    const auto rounded = evaluate(near, matrix<T>(1, 2000), x);
    int wrong = 0;
    for (std::int32_t j = 0; j < 2000; ++j) {
      const float exact = std::fabs(x(0, j));
      const float y = std::fabs(static_cast<float>(rounded(0, j)));
      T expected = rounded(0, j);
      expected.bits = static_cast<std::uint16_t>(expected.bits - (y > exact ? 1 : 0));
      wrong += cut(0, j).bits == expected.bits ? 0 : 1;
    }
    CHECK(wrong == 0);
  };
  check(ashlar::float16());
  check(ashlar::bfloat16());
}

TEST_CASE("chip/npu/vector: f64 has the bits of double") {
  const matrix<double> x(
      3, 37, [](int, int) { return std::uniform_real_distribution<double>(-2, 2)(generator); });
  const matrix<double> y(
      3, 37, [](int, int) { return std::uniform_real_distribution<double>(1, 2)(generator); });
  const auto sum = evaluate(
      [](isa::builder& b, tiles t) {
        b.binary(isa::opcode::v_div, t[0], t[1], t[2]);
        b.binary(isa::opcode::v_sub, t[0], t[0], t[1]);
      },
      matrix<double>(3, 37), x, y);
  const auto narrow =
      evaluate([](isa::builder& b, tiles t) { b.cast(t[0], t[1]); }, matrix<float>(3, 37), x);
  const auto whole = evaluate([](isa::builder& b, tiles t) { b.cast(t[0], t[1]); },
                              matrix<std::int32_t>(3, 37), x);
  int wrong = 0;
  for (std::size_t k = 0; k < x.v.size(); ++k) {
    wrong += sum.v[k] == x.v[k] / y.v[k] - x.v[k] ? 0 : 1;
    wrong += narrow.v[k] == static_cast<float>(x.v[k]) ? 0 : 1;
    wrong += whole.v[k] == static_cast<std::int32_t>(x.v[k]) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("chip/npu/vector: sums begin with an element, so that -0 stays") {
  const matrix<float> x(2, 5, [](int, int) { return -0.0F; });
  const auto sum =
      evaluate([](isa::builder& b, tiles t) { b.along(isa::opcode::v_sum, 1, t[0], t[1]); },
               matrix<float>(2, 1), x);
  CHECK(std::signbit(sum.v[0]));
  CHECK(std::signbit(sum.v[1]));
}

TEST_CASE("chip/npu/vector: 8-bit floats round to the nearest, ties to even") {
  for (const isa::element type : {isa::element::e4m3, isa::element::e5m2}) {
    const matrix<std::uint8_t> codes(
        1, 256, [](int, int j) { return static_cast<std::uint8_t>(j); }, type);
    const auto cast = [](isa::builder& b, tiles t) { b.cast(t[0], t[1]); };
    const auto values = evaluate(cast, matrix<float>(1, 256), codes);
    // Known numbers: OCP 8-bit floating point, revision 1.0.
    const bool e4m3 = type == isa::element::e4m3;
    CHECK(values.v[0x38] == (e4m3 ? 1.0F : 0.5F));
    CHECK(values.v[0x01] == (e4m3 ? 0x1p-9F : 0x1p-16F));
    CHECK(values.v[e4m3 ? 0x7e : 0x7b] == (e4m3 ? 448.0F : 57344.0F));
    CHECK(std::isnan(values.v[0x7f]));
    CHECK(std::isinf(values.v[0x7c]) == !e4m3);
    const auto back = evaluate(cast, matrix<std::uint8_t>(1, 256, type), values);
    for (std::size_t code = 0; code < 256; ++code) {
      CHECK((back.v[code] == codes.v[code] || std::isnan(values.v[code])));
    }
    matrix<float> x(1, 4000, [&](int, int j) {
      const float most = e4m3 ? 448.0F : 57344.0F;
      return j < 2000 ? std::uniform_real_distribution<float>(-most, most)(generator)
                      : std::uniform_real_distribution<float>(-0.02F, 0.02F)(generator);
    });
    for (std::int32_t j = 0; j < 100; ++j) {  // ties
      x(0, j) =
          (values.v[static_cast<std::size_t>(j)] + values.v[static_cast<std::size_t>(j) + 1]) / 2;
    }
    const auto rounded = evaluate(cast, matrix<std::uint8_t>(1, 4000, type), x);
    int wrong = 0;
    for (std::int32_t j = 0; j < 4000; ++j) {
      double best = std::numeric_limits<double>::infinity();
      std::size_t nearest = 0;
      for (std::size_t code = 0; code < 256; ++code) {
        const double error =
            std::fabs(static_cast<double>(values.v[code]) - static_cast<double>(x(0, j)));
        if (std::isfinite(values.v[code]) &&
            (error < best || (error == best && code % 2 == 0 && nearest % 2 != 0))) {
          best = error;
          nearest = code;
        }
      }
      wrong += values.v[rounded.v[static_cast<std::size_t>(j)]] == values.v[nearest] ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}
