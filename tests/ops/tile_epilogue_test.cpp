// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/tile/epilogue.hpp"
#include "chip/codegen_support.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
namespace programs = ashlar::ops::programs;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

double silu(double x) { return x / (1 + std::exp(-x)); }

/// Off by at most so many roundings of what is summed up.
bool is_near(double x, double exact, double roundings, double magnitude) {
  return std::abs(x - exact) <= roundings * 0x1p-24 * magnitude;
}

}  // namespace

TEST_CASE("ops/tile_epilogue: bias, activation and residual go with the product") {
  using kernel = programs::dense<float, tile::fn::relu, true, true>;
  for (const std::int64_t m : {0, 1, 15, 17, 33}) {
    for (const std::int64_t n : {1, 63, 65}) {
      for (const std::int64_t depth : {0, 1, 33}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(depth);
        const auto a = random_array<float>({m, depth}, 1);
        const auto b = random_array<float>({depth, n}, 2);
        const auto bias = random_array<float>({n}, 3);
        const auto r = random_array<float>({m, n}, 4);
        array<float> y({m, n});
        const tile::grid grid{al::ceil_div(n, 64), al::ceil_div(m, 16), 1};
        al::chip::launch<kernel>(grid, y.out(), a.in(), b.in(), bias.in(), r.in());
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            double sum = bias[j];
            double magnitude = std::abs(sum);
            for (std::int64_t k = 0; k < depth; ++k) {
              sum += double{a[i * depth + k]} * double{b[k * n + j]};
              magnitude += std::abs(double{a[i * depth + k]} * double{b[k * n + j]});
            }
            const double exact = r[i * n + j] + std::max(sum, 0.0);
            CHECK(is_near(y[i * n + j], exact, static_cast<double>(depth) + 3,
                          magnitude + std::abs(r[i * n + j])));
          }
        }
        CHECK(agrees<kernel>(grid, y, a.in(), b.in(), bias.in(), r.in()));
      }
    }
  }
}

TEST_CASE("ops/tile_epilogue: a product without bias or residual does not read them") {
  using kernel = programs::dense<float, programs::no_activation, false, false>;
  const auto a = random_array<float>({5, 7}, 1);
  const auto b = random_array<float>({7, 9}, 2);
  const array<float> nothing({0});
  const array<float> no_rows({0, 0});
  CHECK(
      agrees<kernel>({1, 1, 1}, array<float>({5, 9}), a.in(), b.in(), nothing.in(), no_rows.in()));
}

TEST_CASE("ops/tile_epilogue: SwiGLU and its gradients") {
  for (const std::int64_t n : {1, 7, 64, 131}) {
    CAPTURE(n);
    const auto gate = random_array<float>({1, 1, 3, n}, 1);
    const auto up = random_array<float>({1, 1, 3, n}, 2);
    const auto dy = random_array<float>({1, 1, 3, n}, 3);
    array<float> y({1, 1, 3, n});
    array<float> dgate({1, 1, 3, n});
    array<float> dup({1, 1, 3, n});
    const tile::grid grid{al::ceil_div(n, 64), 3, 1};
    al::chip::launch<programs::gated<float>>(grid, y.out(), gate.in(), up.in());
    al::chip::launch<programs::swiglu_backward<float>>(grid, dgate.out(), dup.out(), dy.in(),
                                                       gate.in(), up.in());
    for (std::int64_t i = 0; i < 3 * n; ++i) {
      const double g = gate[i];
      const double u = up[i];
      const double s = 1 / (1 + std::exp(-g));
      // A handful of roundings, and exp's two places.
      CHECK(is_near(y[i], silu(g) * u, 12, std::abs(g * u)));
      CHECK(is_near(dup[i], dy[i] * silu(g), 12, std::abs(dy[i] * g)));
      const double size = std::abs(dy[i] * u) * (1 + std::abs(g));
      CHECK(is_near(dgate[i], dy[i] * u * s * (1 + g * (1 - s)), 16, size));
    }
  }
}
