// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/chip/npu/codegen/run.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"

/// Kernels for the code generator's tests.
namespace npu_codegen_test {

namespace codegen = ashlar::chip::npu_codegen;
namespace tile = ashlar::tile;
using ashlar::bfloat16;

/// y = gelu(a b + bias).
template <int M, int N, int K>
struct dense_gelu {
  static constexpr auto name = "dense_gelu";
  constexpr void operator()(tile::scope& k, tile::in<bfloat16, 2> a, tile::in<bfloat16, 2> b,
                            tile::in<float, 1> bias, tile::out<float, 2> y) const {
    const auto row = k.program_id(1) * M;
    const auto column = k.program_id(0) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto to) {
          const auto x = tile::load<M, K>(a, row, i);
          const auto w = tile::load<K, N>(b, i, column);
          return tile::dot(x, w, to);
        },
        k.zeros<float, M, N>());
    const auto shifted = sum + tile::load<N>(bias, column);
    tile::store(y, tile::fn::gelu{}(shifted), row, column);
  }
};

/// Rows of any length: y = x - max(x), the row's sum of exp beside it.
template <int N>
struct row_sums {
  static constexpr auto name = "row_sums";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y,
                            tile::out<float, 1> sums) const {
    const auto row = k.program_id(0);
    const auto most = k.loop(
        0, x.extent(1), N,
        [&](tile::index i, auto m) {
          return tile::max(m, tile::max<0>(tile::load<N>(x.outside(-1e30F), row, i)));
        },
        k.full<float>(-1e30));
    const auto total = k.loop(
        0, x.extent(1), N,
        [&](tile::index i, auto s) {
          const auto shifted = tile::load<N>(x.outside(-1e30F), row, i) - most;
          tile::store(y, shifted, row, i);
          return s + tile::sum<0>(tile::exp(shifted));
        },
        k.zeros<float>());
    tile::store(sums, total, row);
  }
};

}  // namespace npu_codegen_test
