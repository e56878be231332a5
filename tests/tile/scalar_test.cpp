// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/scalar.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_random.hpp"

namespace tile = ashlar::tile;
namespace eval = ashlar::tile::eval;
using ashlar::bfloat16;
using ashlar::dtype;
using ashlar::float16;
using tile::opcode;
using tile::rounding;

namespace {

using i8 = std::int8_t;
using u8 = std::uint8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

template <class T>
constexpr T most = std::numeric_limits<T>::max();
template <class T>
constexpr T least = std::numeric_limits<T>::lowest();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// What the operations mean, decided at compile time.

static_assert(eval::binary(opcode::add, most<i32>, 1) == least<i32>);
static_assert(eval::binary(opcode::mul, u8{16}, u8{17}) == 16);
static_assert(eval::binary(opcode::div, least<i64>, i64{-1}) == least<i64>);
static_assert(eval::binary(opcode::div, -7, 0) == 0);
static_assert(eval::binary(opcode::rem, -7, 2) == -1);
static_assert(eval::binary(opcode::rem, -7, 0) == -7);
static_assert(eval::binary(opcode::rem, least<i64>, i64{-1}) == 0);
static_assert(eval::binary(opcode::shift_left, 1, 31) == least<i32>);
static_assert(eval::binary(opcode::shift_left, 1, 32) == 0);
static_assert(eval::binary(opcode::shift_left, 1, -1) == 0);
static_assert(eval::binary(opcode::shift_right, i8{-128}, i8{3}) == -16);
static_assert(eval::binary(opcode::shift_right, i8{-128}, i8{8}) == -1);
static_assert(eval::binary(opcode::shift_right, i8{127}, i8{-1}) == 0);
static_assert(eval::binary(opcode::shift_right, u8{255}, u8{7}) == 1);
static_assert(eval::binary(opcode::shift_right, u8{255}, u8{8}) == 0);
static_assert(eval::binary(opcode::bit_xor, u8{0xf0}, u8{0xff}) == 0x0f);
static_assert(!eval::binary(opcode::bit_xor, true, true));
static_assert(eval::unary(opcode::bit_not, u8{0x0f}) == 0xf0);
static_assert(!eval::unary(opcode::bit_not, true));
static_assert(eval::unary(opcode::abs, least<i32>) == least<i32>);
static_assert(eval::unary(opcode::neg, u8{1}) == 255);
static_assert(eval::unary(opcode::abs, -2.5f) == 2.5f);
static_assert(eval::unary(opcode::floor, -2.5f) == -3.0f);
static_assert(eval::unary(opcode::floor, -1e30f) == -1e30f);
static_assert(eval::unary(opcode::floor, infinity) == infinity);
static_assert(std::bit_cast<i32>(eval::unary(opcode::floor, -0.0f)) == least<i32>);
static_assert(eval::binary(opcode::max, -1.0f, 2.0f) == 2.0f);
static_assert(eval::binary(opcode::max, nan, 1.0f) != eval::binary(opcode::max, nan, 1.0f));
static_assert(eval::binary(opcode::min, 1.0f, nan) != eval::binary(opcode::min, 1.0f, nan));
static_assert(!eval::compare(opcode::less_equal, nan, nan));
static_assert(eval::compare(opcode::not_equal, nan, nan));
static_assert(eval::compare(opcode::less, i64{-1}, i64{0}));

static_assert(eval::cast<i32>(2147483648.0f) == most<i32>);
static_assert(eval::cast<i32>(2147483520.0f) == 2147483520);
static_assert(eval::cast<i32>(-infinity) == least<i32>);
static_assert(eval::cast<i32>(nan) == 0);
static_assert(eval::cast<i32>(-2.9) == -2);
static_assert(eval::cast<u8>(-0.9f) == 0);
static_assert(eval::cast<u8>(255.9f) == 255);
static_assert(eval::cast<u8>(1e30f) == 255);
static_assert(eval::cast<i8>(-128.9f) == -128);
static_assert(eval::cast<i8>(-129.0f) == -128);
static_assert(eval::cast<i64>(0x1p63) == most<i64>);
static_assert(eval::cast<i64>(-0x1p63) == least<i64>);
static_assert(eval::cast<u8>(i32{-1}) == 255);
static_assert(eval::cast<i8>(i64{0x1ff}) == -1);
static_assert(eval::cast<bool>(0.25f) && eval::cast<bool>(nan) && !eval::cast<bool>(-0.0f));
static_assert(eval::cast<float>(true) == 1.0f);
static_assert(eval::cast<float>(1e300) == infinity);
static_assert(eval::cast<float>(1e300, rounding::toward_zero) == most<float>);
static_assert(eval::cast<float16>(65520.0f) == infinity);
static_assert(eval::cast<float16>(65520.0f, rounding::toward_zero) == 65504.0f);
static_assert(eval::cast<float16>(-infinity, rounding::toward_zero) == -infinity);
static_assert(eval::cast<bfloat16>(-1.00390625f) == -1.0f);
static_assert(eval::cast<bfloat16>(1.01171875f) == 1.015625f);
static_assert(eval::cast<bfloat16>(1.01171875f, rounding::toward_zero) == 1.0078125f);
static_assert(eval::bitcast<i32>(1.0f) == 0x3f800000);
static_assert(eval::bitcast<u8>(i8{-1}) == 255);
static_assert(eval::bitcast<bfloat16>(float16(1.0f)).bits == 0x3c00);
static_assert(eval::bitcast<bool>(u8{2}));

// Folding of constants.

constexpr tile::instruction of(opcode op, dtype result, int index = 0) {
  return {.op = op, .index = index, .type = tile::scalar_type(result)};
}
template <class... T>
constexpr std::optional<i64> folded(opcode op, dtype e, T... x) {
  const std::array<i64, sizeof...(T)> bits{tile::constant_bits(x)...};
  return eval::fold(of(op, tile::info(op).kind == tile::opcode_kind::compare ? dtype::boolean : e),
                    e, bits);
}

static_assert(folded(opcode::add, dtype::float32, 0.1f, 0.2f) == tile::constant_bits(0.1f + 0.2f));
static_assert(folded(opcode::add, dtype::bfloat16, 1.0, 0.00390625) == tile::constant_bits(1.0));
static_assert(folded(opcode::mul, dtype::float32, 1e30, 1e30) == tile::constant_bits(infinity));
static_assert(folded(opcode::mul, dtype::float16, 256.0, 256.0) == tile::constant_bits(infinity));
static_assert(!folded(opcode::mul, dtype::float64, 1e300, 1e300));
static_assert(!folded(opcode::div, dtype::float32, 1.0, 0.0));
static_assert(!folded(opcode::sub, dtype::float32, infinity, infinity));
static_assert(!folded(opcode::exp, dtype::float32, 1.0));
static_assert(!folded(opcode::fma, dtype::float32, 1.0, 1.0, 1.0));
static_assert(!folded(opcode::neg, dtype::float32, nan));
static_assert(!folded(opcode::add, dtype::float32, 1.0));
static_assert(folded(opcode::max, dtype::float32, -infinity, infinity) ==
              tile::constant_bits(infinity));
static_assert(folded(opcode::less, dtype::float32, 1.0, infinity) == 1);
static_assert(folded(opcode::add, dtype::int8, 100, 100) == -56);
static_assert(folded(opcode::rem, dtype::int64, -7, 0) == -7);
static_assert(eval::fold(of(opcode::select, dtype::int32), dtype::int32,
                         std::array<i64, 3>{1, 5, 7}) == 5);
static_assert(eval::fold(of(opcode::cast, dtype::uint8), dtype::float32,
                         std::array{tile::constant_bits(300.0)}) == 255);
static_assert(eval::fold(of(opcode::cast, dtype::float16, 1), dtype::float64,
                         std::array{tile::constant_bits(1e300)}) == tile::constant_bits(65504.0));
static_assert(eval::fold(of(opcode::bitcast, dtype::float32), dtype::int32,
                         std::array<i64, 1>{0x3f800000}) == tile::constant_bits(1.0));
static_assert(!eval::fold(of(opcode::bitcast, dtype::float32), dtype::int32,
                          std::array<i64, 1>{0x7fc00000}));

// A program that is made, and found to be well, by the compiler.

constexpr tile::program row_maxima() {
  tile::builder b("row_maxima");
  b.add_parameter({dtype::float32, 2, false});
  b.add_parameter({dtype::float32, 1, true});
  const auto row = b.emit({.op = opcode::program_id, .type = tile::index_type});
  const auto x = b.emit({.op = opcode::load,
                         .value = tile::constant_bits(least<double>),
                         .type = {dtype::float32, {64}}},
                        {row, b.index(0)});
  const auto owner = b.emit({.op = opcode::reduce}, {x});
  const std::array inputs{tile::scalar_type(dtype::float32), tile::scalar_type(dtype::float32)};
  const auto a = b.begin_region(inputs);
  const std::array given{b.binary(opcode::max, a, static_cast<tile::value_id>(a + 1))};
  b.yield(given);
  b.emit({.op = opcode::store, .index = 1}, {b.result(owner, 0, inputs[0]), row});
  return b.finish();
}
constexpr tile::program fixed = row_maxima();
static_assert(tile::verify(fixed));
static_assert(fixed == row_maxima());

/// The next number of type `T` away from zero, as `float`.
template <class T>
float further(T x) {
  T y{};
  y.bits = static_cast<decltype(y.bits)>(x.bits + 1);
  return std::abs(static_cast<float>(y));
}

template <class T>
void check_towards_zero() {
  tile_test::dice d(3);
  for (int k = 0; k < 20000; ++k) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(d.bits()));
    const T y = eval::cast<T>(x, rounding::toward_zero);
    if (std::isnan(x)) {
      REQUIRE(std::isnan(static_cast<float>(y)));
      continue;
    }
    REQUIRE(std::signbit(static_cast<float>(y)) == std::signbit(x));
    REQUIRE(std::abs(static_cast<float>(y)) <= std::abs(x));
    REQUIRE((std::isinf(x) || !(further(y) <= std::abs(x))));
  }
}

/// What is too large is the largest number; all else is as to nearest even.
template <class T>
void check_saturating() {
  const auto largest =
      static_cast<float>(eval::cast<T>(std::numeric_limits<float>::max(), rounding::toward_zero));
  tile_test::dice d(4);
  for (int k = 0; k < 20000; ++k) {
    auto x = std::bit_cast<float>(static_cast<std::uint32_t>(d.bits()));
    x = k % 2 == 0 ? x : std::copysign(largest * (0.9f + 0.01f * static_cast<float>(k % 40)), x);
    const auto y = static_cast<float>(eval::cast<T>(x, rounding::saturating));
    const auto plain = static_cast<float>(T(x));
    if (std::isnan(x)) {
      REQUIRE(std::isnan(y));
    } else if (std::isfinite(plain)) {
      REQUIRE(y == plain);
    } else {
      REQUIRE(y == std::copysign(largest, x));
    }
  }
  REQUIRE(static_cast<float>(eval::cast<T>(-infinity, rounding::saturating)) == -largest);
}

}  // namespace

TEST_CASE("tile/scalar: a saturating cast ends at the largest number") {
  check_saturating<float16>();
  check_saturating<bfloat16>();
  check_saturating<ashlar::float8_e4m3>();
  check_saturating<ashlar::float8_e5m2>();
  static_assert(eval::cast<ashlar::float8_e4m3>(1e9f, rounding::saturating) == 448.0f);
  static_assert(eval::cast<ashlar::float8_e4m3>(-1e9f, rounding::toward_zero) == -448.0f);
  static_assert(eval::cast<ashlar::float8_e4m3>(0.999f, rounding::toward_zero) == 0.9375f);
  static_assert(eval::cast<ashlar::float8_e5m2>(1e300, rounding::saturating) == 57344.0f);
  static_assert(eval::cast<float>(-1e300, rounding::saturating) == -most<float>);
}

TEST_CASE("tile/scalar: rounding towards zero takes the largest number below") {
  check_towards_zero<float16>();
  check_towards_zero<bfloat16>();
  check_towards_zero<ashlar::float8_e5m2>();
  tile_test::dice d(5);
  for (int k = 0; k < 20000; ++k) {
    const auto x = std::bit_cast<double>(d.bits());
    const auto y = static_cast<double>(eval::cast<float>(x, rounding::toward_zero));
    if (std::isnan(x)) {
      REQUIRE(std::isnan(y));
    } else {
      REQUIRE(std::abs(y) <= std::abs(x));
      const auto beyond =
          static_cast<double>(std::nextafter(static_cast<float>(std::abs(y)), infinity));
      REQUIRE((std::isinf(x) || beyond > std::abs(x)));
      REQUIRE((std::isnan(x) || eval::cast<float>(x) == static_cast<float>(x)));
    }
  }
}

TEST_CASE("tile/scalar: the functions of one variable are those of Math, in float and rounded") {
  for (const float x : {0.1f, 0.7f, 1.0f, 3.3f}) {
    CHECK(eval::unary(opcode::exp, x) == std::exp(x));
    CHECK(eval::unary(opcode::log, x) == std::log(x));
    CHECK(eval::unary(opcode::sqrt, x) == std::sqrt(x));
    CHECK(eval::unary(opcode::rsqrt, x) == 1.0f / std::sqrt(x));
    CHECK(eval::unary(opcode::tanh, x) == std::tanh(x));
    CHECK(eval::unary(opcode::sigmoid, x) == 1.0f / (1.0f + std::exp(-x)));
    CHECK(eval::unary(opcode::erf, x) == std::erf(x));
    const auto h = static_cast<float16>(x);
    CHECK(eval::unary(opcode::exp, h).bits == float16(std::exp(static_cast<float>(h))).bits);
    CHECK(eval::unary(opcode::log, static_cast<double>(x)) == std::log(static_cast<double>(x)));
  }
  CHECK(eval::fma(0.1f, 10.0f, -1.0f) == std::fma(0.1f, 10.0f, -1.0f));
  CHECK(eval::fma(bfloat16(3.0f), bfloat16(3.0f), bfloat16(0.03125f)) == 9.0f);
}

// The two ways to one number: while compiling, and while a program runs.
TEST_CASE("tile/scalar: what folds is what runs") {
  tile_test::dice d(11);
  int some = 0;
  const auto value = [&]<class T>(std::type_identity<T>) {
    if constexpr (std::integral<T>) {
      return static_cast<T>(d.bits() >> d.between(0, 63));
    } else {
      return d.chance(50) ? T(static_cast<float>(d.between(-64, 64)) / 8.0f)
                          : tile::eval::detail::from_raw_bits<T>(
                                static_cast<tile::eval::detail::bits_of<T>>(d.bits()));
    }
  };
  for (int round = 0; round < 40000; ++round) {
    const auto op = static_cast<opcode>(
        d.between(static_cast<int>(opcode::neg), static_cast<int>(opcode::less_equal)));
    const auto e = static_cast<dtype>(d.between(0, ashlar::dtype_count - 1));
    tile::builder b("b");
    const auto x = b.emit({.op = opcode::constant, .type = tile::scalar_type(e)});
    const bool compares = tile::info(op).kind == tile::opcode_kind::compare;
    const tile::instruction i{.op = op, .type = tile::scalar_type(compares ? dtype::boolean : e)};
    const bool one = tile::info(op).operands == 1;
    if (op == opcode::cast || op == opcode::bitcast) {
      continue;
    }
    try {
      one ? b.emit(i, {x}) : b.emit(i, {x, x});
    } catch (const tile::program_error&) {
      continue;  // not for this element type
    }
    eval::with_scalar(e, [&]<class T>(std::type_identity<T> t) {
      const T p = value(t);
      const T q = value(t);
      const auto bits_of = [](auto v) {
        return tile::constant_bits(static_cast<ashlar::compute_type<decltype(v)>>(v));
      };
      const std::array<i64, 2> bits{bits_of(p), bits_of(q)};
      const auto f = eval::fold(i, e, std::span(bits).first(one ? 1 : 2));
      if (!f) {
        return;
      }
      ++some;
      CAPTURE(tile::info(op).name);
      CAPTURE(ashlar::name_of(e));
      REQUIRE(*f == (one        ? bits_of(eval::unary(op, p))
                     : compares ? bits_of(eval::compare(op, p, q))
                                : bits_of(eval::binary(op, p, q))));
    });
  }
  CHECK(some > 10000);
}
