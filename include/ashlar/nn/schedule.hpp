// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace ashlar::nn {

namespace detail {

/// cos(pi t) for t in [0, 1], within 2 units in the last place of 1; the same bits at compile time
/// and at run time, on every compiler.
constexpr double cos_pi(double t) {
  constexpr double pi = 3.14159265358979323846;
  const bool beyond = t > 0.5;
  const double u = beyond ? 1.0 - t : t;  // exact: t >= 0.5
  const bool as_sine = u > 0.25;
  const double x = pi * (as_sine ? 0.5 - u : u);
  const double square = x * x;
  // Taylor's series from its last term; |x| <= pi / 4 leaves less than 1e-18 out.
  double value = 1.0;
  for (int k = 18; k >= 2; k -= 2) {
    const double next =
        as_sine ? static_cast<double>(k * (k + 1)) : static_cast<double>(k * (k - 1));
    value = 1.0 - value * square / next;
  }
  value = as_sine ? x * value : value;
  return beyond ? -value : value;
}

}  // namespace detail

/// Learning rate: a linear rise to `peak` over `warmup` steps, then half a cosine down to `floor`
/// at step `total`, where it stays.
///
/// Steps count from 0; step `warmup - 1` is the first at the peak, so that no step is idle.
struct warmup_cosine {
  double peak = 1e-3;
  double floor = 0.0;
  std::int64_t warmup = 0;  ///< [steps]
  std::int64_t total = 1;   ///< [steps]

  [[nodiscard]] constexpr double operator()(std::int64_t step) const {
    if (step < warmup) {
      return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    }
    if (step >= total) {
      return floor;
    }
    const double done = static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
    return floor + (peak - floor) * 0.5 * (1.0 + detail::cos_pi(done));
  }
};

}  // namespace ashlar::nn
