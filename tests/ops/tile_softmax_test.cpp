// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "ashlar/ops/tile/softmax.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

TEST_CASE_TEMPLATE("ops/tile_softmax: rows of every length are the host's", T, float,
                   al::bfloat16) {
  for (const std::int64_t n : {0, 1, 7, 63, 64, 65, 131}) {
    CAPTURE(n);
    // exp and log of both chips differ by a few places; a sum has n terms of at most 1.
    const tolerance near{static_cast<double>(n) + 16, 8};
    for (const int axis : {0, 1, -1}) {
      const auto x = twins::numbers<twins::plain<T>>(axis == 0   ? al::shape{n, 2, 3}
                                                     : axis == 1 ? al::shape{2, n, 3}
                                                                 : al::shape{2, 3, n},
                                                     1);
      const auto g = twins::numbers<twins::plain<T>>(al::shape(x.shape()), 2);
      check_both(
          near, [&](const auto& v) { return al::softmax(v, axis); }, x);
      check_both(
          near, [&](const auto& v) { return al::log_softmax(v, axis); }, x);
      const std::int64_t at = axis;
      check_both(
          near,
          [&](const auto& y, const auto& v) {
            return al::call<al::ops::softmax_backward>(y, v, at);
          },
          al::softmax(x, axis), g);
      check_both(
          tolerance{static_cast<double>(n) + 16, 4.0 * static_cast<double>(n)},
          [&](const auto& y, const auto& v) {
            return al::call<al::ops::log_softmax_backward>(y, v, at);
          },
          al::log_softmax(x, axis), g);
    }
  }
  const auto one = twins::numbers<twins::plain<T>>({}, 1);
  check_both(
      exact, [](const auto& v) { return al::softmax(v); }, one);
}

TEST_CASE("ops/tile_softmax: infinities and NaN spread as on the host") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto x = al::from_values<twins::plain<float>>(
      {4, 2}, {-inf, -inf, inf, 1.0f, std::nanf(""), 0.0f, -inf, 2.0f});
  check_both(
      exact, [](const auto& v) { return al::softmax(v); }, x);
}

TEST_CASE("ops/tile_softmax: tensors of five axes are done four at a time") {
  const auto x = twins::numbers<twins::plain<float>>({2, 3, 2, 2, 5}, 1);
  for (const int axis : {0, 2, 4}) {
    check_both(
        tolerance{16, 1}, [&](const auto& v) { return al::softmax(v, axis); }, x);
  }
}
