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
