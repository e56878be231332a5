// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/ops/dense.hpp"
#include "ashlar/ops/tile/launch.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/rows.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"

/// A product and what follows it in one program.
namespace ashlar {

namespace ops::programs {

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

}  // namespace ops::programs

namespace ops::detail {
template <class Activation>
struct function_of {
  using type = typename Activation::function;
};
template <>
struct function_of<void> {
  using type = programs::no_activation;
};
}  // namespace ops::detail

template <class Activation, RunsTiles C>
struct tile_kernel<ops::dense<Activation>, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias) {
    const tensor_spec nothing = contiguous_spec(dtype_of<T>, shape{0, 0}.span());
    run<false>(on, out, self, weight, bias, view<const T>{nullptr, &nothing});
  }
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias, view<const T> residual) {
    const ops::detail::reshaped<T, C> r(on, residual, matrix(out, out.extent(-1)));
    run<true>(on, out, self, weight, bias, r.get());
  }

 private:
  template <class T>
  static shape matrix(const view<T>& x, std::int64_t columns) {
    return {ops::detail::rows_of(*x.spec), columns};
  }
  template <bool Residual, class T>
  static void run(context<C>& on, const view<T>& out, const view<const T>& self,
                  const view<const T>& weight, const view<const T>& bias,
                  const view<const T>& residual) {
    using namespace ops::detail;
    using function = typename function_of<Activation>::type;
    constexpr chip::matmul_blocks size = product_blocks<C, T>;
    using kernel = ops::programs::dense<T, function, true, Residual, size.m, size.n, size.k>;
    if (out.size() == 0) {
      return;
    }
    const reshaped<T, C> x(on, self, matrix(self, self.extent(-1)));
    const tensor_spec turned = geometry::transpose(*weight.spec, 0, 1);
    into_shape(on, out, matrix(out, out.extent(-1)), [&](const view<T>& y) {
      run_tiles<kernel>(on, {ceil_div(y.extent(1), size.n), ceil_div(y.extent(0), size.m), 1}, y,
                        x.get(), view<const T>{weight.data, &turned}, bias, residual);
    });
  }
};

}  // namespace ashlar
