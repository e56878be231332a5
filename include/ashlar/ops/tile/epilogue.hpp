// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/tile/launch.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"

/// Fused kernels around products that no single operator has: launch them where a model wants one
/// pass over memory in place of several.
namespace ashlar::ops::programs {

/// Leaves a sum as it is.
struct no_activation {
  template <class V>
  constexpr V operator()(const V& x) const {
    return x;
  }
};

/// `y = residual + activation(bias + a b)`, each element one chain of multiply-adds over K.
///
/// One program for `M` x `N` results, the grid is (blocks of columns, blocks of rows, 1).
/// Shapes: `y`, `residual` (M, N); `a` (M, K); `b` (K, N), any strides; `bias` (N). A view that is
///         switched off is not read: give one without elements.
template <Scalar T, class Activation = no_activation, bool Bias = true, bool Residual = false,
          int M = 16, int N = 64, int K = 32>
struct dense {
  static constexpr auto name = "dense";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 2> y, tile::in<T, 2> a, tile::in<T, 2> b,
                            tile::in<T, 1> bias, tile::in<T, 2> residual) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto start = [&] {
      if constexpr (Bias) {
        return tile::broadcast<tile::tile<C, M, N>>(tile::cast<C>(tile::load<N>(bias, n)));
      } else {
        return k.zeros<C, M, N>();
      }
    }();
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          return tile::dot(x, tile::load<K, N>(b, i, n), acc);
        },
        start);
    const auto active = Activation{}(sum);
    if constexpr (Residual) {
      const auto r = tile::cast<C>(tile::load<M, N>(residual, m, n));
      tile::store(y, tile::cast<T>(r + active), m, n);
    } else {
      tile::store(y, tile::cast<T>(active), m, n);
    }
  }
};

/// `y = activation(gate) * up`, with SiLU what SwiGLU does between its products; the grid is that
/// of `grid_over(y, B)`.
template <Scalar T, class Activation = tile::fn::silu, int B = detail::tile_block>
struct gated {
  static constexpr auto name = "gated";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> gate,
                            tile::in<T, 4> up) const {
    const detail::grid_place at(k, y.extent(1));
    const auto c = k.program_id(0) * B;
    const auto g = tile::cast<C>(tile::load<B>(gate, at.i0, at.i1, at.i2, c));
    const auto u = tile::cast<C>(tile::load<B>(up, at.i0, at.i1, at.i2, c));
    tile::store(y, tile::cast<T>(Activation{}(g)*u), at.i0, at.i1, at.i2, c);
  }
};

/// The gradients of `activation(gate) * up` with SiLU, from the gradient `dy`.
template <Scalar T, int B = detail::tile_block>
struct swiglu_backward {
  static constexpr auto name = "swiglu_backward";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> dgate, tile::out<T, 4> dup,
                            tile::in<T, 4> dy, tile::in<T, 4> gate, tile::in<T, 4> up) const {
    const detail::grid_place at(k, dgate.extent(1));
    const auto c = k.program_id(0) * B;
    const auto read = [&](const auto& from) {
      return tile::cast<C>(tile::load<B>(from, at.i0, at.i1, at.i2, c));
    };
    const auto d = read(dy);
    const auto g = read(gate);
    const auto u = read(up);
    const auto s = tile::sigmoid(g);
    tile::store(dup, tile::cast<T>(d * (g * s)), at.i0, at.i1, at.i2, c);
    // silu' = s (1 + g (1 - s))
    const auto slope = s * tile::fma(g, 1 - s, k.full<C, B>(1));
    tile::store(dgate, tile::cast<T>(d * u * slope), at.i0, at.i1, at.i2, c);
  }
};

}  // namespace ashlar::ops::programs
