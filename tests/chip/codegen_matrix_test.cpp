// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;
using tile_kernels::matmul;
using tile_kernels::matmul_turned;

/// Each round writes into the memory from which `y` was loaded, before the loop.
struct overwritten_operand {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::out<float, 2> c) const {
    const auto y = tile::load<16, 16>(c, 0, 0);
    const auto sum = k.loop(
        0, a.extent(1), 16,
        [&](tile::index i, auto acc) {
          const auto next = tile::dot(tile::load<4, 16>(a, 0, i), y, acc);
          tile::store(c, next, 0, 0);
          return next;
        },
        k.zeros<float, 4, 16>());
    tile::store(c, sum, 16, 0);
  }
};

}  // namespace

TEST_CASE("chip/codegen: matmul of every shape and type adds in the order of K") {
  for (const std::int64_t m : {1, 7, 8, 9}) {
    for (const std::int64_t n : {1, 47, 48, 49}) {
      for (const std::int64_t k : {0, 1, 16, 33}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const auto a = random_array<float>({m, k}, 3);
        const auto b = random_array<float>({k, n}, 4);
        CHECK(agrees<matmul<float, float, 8, 48, 16>>({2, 2, 1}, array<float>({m, n}), a.in(),
                                                      b.in()));
      }
    }
  }
  const auto a = random_array<float>({9, 11}, 5);
  const auto b = random_array<float>({11, 13}, 6);
  CHECK(agrees<matmul<float, float, 5, 7, 3>>({2, 2, 1}, array<float>({9, 13}), a.in(), b.in()));
  const auto ah = random_array<al::bfloat16>({9, 11}, 5);
  const auto bh = random_array<al::bfloat16>({11, 13}, 6);
  CHECK(agrees<matmul<al::bfloat16, float, 4, 16, 8>>({3, 1, 1}, array<float>({9, 13}), ah.in(),
                                                      bh.in()));
  const auto ai = random_array<std::int8_t>({9, 11}, 5);
  const auto bi = random_array<std::int8_t>({11, 13}, 6);
  CHECK(agrees<matmul<std::int8_t, std::int32_t, 4, 16, 8>>({3, 1, 1}, array<std::int32_t>({9, 13}),
                                                            ai.in(), bi.in()));
}

TEST_CASE("chip/codegen: products of microscaled 8-bit floats are near those in double") {
  const std::int64_t m = 5, n = 17, k = 128;
  const auto a = random_array<al::float8_e4m3>({m, k}, 3);
  const auto b = random_array<al::float8_e4m3>({k, n}, 4);
  array<std::uint8_t> sa({m, k / 32});
  array<std::uint8_t> sb({k / 32, n});
  for (std::int64_t i = 0; i < sa.size(); ++i) {
    sa[i] = static_cast<std::uint8_t>(120 + i % 13);
  }
  for (std::int64_t i = 0; i < sb.size(); ++i) {
    sb[i] = static_cast<std::uint8_t>(131 - i % 11);
  }
  using kernel = tile_kernels::microscaled_product<4, 16>;
  array<float> c({m, n});
  CHECK(agrees<kernel>({2, 2, 1}, c, a.in(), sa.in(), b.in(), sb.in()));
  al::chip::launch<kernel>({2, 2, 1}, a.in(), sa.in(), b.in(), sb.in(), c.out());
  int far = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      double size = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        const double scale = std::ldexp(1.0, sa[i * (k / 32) + p / 32] + sb[p / 32 * n + j] - 254);
        const double term = scale * static_cast<double>(static_cast<float>(a[i * k + p])) *
                            static_cast<double>(static_cast<float>(b[p * n + j]));
        sum += term;
        size += std::abs(term);
      }
      // Products are exact in float: one rounding for each addition, and for each scaled group.
      const double bound = static_cast<double>(k + k / 32) * 0x1p-24 * size;
      far += std::abs(static_cast<double>(c[i * n + j]) - sum) <= bound ? 0 : 1;
    }
  }
  CHECK(far == 0);
}

TEST_CASE("chip/codegen: products of large tiles, inside and over the edges") {
  for (const std::int64_t n : {1, 63, 64, 65, 130}) {
    for (const std::int64_t k : {0, 1, 16, 33}) {
      CAPTURE(n);
      CAPTURE(k);
      auto a = random_array<float>({n, k}, 14);
      auto b = random_array<float>({k, n}, 15);
      if (k > 1) {
        b[1] = std::numeric_limits<float>::infinity();  // times what lies outside of A: NaN
        a[0] = -0.0f;
      }
      CHECK(agrees<matmul<float, float, 64, 64, 16>>({3, 3, 1}, random_array<float>({n, n}, 16),
                                                     a.in(), b.in()));
      auto turned = b;
      std::swap(turned.spec.extent[0], turned.spec.extent[1]);
      std::swap(turned.spec.stride[0], turned.spec.stride[1]);
      CHECK(
          agrees<matmul_turned<64, 64, 16>>({3, 3, 1}, array<float>({n, n}), a.in(), turned.in()));
    }
  }
}

TEST_CASE("chip/codegen: an operand is what was loaded, whatever is stored over it later") {
  CHECK(agrees<overwritten_operand>({1, 1, 1}, random_array<float>({20, 16}, 17),
                                    random_array<float>({4, 48}, 18).in()));
}
