// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/simd/math.hpp"
#include "chip/npu_harness.hpp"

using namespace npu_harness;
using isa::opcode;
using isa::scratch_tile;
namespace simd = ashlar::simd;

namespace {

constexpr std::array<std::array<std::int32_t, 2>, 7> shapes{
    {{0, 5}, {5, 0}, {1, 1}, {3, 17}, {1, 300}, {31, 1}, {16, 64}}};

std::mt19937 generator(3);

/// Random numbers among which every special one occurs.
template <class T>
T any_number() {
  const auto below = [](int n) { return std::uniform_int_distribution<int>(0, n - 1)(generator); };
  if constexpr (std::is_integral_v<T>) {
    constexpr std::array special{T(0), T(1), static_cast<T>(-1), std::numeric_limits<T>::min(),
                                 std::numeric_limits<T>::max()};
    return below(4) == 0
               ? special[static_cast<std::size_t>(below(5))]
               : static_cast<T>((static_cast<std::uint64_t>(generator()) << 32) | generator());
  } else {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    constexpr std::array special{0.0F, -0.0F, 1.0F, inf, -inf, nan, 1e-40F, 300.0F, 1e30F};
    return below(4) == 0
               ? static_cast<T>(special[static_cast<std::size_t>(below(9))])
               : static_cast<T>(std::uniform_real_distribution<float>(-20, 20)(generator));
  }
}
template <class T>
matrix<T> any_matrix(std::int32_t r, std::int32_t c) {
  return matrix<T>(r, c, [](int, int) { return any_number<T>(); });
}

using tiles = std::span<const scratch_tile>;

/// Checks one instruction with one source against `twin`, element by element.
template <class T>
void check_unary(opcode op, const std::type_identity_t<std::function<T(T)>>& twin) {
  for (const auto& shape : shapes) {
    const std::int32_t r = shape[0], c = shape[1];
    const auto a = any_matrix<T>(r, c);
    const auto got =
        evaluate([&](isa::builder& b, tiles t) { b.unary(op, t[0], t[1]); }, matrix<T>(r, c), a);
    CAPTURE(isa::info_of(op).name);
    CAPTURE(r);
    CAPTURE(c);
    const matrix<T> expected(r, c, [&](int i, int j) { return twin(a(i, j)); });
    CHECK(differences(got, expected) == 0);
  }
}

/// Two sources: boxes, then a repeated column and a repeated row.
template <class T, class R = T>
void check_binary(opcode op, const std::type_identity_t<std::function<R(T, T)>>& twin,
                  isa::element result = element_of<R>()) {
  CAPTURE(isa::info_of(op).name);
  for (const auto& shape : shapes) {
    const std::int32_t r = shape[0], c = shape[1];
    CAPTURE(r);
    CAPTURE(c);
    const auto x = any_matrix<T>(r, c);
    const auto y = any_matrix<T>(r, c);
    for (const bool repeated : {false, true}) {
      if (repeated && (r == 0 || c == 0)) {
        continue;
      }
      const auto got = evaluate(
          [&](isa::builder& b, tiles t) {
            b.binary(op, element_of<T>(), t[0], repeated ? t[1].repeated_cols(c) : t[1],
                     repeated ? t[2].repeated_rows(r) : t[2]);
          },
          matrix<R>(r, c, result), x, y);
      const matrix<R> expected(r, c, [&](int i, int j) {
        return repeated ? twin(x(i, 0), y(0, j)) : twin(x(i, j), y(i, j));
      });
      CHECK(differences(got, expected) == 0);
    }
  }
}

template <class T>
void check_compare(opcode op, bool (*twin)(T, T)) {
  check_binary<T, std::uint8_t>(
      op, [twin](T a, T b) { return static_cast<std::uint8_t>(twin(a, b) ? 1 : 0); },
      isa::element::boolean);
}

template <class T>
void check_comparisons() {
  check_compare<T>(opcode::v_eq, [](T a, T b) { return a == b; });
  check_compare<T>(opcode::v_ne, [](T a, T b) { return a != b; });
  check_compare<T>(opcode::v_lt, [](T a, T b) { return a < b; });
  check_compare<T>(opcode::v_le, [](T a, T b) { return a <= b; });
  check_compare<T>(opcode::v_gt, [](T a, T b) { return a > b; });
  check_compare<T>(opcode::v_ge, [](T a, T b) { return a >= b; });
}

}  // namespace

TEST_CASE_TEMPLATE("chip/npu/vector: functions of floats have the bits of the host's vectors", T,
                   float, ashlar::float16, ashlar::bfloat16) {
  const auto check = [](opcode op, float (*f)(float)) {
    check_unary<T>(op, [f](T x) { return static_cast<T>(f(static_cast<float>(x))); });
  };
  check(opcode::v_copy, [](float x) { return x; });
  check(opcode::v_neg, [](float x) { return -x; });
  check(opcode::v_abs, [](float x) { return std::fabs(x); });
  check(opcode::v_exp, [](float x) { return simd::exp(x); });
  check(opcode::v_log, [](float x) { return simd::log(x); });
  check(opcode::v_sqrt, [](float x) { return simd::sqrt(x); });
  check(opcode::v_rsqrt, [](float x) { return simd::rsqrt(x); });
  check(opcode::v_tanh, [](float x) { return simd::tanh(x); });
  check(opcode::v_sigmoid, [](float x) { return simd::sigmoid(x); });
  check(opcode::v_erf, [](float x) { return simd::erf(x); });
  check(opcode::v_floor, [](float x) { return std::floor(x); });
}

TEST_CASE_TEMPLATE("chip/npu/vector: arithmetic of floats rounds once", T, float, ashlar::float16,
                   ashlar::bfloat16) {
  const auto check = [](opcode op, float (*f)(float, float)) {
    check_binary<T>(op, [f](T x, T y) {
      return static_cast<T>(f(static_cast<float>(x), static_cast<float>(y)));
    });
  };
  check(opcode::v_add, [](float a, float b) { return a + b; });
  check(opcode::v_sub, [](float a, float b) { return a - b; });
  check(opcode::v_mul, [](float a, float b) { return a * b; });
  check(opcode::v_div, [](float a, float b) { return a / b; });
  check(opcode::v_min, [](float a, float b) { return a != a || a < b ? a : b; });
  check(opcode::v_max, [](float a, float b) { return a != a || a > b ? a : b; });
  check_comparisons<T>();
}

TEST_CASE_TEMPLATE("chip/npu/vector: integers wrap around", T, std::uint8_t, std::int8_t,
                   std::int32_t, std::int64_t) {
  using U = std::make_unsigned_t<T>;
  constexpr int bits = 8 * static_cast<int>(sizeof(T));
  const auto u = [](T x) { return static_cast<std::uint64_t>(static_cast<U>(x)); };
  const auto s = [](T y) { return static_cast<int>(static_cast<U>(y) % bits); };
  check_unary<T>(opcode::v_neg, [&](T x) { return static_cast<T>(0 - u(x)); });
  check_unary<T>(opcode::v_abs, [&](T x) { return static_cast<T>(x < 0 ? 0 - u(x) : u(x)); });
  check_unary<T>(opcode::v_not, [&](T x) { return static_cast<T>(~u(x)); });
  check_binary<T>(opcode::v_add, [&](T a, T b) { return static_cast<T>(u(a) + u(b)); });
  check_binary<T>(opcode::v_sub, [&](T a, T b) { return static_cast<T>(u(a) - u(b)); });
  check_binary<T>(opcode::v_mul, [&](T a, T b) { return static_cast<T>(u(a) * u(b)); });
  check_binary<T>(opcode::v_div, [&](T a, T b) {
    return b == 0                                           ? T(0)
           : b == static_cast<T>(-1) && std::is_signed_v<T> ? static_cast<T>(0 - u(a))
                                                            : static_cast<T>(a / b);
  });
  check_binary<T>(opcode::v_min, [](T a, T b) { return std::min(a, b); });
  check_binary<T>(opcode::v_max, [](T a, T b) { return std::max(a, b); });
  check_binary<T>(opcode::v_and, [](T a, T b) { return static_cast<T>(a & b); });
  check_binary<T>(opcode::v_or, [](T a, T b) { return static_cast<T>(a | b); });
  check_binary<T>(opcode::v_xor, [](T a, T b) { return static_cast<T>(a ^ b); });
  check_binary<T>(opcode::v_shl, [&](T a, T b) { return static_cast<T>(u(a) << s(b)); });
  check_binary<T>(opcode::v_shr, [&](T a, T b) { return static_cast<T>(a >> s(b)); });
  check_binary<T>(opcode::v_shru, [&](T a, T b) { return static_cast<T>(u(a) >> s(b)); });
  if constexpr (std::is_same_v<T, std::int32_t>) {
    check_binary<T>(opcode::v_mulhu, [&](T a, T b) { return static_cast<T>(u(a) * u(b) >> 32); });
  }
  check_comparisons<T>();
}

TEST_CASE("chip/npu/vector: sources may be registers and constants") {
  const auto x = any_matrix<float>(3, 19);
  const auto scaled = evaluate(
      [](isa::builder& b, tiles t) {
        const scratch_tile &to = t[0], &a = t[1];
        const isa::scalar half = b.constant(0.5F);
        b.binary(opcode::v_mul, to, a, half);
        b.binary(opcode::v_sub, to, 3.0F, to);
        b.ternary(opcode::v_fma, to, to, to, 3.0F);
      },
      matrix<float>(3, 19), x);
  CHECK(differences(scaled, matrix<float>(3, 19, [&](int i, int j) {
                      const float y = 3.0F - x(i, j) * 0.5F;
                      return simd::madd(y, y, 3.0F);
                    })) == 0);
  const auto n = any_matrix<std::int8_t>(3, 19);
  const auto nibble = evaluate(
      [](isa::builder& b, tiles t) {
        const scratch_tile &to = t[0], &a = t[1];
        b.binary(opcode::v_shl, to, a, 4);
        b.binary(opcode::v_shr, to, to, 4);  // the low four bits with their sign
      },
      matrix<std::int8_t>(3, 19), n);
  CHECK(differences(nibble, matrix<std::int8_t>(3, 19, [&](int i, int j) {
                      const int low = n(i, j) & 15;
                      return static_cast<std::int8_t>(low < 8 ? low : low - 16);
                    })) == 0);
  const auto filled = evaluate(
      [](isa::builder& b, tiles t) {
        const scratch_tile& to = t[0];
        b.unary(opcode::v_copy, to, b.constant(1.5F));
        b.fill(to.part(1, 2, 1, 2), 0x3c00);
      },
      matrix<ashlar::float16>(2, 5));
  CHECK(differences(filled, matrix<ashlar::float16>(2, 5, [](int i, int j) {
                      return ashlar::float16(i == 1 && (j == 2 || j == 3) ? 1.0F : 1.5F);
                    })) == 0);
  isa::builder b;
  const scratch_tile t = b.allocate(isa::element::f32, 1, 1);
  CHECK_THROWS_AS(b.binary(opcode::v_add, t, 1.0F, 2.0F), ashlar::argument_error);
}

TEST_CASE("chip/npu/vector: select, iota, transpose and booleans") {
  for (const auto& shape : shapes) {
    const std::int32_t r = shape[0], c = shape[1];
    const auto x = any_matrix<float>(r, c);
    const auto y = any_matrix<float>(r, c);
    const matrix<std::uint8_t> m(
        r, c, [](int i, int j) { return static_cast<std::uint8_t>((i + j) % 3 == 0 ? 1 : 0); },
        isa::element::boolean);
    const auto chosen = evaluate(
        [](isa::builder& b, tiles t) { b.ternary(opcode::v_select, t[0], t[1], t[2], t[3]); },
        matrix<float>(r, c), m, x, y);
    CHECK(differences(chosen, matrix<float>(r, c, [&](int i, int j) {
                        return m(i, j) != 0 ? x(i, j) : y(i, j);
                      })) == 0);
    const auto negated = evaluate(
        [](isa::builder& b, tiles t) {
          const scratch_tile &to = t[0], &mask = t[1];
          b.unary(opcode::v_not, to, mask);
          b.binary(opcode::v_and, to, to, mask);
          b.binary(opcode::v_or, to, to, mask);
        },
        matrix<std::uint8_t>(r, c, isa::element::boolean), m);
    CHECK(negated.v == m.v);
    const auto opposite =
        evaluate([](isa::builder& b, tiles t) { b.unary(opcode::v_not, t[0], t[1]); },
                 matrix<std::uint8_t>(r, c, isa::element::boolean), m);
    for (std::size_t i = 0; i < m.v.size(); ++i) {
      CHECK(opposite.v[i] == 1 - m.v[i]);
    }
    for (const int axis : {0, 1}) {
      const auto counted =
          evaluate([&](isa::builder& b, tiles t) { b.iota(t[0], axis, b.constant(-3)); },
                   matrix<std::int32_t>(r, c));
      CHECK(differences(counted, matrix<std::int32_t>(r, c, [&](int i, int j) {
                          return (axis == 0 ? i : j) - 3;
                        })) == 0);
    }
    const auto turned =
        evaluate([](isa::builder& b, tiles t) { b.transpose(t[0], t[1]); }, matrix<float>(c, r), x);
    CHECK(differences(turned, matrix<float>(c, r, [&](int i, int j) { return x(j, i); })) == 0);
  }
}

TEST_CASE("chip/npu/vector: gather fills and scatter drops what is out of range") {
  const auto table = any_matrix<float>(7, 9);
  for (const int axis : {0, 1}) {
    const std::int32_t r = axis == 0 ? 5 : 7;
    const std::int32_t c = axis == 0 ? 9 : 4;
    const int limit = axis == 0 ? 7 : 9;
    const matrix<std::int32_t> index(
        r, c, [&](int i, int j) { return (i * 5 + j * 3) % (limit + 2) - 1; });
    const auto place = [&](int i, int j) {
      return axis == 0 ? std::array{index(i, j), j} : std::array{i, index(i, j)};
    };
    const auto inside = [&](int i, int j) { return index(i, j) >= 0 && index(i, j) < limit; };
    const auto got =
        evaluate([&](isa::builder& b, tiles t) { b.gather(axis, t[0], t[1], t[2], 0x3f800000); },
                 matrix<float>(r, c), table, index);
    CHECK(differences(got, matrix<float>(r, c, [&](int i, int j) {
                        return inside(i, j) ? table(place(i, j)[0], place(i, j)[1]) : 1.0F;
                      })) == 0);
    for (const opcode op : {opcode::v_scatter, opcode::v_scatter_add}) {
      const auto x = any_matrix<float>(r, c);
      matrix<float> expected(7, 9);
      for (std::int32_t i = 0; i < r; ++i) {
        for (std::int32_t j = 0; j < c; ++j) {
          if (inside(i, j)) {
            float& cell = expected(place(i, j)[0], place(i, j)[1]);
            cell = op == opcode::v_scatter ? x(i, j) : cell + x(i, j);
          }
        }
      }
      const auto scattered =
          evaluate([&](isa::builder& b, tiles t) { b.scatter(op, axis, t[0], t[1], t[2]); },
                   matrix<float>(7, 9), x, index);
      CHECK(differences(scattered, expected) == 0);
    }
  }
}
