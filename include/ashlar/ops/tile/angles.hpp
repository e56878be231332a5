// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <tuple>

#include "ashlar/tile/kernel.hpp"

/// Sine and cosine in tile programs, which have no instruction for them.
namespace ashlar::ops::programs {

/// Sine and cosine of angles in double, to about two units in the last place of 1 for angles below
/// 10^6.
///
/// The quarter turns are taken off in three parts of a quarter turn of which the first two have 33
/// bits, so that their products are exact; the rest is the Taylor series up to r^17.
template <int... E>
constexpr auto sine_and_cosine(tile::tile<double, E...> angle) {
  constexpr double quarters_per_radian = 0x1.45f306dc9c883p-1;  // 2 / pi
  constexpr double part0 = 0x1.921fb544p+0;
  constexpr double part1 = 0x1.0b4611a6p-34;
  constexpr double part2 = 0x1.3198a2e037073p-69;
  const auto turns = tile::floor(angle * quarters_per_radian + 0.5);
  const auto r = ((angle - turns * part0) - turns * part1) - turns * part2;
  const auto z = r * r;
  // From the last term to the first: 1 - z / (n (n - 1)) * (...)
  auto sine = tile::constant_like(r, 1.0);
  auto cosine = sine;
  for (int n = 17; n > 1; n -= 2) {
    sine = 1.0 - z * (1.0 / (n * (n - 1))) * sine;
    cosine = 1.0 - z * (1.0 / ((n - 1) * (n - 2 > 0 ? n - 2 : 1))) * cosine;
  }
  sine = r * sine;
  const auto quarter = tile::cast<std::int64_t>(turns) & 3;
  const auto odd = (quarter & 1) == 1;
  const auto s = tile::select(odd, cosine, sine);
  const auto c = tile::select(odd, sine, cosine);
  return std::tuple(tile::select(quarter >= 2, -s, s),
                    tile::select((quarter == 1) | (quarter == 2), -c, c));
}

}  // namespace ashlar::ops::programs
