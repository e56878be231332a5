// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ashlar::serve::detail {

/// `exp(x)` for `x <= 0`, within 2 units in the last place of a float; 0 below about -87.
///
/// Sums and products alone: compilers make vectors of it, and it has the same bits on all machines.
constexpr float exp_weight(float x) {
  constexpr float shift = 12582912.0F;  // 1.5 * 2^23: behind it stand whole numbers
  x = x > -100.0F ? x : -100.0F;
  const float shifted = x * 1.44269504F + shift;
  const float n = shifted - shift;
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;  // ln 2 in two parts
  float e = 1.98412698e-4F;
  e = e * r + 1.38888889e-3F;
  e = e * r + 8.33333333e-3F;
  e = e * r + 4.16666667e-2F;
  e = e * r + 1.66666667e-1F;
  e = e * r + 0.5F;
  e = e * (r * r) + r + 1.0F;
  const auto exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(shift);
  const std::int32_t bits = exponent < -126 ? 0 : (exponent + 127) << 23;
  return e * std::bit_cast<float>(bits);
}

/// Adds up `f(i)` for `i` below `count`, sixteen sums side by side.
template <class F>
double sum_of(std::size_t count, const F& f) {
  constexpr std::size_t lanes = 16;
  std::array<double, lanes> sums{};
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      sums[lane] += f(i + lane);
    }
  }
  double total = 0;
  for (; i < count; ++i) {
    total += f(i);
  }
  for (const double s : sums) {
    total += s;
  }
  return total;
}

}  // namespace ashlar::serve::detail
