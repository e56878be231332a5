// SPDX-License-Identifier: Apache-2.0
#include "ashlar/core/dtype.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

using namespace ashlar;

namespace {

/// The nearest 16-bit value by search over all of them; ties go to the even one.
std::uint16_t nearest(double value, float (*decode)(std::uint16_t), double beyond) {
  std::uint16_t best = 0;
  double distance = std::numeric_limits<double>::infinity();
  for (std::uint32_t bits = 0; bits < 0x8000u; ++bits) {
    const auto candidate = static_cast<std::uint16_t>(bits);
    double at = static_cast<double>(decode(candidate));
    if (std::isnan(at)) {
      continue;
    }
    at = std::isinf(at) ? beyond : at;  // infinity stands one step above the largest number
    const double d = std::abs(at - value);
    if (d < distance || (d == distance && (candidate & 1u) == 0)) {
      best = candidate;
      distance = d;
    }
  }
  return best;
}
float decode_half(std::uint16_t b) {
  float16 h;
  h.bits = b;
  return h;
}
float decode_brain(std::uint16_t b) {
  bfloat16 h;
  h.bits = b;
  return h;
}

}  // namespace

TEST_CASE("core/dtype: every 16-bit value survives the way to float and back") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    const float h = decode_half(b);
    const float r = decode_brain(b);
    wrong += std::isnan(h) ? !std::isnan(static_cast<float>(float16(h))) : float16(h).bits != b;
    wrong += std::isnan(r) ? !std::isnan(static_cast<float>(bfloat16(r))) : bfloat16(r).bits != b;
  }
  CHECK(wrong == 0);
}

TEST_CASE("core/dtype: float rounds to the nearest 16-bit value and ties to even") {
  for (const float value : {0.0f, 1.0f, 1.0f / 3, 1e-8f, 2.9802322e-8f, 5.9604645e-8f, 8.940697e-8f,
                            6.1e-5f, 6.0976e-5f, 1.0004883f, 1.0014648f, 2049.0f, 2051.0f, 65504.0f,
                            65519.0f, 65520.0f, 1e6f, 3.4e38f}) {
    CAPTURE(value);
    CHECK(float16(value).bits == nearest(static_cast<double>(value), decode_half, 65536.0));
    CHECK(float16(-value).bits == (float16(value).bits | 0x8000u));
    CHECK(bfloat16(value).bits ==
          nearest(static_cast<double>(value), decode_brain, std::ldexp(1.0, 128)));
  }
  CHECK(std::isnan(static_cast<float>(float16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isinf(static_cast<float>(float16(std::numeric_limits<float>::infinity()))));
}

namespace {

/// A float8 by its definition: sign, exponent, mantissa.
double defined(int code, int mantissa_bits, int bias, bool has_infinity) {
  const int exponent = (code & 0x7f) >> mantissa_bits;
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const int last = (1 << (7 - mantissa_bits)) - 1;
  double v = exponent == 0
                 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                 : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  if (exponent == last && has_infinity) {
    v = mantissa == 0 ? std::numeric_limits<double>::infinity()
                      : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == last && mantissa == (1 << mantissa_bits) - 1) {
    v = std::numeric_limits<double>::quiet_NaN();
  }
  return (code & 0x80) != 0 ? -v : v;
}

template <class F>
F of_bits(int code) {
  F f{};
  f.bits = static_cast<std::uint8_t>(code);
  return f;
}

/// All codes, the way to float and back, and every value that a 16-bit format holds.
template <class F>
void check_float8(int mantissa_bits, int bias, bool has_infinity) {
  const auto value = [&](int code) { return defined(code, mantissa_bits, bias, has_infinity); };
  const int largest = has_infinity ? 0x7b : 0x7e;
  int wrong = 0;
  for (int code = 0; code < 256; ++code) {
    const float f = of_bits<F>(code);
    const double want = value(code);
    if (std::isnan(want)) {
      wrong += !std::isnan(f) || !std::isnan(static_cast<float>(F(f)));
    } else {
      wrong +=
          static_cast<double>(f) != want || std::signbit(f) != (code >= 128) || F(f).bits != code;
    }
  }
  CHECK(wrong == 0);
  // The nearest of all codes by search; the one beyond the largest stands a step above it.
  const double beyond = 2 * value(largest) - value(largest - 1);
  const auto nearest_code = [&](double x) {
    int best = 0;
    double distance = std::numeric_limits<double>::infinity();
    for (int code = 0; code <= largest + 1; ++code) {
      const double d = std::abs((code > largest ? beyond : value(code)) - x);
      if (d < distance || (d == distance && code % 2 == 0)) {
        best = code;
        distance = d;
      }
    }
    return best;
  };
  const auto check = [&](float x) {
    if (std::isnan(x)) {
      wrong += !std::isnan(static_cast<float>(F(x)));
      return;
    }
    const double size = std::abs(static_cast<double>(x));
    const int magnitude = size > beyond ? largest + 1 : nearest_code(size);
    wrong += F(x).bits != (magnitude | (std::signbit(x) ? 0x80 : 0));
  };
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    check(decode_half(static_cast<std::uint16_t>(bits)));
    check(decode_brain(static_cast<std::uint16_t>(bits)));
  }
  for (int code = 0; code <= largest; ++code) {  // ties, and the floats beside them
    const double above = code == largest ? beyond : value(code + 1);
    const auto tie = static_cast<float>((value(code) + above) / 2);
    for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e9f)}) {
      check(x);
      check(-x);
    }
  }
  check(std::numeric_limits<float>::max());
  check(std::numeric_limits<float>::denorm_min());
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("core/dtype: float8 codes are what their format says, and floats round to the nearest") {
  check_float8<float8_e4m3>(3, 7, false);
  check_float8<float8_e5m2>(2, 15, true);
  static_assert(static_cast<float>(float8_e4m3(1e9f)) != static_cast<float>(float8_e4m3(1e9f)));
  static_assert(float8_e4m3(448.0f).bits == 0x7e && float8_e4m3(464.0f).bits == 0x7e);
  static_assert(float8_e4m3(465.0f).bits == 0x7f && float8_e5m2(61440.0f).bits == 0x7c);
  static_assert(size_of(dtype::float8_e5m2) == 1 && is_narrow_floating(dtype::float8_e4m3));
  static_assert(promote(dtype::float8_e4m3, dtype::float8_e5m2) == dtype::float32);
  static_assert(promote(dtype::float8_e4m3, dtype::bfloat16) == dtype::bfloat16);
}

TEST_CASE("core/dtype: promotion is commutative, idempotent and associative on floating types") {
  for (int a = 0; a < dtype_count; ++a) {
    for (int b = 0; b < dtype_count; ++b) {
      const auto x = static_cast<dtype>(a);
      const auto y = static_cast<dtype>(b);
      CHECK(promote(x, y) == promote(y, x));
      CHECK(promote(x, x) == x);
      CHECK(is_floating(promote(x, y)) == (is_floating(x) || is_floating(y)));
    }
  }
}

TEST_CASE("core/dtype: promotion follows PyTorch") {
  CHECK(promote(dtype::boolean, dtype::uint8) == dtype::uint8);
  CHECK(promote(dtype::uint8, dtype::int8) == dtype::int32);  // PyTorch's int16 does not exist here
  CHECK(promote(dtype::int8, dtype::int32) == dtype::int32);
  CHECK(promote(dtype::int64, dtype::float16) == dtype::float16);
  CHECK(promote(dtype::float16, dtype::bfloat16) == dtype::float32);
  CHECK(promote(dtype::bfloat16, dtype::float32) == dtype::float32);
  CHECK(promote(dtype::float32, dtype::float64) == dtype::float64);
  static_assert(dtype_of<std::int64_t> == dtype::int64);
  static_assert(std::is_same_v<scalar_of<dtype::bfloat16>, bfloat16>);
  static_assert(std::is_same_v<promoted<float16, bfloat16>, float>);
  static_assert(size_of(dtype::float64) == sizeof(double) && size_of(dtype::boolean) == 1);
}
