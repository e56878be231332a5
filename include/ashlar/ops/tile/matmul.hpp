// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Matrix products as tile programs. Each element is one chain of multiply-adds over K, whatever
/// the batch; the 16-bit formats add up in f32 and round once.
namespace ashlar {

namespace ops::programs {

/// `c = bias + a b` over the last two axes: one program for `M` x `N` results.
template <Scalar T, bool Bias, int M = 16, int N = 64, int K = 32>
struct matmul {
  static constexpr auto name = Bias ? "linear_bias" : "matmul";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> c, tile::in<T, 4> a, tile::in<T, 4> b,
                            tile::in<T, 1> bias) const {
    const auto i0 = k.program_id(2) / c.extent(1);
    const auto i1 = k.program_id(2) % c.extent(1);
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
        0, a.extent(3), K,
        [&](tile::index i, auto acc) {
          if constexpr (Floating<T>) {
            const auto x = tile::load<M, K>(a, i0, i1, m, i);
            const auto y = tile::load<K, N>(b, i0, i1, i, n);
            return tile::dot(x, y, acc);
          } else {  // `dot` has no integers of this size: outer products, one by one
            return k.loop(
                i, tile::min(i + K, a.extent(3)), 1,
                [&](tile::index j, auto to) {
                  const auto x = tile::cast<C>(tile::load<M, 1>(a, i0, i1, m, j));
                  const auto y = tile::cast<C>(tile::load<1, N>(b, i0, i1, j, n));
                  return to + x * y;
                },
                acc);
          }
        },
        start);
    tile::store(c, tile::cast<T>(sum), i0, i1, m, n);
  }
};

}  // namespace ops::programs

namespace ops::detail {

/// The blocks of a product of `T` on chip `C`, and those for a product of few rows.
template <class C, class T>
inline constexpr chip::matmul_blocks product_blocks =
    chip::blocks_of<C>::product(C::description, {.element = dtype_of<T>});
template <class C, class T>
inline constexpr chip::matmul_blocks row_product_blocks =
    chip::blocks_of<C>::product(C::description, {.m = 1, .element = dtype_of<T>});

/// `out = bias + a b`; the axes before the last two broadcast.
template <class T, class C>
void matmul_by_tiles(context<C>& on, const view<T>& out, const view<const T>& a,
                     const view<const T>& b, const view<const T>* bias) {
  if (out.size() == 0) {
    return;
  }
  shape left(out.shape());
  shape right(out.shape());
  left[left.rank() - 1] = a.extent(-1);
  right[right.rank() - 2] = b.extent(-2);
  const tensor_spec ea = geometry::expand(*a.spec, left);
  const tensor_spec eb = geometry::expand(*b.spec, right);
  // Without a bias the kernel does not look there.
  const tensor_spec nothing = contiguous_spec(dtype_of<T>, shape{0}.span());
  const tile::argument start =
      bias != nullptr ? tile::argument(*bias) : tile::argument(view<const T>{nullptr, &nothing});
  each_four_axes(
      [&](const auto& x) {
        const auto& e = x[0].extents;
        const auto launch = [&]<chip::matmul_blocks Size>() {
          const tile::grid grid{ceil_div(e[3], Size.n), ceil_div(e[2], Size.m), e[0] * e[1]};
          if (bias != nullptr) {
            run_tiles<programs::matmul<T, true, Size.m, Size.n, Size.k>>(on, grid, x[0], x[1], x[2],
                                                                         start);
          } else {
            run_tiles<programs::matmul<T, false, Size.m, Size.n, Size.k>>(on, grid, x[0], x[1],
                                                                          x[2], start);
          }
        };
        constexpr chip::matmul_blocks few = row_product_blocks<C, T>;
        if (e[2] <= few.m) {
          launch.template operator()<few>();
        } else {
          launch.template operator()<product_blocks<C, T>>();
        }
      },
      out, view<const T>{a.data, &ea}, view<const T>{b.data, &eb});
}

template <class T, class C>
void linear_by_tiles(context<C>& on, const view<T>& out, const view<const T>& self,
                     const view<const T>& weight, const view<const T>* bias) {
  const tensor_spec turned = geometry::transpose(*weight.spec, 0, 1);
  const view<const T> b{weight.data, &turned};
  // Rows that lie evenly are one product, whatever the axes before.
  const auto flat_a = geometry::try_reshape(*self.spec, {rows_of(*self.spec), self.extent(-1)});
  const auto flat_out = geometry::try_reshape(*out.spec, {rows_of(*out.spec), out.extent(-1)});
  if (flat_a && flat_out) {
    matmul_by_tiles(on, view<T>{out.data, &*flat_out}, view<const T>{self.data, &*flat_a}, b, bias);
  } else {
    matmul_by_tiles(on, out, self, b, bias);
  }
}

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::matmul, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> other) {
    ops::detail::matmul_by_tiles<T>(on, out, self, other, nullptr);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::linear, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight) {
    ops::detail::linear_by_tiles<T>(on, out, self, weight, nullptr);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::linear_bias, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias) {
    ops::detail::linear_by_tiles<T>(on, out, self, weight, &bias);
  }
};

}  // namespace ashlar
