// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/core/dtype.hpp"

/// Elements in memory <-> the types that the vector unit computes in: float, double and int64.
namespace ashlar::chip::npu_isa::detail {

/// Layout of an 8-bit float: sign, 7 - mantissa bits of exponent, mantissa.
struct small_format {
  int mantissa;
  int bias;
  unsigned largest;   ///< code of the largest finite number
  unsigned overflow;  ///< code of what is larger
};
inline constexpr small_format e4m3_format{3, 7, 0x7e, 0x7f};   // no infinity: NaN
inline constexpr small_format e5m2_format{2, 15, 0x7b, 0x7c};  // infinity

/// Round to nearest even, subnormals kept.
inline std::uint8_t small_bits(float x, const small_format& f) {
  const unsigned sign = std::signbit(x) ? 0x80u : 0u;
  if (std::isnan(x)) {
    return static_cast<std::uint8_t>(sign | 0x7fu);
  }
  const double magnitude = std::fabs(static_cast<double>(x));
  if (magnitude == 0) {
    return static_cast<std::uint8_t>(sign);
  }
  if (std::isinf(magnitude)) {
    return static_cast<std::uint8_t>(sign | f.overflow);
  }
  int exponent = 0;
  static_cast<void>(std::frexp(magnitude, &exponent));
  const int least = 1 - f.bias;
  const int scale = exponent - 1 < least ? least : exponent - 1;
  const double quanta = std::ldexp(magnitude, f.mantissa - scale);  // exact
  double whole = std::floor(quanta);
  const double rest = quanta - whole;
  if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0.0)) {
    whole += 1.0;
  }
  if (scale - least > 64) {
    return static_cast<std::uint8_t>(sign | f.overflow);
  }
  const unsigned code =
      (static_cast<unsigned>(scale - least) << f.mantissa) + static_cast<unsigned>(whole);
  return static_cast<std::uint8_t>(sign | (code > f.largest ? f.overflow : code));
}

inline float small_value(std::uint8_t code, const small_format& f) {
  const unsigned magnitude = code & 0x7fu;
  float v = 0;
  if (magnitude > f.largest) {
    v = f.overflow == 0x7c && magnitude == 0x7c ? std::numeric_limits<float>::infinity()
                                                : std::numeric_limits<float>::quiet_NaN();
  } else {
    const unsigned exponent = magnitude >> f.mantissa;
    const unsigned mantissa = magnitude & ((1u << f.mantissa) - 1u);
    const unsigned hidden = exponent != 0 ? 1u << f.mantissa : 0u;
    v = std::ldexp(static_cast<float>(mantissa | hidden),
                   static_cast<int>(exponent != 0 ? exponent : 1u) - f.bias - f.mantissa);
  }
  return (code & 0x80u) != 0 ? -v : v;
}

template <class T>
T read_as(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}
template <class T>
void write_as(std::byte* p, T v) {
  std::memcpy(p, &v, sizeof(T));
}

inline float read_float(const std::byte* p, element e) {
  switch (e) {
    case element::f32:
      return read_as<float>(p);
    case element::f16:
      return static_cast<float>(read_as<float16>(p));
    case element::bf16:
      return static_cast<float>(read_as<bfloat16>(p));
    case element::e4m3:
      return small_value(read_as<std::uint8_t>(p), e4m3_format);
    default:
      return small_value(read_as<std::uint8_t>(p), e5m2_format);
  }
}
inline void write_float(std::byte* p, element e, float v) {
  switch (e) {
    case element::f32:
      return write_as(p, v);
    case element::f16:
      return write_as(p, float16(v).bits);
    case element::bf16:
      return write_as(p, bfloat16(v).bits);
    case element::e4m3:
      return write_as(p, small_bits(v, e4m3_format));
    default:
      return write_as(p, small_bits(v, e5m2_format));
  }
}
inline std::int64_t read_integer(const std::byte* p, element e) {
  switch (e) {
    case element::i8:
      return read_as<std::int8_t>(p);
    case element::i32:
      return read_as<std::int32_t>(p);
    case element::i64:
      return read_as<std::int64_t>(p);
    default:
      return read_as<std::uint8_t>(p);
  }
}
/// Keeps the low bits; of a boolean, whether it is not 0.
inline void write_integer(std::byte* p, element e, std::int64_t v) {
  switch (e) {
    case element::boolean:
      return write_as(p, static_cast<std::uint8_t>(v != 0 ? 1 : 0));
    case element::i32:
      return write_as(p, static_cast<std::uint32_t>(v));
    case element::i64:
      return write_as(p, v);
    default:
      return write_as(p, static_cast<std::uint8_t>(v));
  }
}

/// The largest value of an integer type.
constexpr std::int64_t largest_of(element e) {
  const int bits = 8 * size_of(e) - (e == element::u8 ? 0 : 1);
  return bits >= 63 ? std::numeric_limits<std::int64_t>::max() : (std::int64_t{1} << bits) - 1;
}

/// Towards zero, clamped to the range of the type; NaN becomes 0.
template <class T>
std::int64_t to_integer(T x, element e) {
  if (e == element::boolean) {
    return x != T(0) ? 1 : 0;
  }
  const int bits = 8 * size_of(e) - (e == element::u8 ? 0 : 1);
  const T above = std::ldexp(T(1), bits);
  const std::int64_t most =
      bits == 63 ? std::numeric_limits<std::int64_t>::max() : (std::int64_t{1} << bits) - 1;
  const std::int64_t least = e == element::u8 ? 0 : -most - 1;
  if (x >= above) {
    return most;
  }
  if (e == element::u8 ? x <= T(0) : x < -above) {
    return least;
  }
  return std::isnan(x) ? 0 : static_cast<std::int64_t>(x);
}

}  // namespace ashlar::chip::npu_isa::detail
