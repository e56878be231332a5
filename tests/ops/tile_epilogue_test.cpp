// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/tile/epilogue.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_chip.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
namespace programs = ashlar::ops::programs;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

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

TEST_CASE_TEMPLATE("ops/tile_epilogue: the operator is a linear layer and what follows it", T,
                   float, al::bfloat16) {
  using namespace tile_test;
  using X = twins::plain<T>;
  for (const al::shape& s : {al::shape{37}, {0, 37}, {1, 37}, {3, 5, 37}}) {
    al::shape to = s;
    to[to.rank() - 1] = 65;
    const auto x = twins::numbers<X>(s, 1);
    const auto w = twins::numbers<X>({65, 37}, 2);
    const auto b = twins::numbers<X>({65}, 3);
    const auto r = twins::numbers<X>(to, 4);
    // A chain of products of at most 4, an activation of a few steps, a sum; rounded once.
    const tolerance near{38 + 10, 4.0 * 37 + 4};
    const auto check = [&](const auto& f, const auto&... a) {
      const auto want = al::cast<T>(f(al::cast<float>(a)...));
      check_close(f(moved(a)...), want, near);
      check_close(f(moved(twins::scattered(a))...), want, near);
    };
    check([](const auto&... a) { return al::dense<al::ops::gelu>(a...); }, x, w, b, r);
    check([](const auto&... a) { return al::dense<al::ops::silu>(a...); }, x, w, b);
    check([](const auto&... a) { return al::dense<void>(a...); }, x, w, b, r);
  }
  const auto x = moved(twins::numbers<X>({2, 3}, 1));
  const auto w = moved(twins::numbers<X>({5, 3}, 1));
  const auto b = moved(twins::numbers<X>({5}, 1));
  CHECK_THROWS_AS(al::dense<void>(x, w, b, b), al::shape_error);
}
