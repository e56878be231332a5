// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

namespace {

/// Mean and sum of squares of row `r` of `x`, columns `begin` to `end`, in two rounds.
template <class T>
std::tuple<double, double> moments_of(const array<T>& x, std::int64_t r, std::int64_t begin,
                                      std::int64_t end) {
  const auto at = [&](std::int64_t c) { return static_cast<double>(x[r * x.spec.extent[1] + c]); };
  double sum = 0;
  for (std::int64_t c = begin; c < end; ++c) {
    sum += at(c);
  }
  const double mean = sum / static_cast<double>(end - begin);
  double squares = 0;
  for (std::int64_t c = begin; c < end; ++c) {
    squares += (at(c) - mean) * (at(c) - mean);
  }
  return {mean, squares};
}

}  // namespace

TEST_CASE_TEMPLATE("chip/codegen: moments and recurrences by tuples, against double precision", T,
                   float, double) {
  constexpr int a = 4;
  constexpr int b = 24;
  using kernel = tile_kernels::moments<T, a, b>;
  constexpr double u = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;
  for (const std::int64_t rows : {1, 4, 5}) {
    for (const std::int64_t n : {1, 2, 15, 16, 17, 23, 24}) {
      CAPTURE(rows);
      CAPTURE(n);
      const auto x = random_array<T>({rows, n}, static_cast<unsigned>(100 * rows + n));
      array<T> y({kernel::planes, b, rows});
      const tile::grid grid{(rows + a - 1) / a, 1, 1};
      CHECK(agrees<kernel>(grid, y, x.in()));
      al::chip::launch<kernel>(grid, x.in(), y.out());

      const auto got = [&](std::int64_t plane, std::int64_t c, std::int64_t r) {
        return static_cast<double>(y[(plane * b + c) * rows + r]);
      };
      // With numbers up to M = 4, a mean is a weighted mean of two plus 5 roundings of at most 2 M,
      // one after the other: below 10 M u each, so d = 10 n M u. The squares add up n terms
      // w (a - b)^2 with w <= n / 4 and |a - b| <= 2 M, each with 6 roundings and twice d in the
      // difference: n (n M^2 8 u + n M d) bounds it.
      constexpr double m = 4;
      const auto count = static_cast<double>(n);
      const double d = 10 * count * m * u;
      const double squares_bound = count * count * (8 * m * m * u + m * d);
      const auto close = [&](double x_, double y_, double bound) {
        return std::abs(x_ - y_) <= bound;
      };
      for (std::int64_t r = 0; r < rows; ++r) {
        CAPTURE(r);
        const auto [mean, squares] = moments_of(x, r, 0, n);
        CHECK(close(got(0, 0, r), mean, d));
        CHECK(close(got(0, 1, r), squares, squares_bound));
        CHECK(got(0, 2, r) == count);
        double h = 0;
        double h_error = 0;
        for (std::int64_t c = 0; c < n; ++c) {
          CAPTURE(c);
          const auto [mean_to, squares_to] = moments_of(x, r, 0, c + 1);
          CHECK(close(got(1, c, r), mean_to, d));
          CHECK(close(got(2, c, r), squares_to, squares_bound));
          const auto [mean_from, squares_from] = moments_of(x, r, c, n);
          CHECK(close(got(3, c, r), mean_from, d));
          CHECK(close(got(4, c, r), squares_from, squares_bound));
          // One rounding each of 1 - x, the product and the sum, besides what h had before.
          const auto v = static_cast<double>(x[r * n + c]);
          h_error = std::abs(v) * h_error + u * (std::abs(1 - v) + 2 * std::abs(v * h));
          h = v * h + (1 - v);
          h_error += u * (std::abs(h) + h_error);
          CHECK(close(got(6, c, r), h, 1.01 * h_error));
        }
      }
    }
  }
}

TEST_CASE("chip/codegen: nibbles, bits and halves of rows") {
  auto f = random_array<float>({2, 23}, 3);
  CHECK(agrees<tile_kernels::pieces>({2, 1, 1}, array<float>({8, 24}),
                                     random_array<std::int8_t>({11}, 1).in(),
                                     random_array<std::uint8_t>({12}, 2).in(), f.in()));
}
