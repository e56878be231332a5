// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/tile/norm.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

TEST_CASE_TEMPLATE("ops/tile_norm: rows of every length, forward and backward", T, float,
                   al::float16) {
  using X = twins::plain<T>;
  constexpr double eps = 1e-5;
  for (const std::int64_t n : {1, 7, 63, 64, 65, 131}) {
    CAPTURE(n);
    for (const al::shape& s : {al::shape{n}, {3, n}, {2, 1, 2, 3, n}, {0, n}}) {
      const auto x = twins::numbers<X>(s, 1);
      const auto g = twins::numbers<X>(s, 2);
      const auto w = twins::numbers<X>({n}, 3);
      const auto b = twins::numbers<X>({n}, 4);
      // A row alone has variance 0, so that rounding is magnified by 1 / sqrt(eps), twice in
      // gradients.
      const double sharp = n == 1 ? 320 : 8;
      const tolerance near{static_cast<double>(n) + 8, sharp};
      const tolerance far{static_cast<double>(n + s.rank()) + 16, sharp * 32};
      check_both(
          near, [&](const auto& v, const auto& y) { return al::rms_norm(v, y, eps); }, x, w);
      check_both(
          near,
          [&](const auto& v, const auto& y, const auto& z) { return al::layer_norm(v, y, z, eps); },
          x, w, b);
      check_both(
          far,
          [&](const auto& d, const auto& v, const auto& y) {
            return al::call<al::ops::rms_norm_backward_x>(d, v, y, eps);
          },
          g, x, w);
      check_both(
          far,
          [&](const auto& d, const auto& v, const auto& y) {
            return al::call<al::ops::layer_norm_backward_x>(d, v, y, eps);
          },
          g, x, w);
      check_both(
          far,
          [&](const auto& d, const auto& v) {
            return al::call<al::ops::rms_norm_backward_weight>(d, v, eps);
          },
          g, x);
      for (const bool bias : {false, true}) {
        check_both(
            far,
            [&](const auto& d, const auto& v) {
              const auto both = al::call<al::ops::layer_norm_backward_weight>(d, v, eps);
              return bias ? std::get<1>(both) : std::get<0>(both);
            },
            g, x);
      }
    }
  }
}
