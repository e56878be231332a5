// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstdint>

namespace ashlar {

namespace detail {

/// An 8-bit floating-point format: sign, 7 - mantissa bits of exponent, mantissa.
struct float8_format {
  int mantissa;
  int bias;
  std::uint8_t largest;  ///< code of the largest finite number
  std::uint8_t beyond;   ///< code of what is larger
};
inline constexpr float8_format e4m3_format{3, 7, 0x7e, 0x7f};
inline constexpr float8_format e5m2_format{2, 15, 0x7b, 0x7c};

/// binary32 -> 8 bits, round to nearest even, subnormals kept; what is too large becomes `beyond`.
constexpr std::uint8_t float8_bits(float value, const float8_format& f) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<std::uint8_t>(sign | 0x7fu);
  }
  // The mantissa in units of 2^-23, and the exponent as the format counts it.
  const std::uint32_t mantissa =
      (magnitude & 0x7fffffu) | (magnitude >= 0x800000u ? 0x800000u : 0u);
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + f.bias;
  const int cut = 23 - f.mantissa + (exponent < 1 ? 1 - exponent : 0);
  if (cut > 24) {  // less than half of the smallest number
    return static_cast<std::uint8_t>(sign);
  }
  const std::uint32_t whole = mantissa >> cut;
  const std::uint32_t rest = mantissa & ((1u << cut) - 1u);
  const std::uint32_t half = 1u << (cut - 1);
  const std::uint32_t up = rest > half || (rest == half && (whole & 1u) != 0u) ? 1u : 0u;
  const std::uint32_t code =
      (static_cast<std::uint32_t>(exponent < 1 ? 0 : exponent - 1) << f.mantissa) + whole + up;
  return static_cast<std::uint8_t>(sign | (code > f.largest ? std::uint32_t{f.beyond} : code));
}

constexpr float float8_value(std::uint8_t code, const float8_format& f) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t magnitude = code & 0x7fu;
  if (magnitude > f.largest) {
    const bool infinite = f.beyond == 0x7cu && magnitude == 0x7cu;
    return std::bit_cast<float>(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
  }
  const int shift = 23 - f.mantissa;
  if (magnitude >> f.mantissa != 0) {
    return std::bit_cast<float>(
        sign | ((magnitude << shift) + (static_cast<std::uint32_t>(127 - f.bias) << 23)));
  }
  // A subnormal number is a multiple of the smallest one, 2^(1 - bias - mantissa).
  const auto smallest =
      std::bit_cast<float>(static_cast<std::uint32_t>(127 + 1 - f.bias - f.mantissa) << 23);
  const float value = static_cast<float>(magnitude) * smallest;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

}  // namespace detail

/// 8 bits with 4 of exponent as a storage type: up to 448, NaN but no infinity (OCP E4M3).
///
/// From `float` to nearest even; what is too large, and infinity, becomes NaN.
struct float8_e4m3 {
  std::uint8_t bits = 0;

  float8_e4m3() = default;
  constexpr explicit float8_e4m3(float value)
      : bits(detail::float8_bits(value, detail::e4m3_format)) {}
  constexpr operator float() const { return detail::float8_value(bits, detail::e4m3_format); }
};

/// 8 bits with 5 of exponent as a storage type: up to 57,344, infinity and NaN (OCP E5M2).
///
/// From `float` to nearest even; what is too large becomes infinity.
struct float8_e5m2 {
  std::uint8_t bits = 0;

  float8_e5m2() = default;
  constexpr explicit float8_e5m2(float value)
      : bits(detail::float8_bits(value, detail::e5m2_format)) {}
  constexpr operator float() const { return detail::float8_value(bits, detail::e5m2_format); }
};

}  // namespace ashlar
