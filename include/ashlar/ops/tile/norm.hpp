// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <tuple>

#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/tile/norm_weight.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Normalisation along the last axis as tile programs.
///
/// One program for each row.
namespace ashlar {

namespace ops::programs {

/// `x / sqrt(mean(x^2) + eps) * weight`
template <Scalar T, int B = detail::tile_block>
struct rms_norm {
  static constexpr auto name = "rms_norm";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::in<T, 1> weight, tile::arg<C> eps) const {
    const detail::row_place at(k);
    const auto [mean, inverse] = row_statistics<false, C, B>(k, x, eps, at.i0, at.i1, at.i2);
    const auto factor = inverse;
    k.loop(0, x.extent(3), B, [&](tile::index c) {
      const auto v = tile::cast<C>(tile::load<B>(x, at.i0, at.i1, at.i2, c));
      const auto w = tile::cast<C>(tile::load<B>(weight, c));
      tile::store(y, tile::cast<T>(v * factor * w), at.i0, at.i1, at.i2, c);
    });
  }
};

/// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`
template <Scalar T, int B = detail::tile_block>
struct layer_norm {
  static constexpr auto name = "layer_norm";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::in<T, 1> weight, tile::in<T, 1> bias, tile::arg<C> eps) const {
    const detail::row_place at(k);
    const auto statistics = row_statistics<true, C, B>(k, x, eps, at.i0, at.i1, at.i2);
    k.loop(0, x.extent(3), B, [&](tile::index c) {
      const auto v = tile::cast<C>(tile::load<B>(x, at.i0, at.i1, at.i2, c));
      const auto w = tile::cast<C>(tile::load<B>(weight, c));
      const auto b = tile::cast<C>(tile::load<B>(bias, c));
      const auto normal = (v - std::get<0>(statistics)) * std::get<1>(statistics);
      tile::store(y, tile::cast<T>(normal * w + b), at.i0, at.i1, at.i2, c);
    });
  }
};

/// With v the normalised row: `inverse (g w - mean(g w) - v mean(g w v))`, without the middle term
/// for RMS normalisation.
template <Scalar T, bool Centred, int B = detail::tile_block>
struct norm_backward_x {
  static constexpr auto name = Centred ? "layer_norm_backward_x" : "rms_norm_backward_x";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> dx, tile::in<T, 4> g, tile::in<T, 4> x,
                            tile::in<T, 1> weight, tile::arg<C> eps) const {
    const detail::row_place at(k);
    const auto n = x.extent(3);
    const auto count = tile::cast<C>(n);
    const auto statistics = row_statistics<Centred, C, B>(k, x, eps, at.i0, at.i1, at.i2);
    const auto inverse = std::get<1>(statistics);
    // Beyond the row's end g w is 0.
    const auto weighted = [&](tile::index c) {
      return tile::cast<C>(tile::load<B>(g, at.i0, at.i1, at.i2, c)) *
             tile::cast<C>(tile::load<B>(weight, c));
    };
    const auto normal = [&](tile::index c) {
      const auto v = tile::cast<C>(tile::load<B>(x, at.i0, at.i1, at.i2, c));
      if constexpr (Centred) {
        return (v - std::get<0>(statistics)) * inverse;
      } else {
        return v * inverse;
      }
    };
    const auto along =
        tile::sum<0>(k.loop(
            0, n, B,
            [&](tile::index c, auto acc) { return tile::fma(weighted(c), normal(c), acc); },
            k.zeros<C, B>())) /
        count;
    const auto store = [&](tile::index c, auto d) {
      tile::store(dx, tile::cast<T>(d), at.i0, at.i1, at.i2, c);
    };
    if constexpr (Centred) {
      const auto flat = tile::sum<0>(k.loop(
                            0, n, B, [&](tile::index c, auto acc) { return acc + weighted(c); },
                            k.zeros<C, B>())) /
                        count;
      k.loop(0, n, B,
             [&](tile::index c) { store(c, inverse * (weighted(c) - flat - normal(c) * along)); });
    } else {
      k.loop(0, n, B,
             [&](tile::index c) { store(c, inverse * (weighted(c) - normal(c) * along)); });
    }
  }
};

}  // namespace ops::programs

namespace ops::detail {

template <bool Centred>
struct norm_backward_x_by_tiles {
  template <Floating T, class C>
  static void impl(context<C>& on, view<T> out, view<const T> g, view<const T> self,
                   view<const T> weight, double eps) {
    run_rows<programs::norm_backward_x<T, Centred, fold_block<C>>>(
        on, out.rank() - 1, std::tuple(weight, static_cast<compute_type<T>>(eps)), out, g, self);
  }
};

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::rms_norm, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   double eps) {
    ops::detail::run_rows<ops::programs::rms_norm<T, ops::detail::fold_block<C>>>(
        on, out.rank() - 1, std::tuple(weight, static_cast<compute_type<T>>(eps)), out, self);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::layer_norm, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias, double eps) {
    ops::detail::run_rows<ops::programs::layer_norm<T, ops::detail::fold_block<C>>>(
        on, out.rank() - 1, std::tuple(weight, bias, static_cast<compute_type<T>>(eps)), out, self);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::rms_norm_backward_x, C> : ops::detail::norm_backward_x_by_tiles<false> {};
template <RunsTiles C>
struct tile_kernel<ops::layer_norm_backward_x, C> : ops::detail::norm_backward_x_by_tiles<true> {};

template <RunsTiles C>
struct tile_kernel<ops::rms_norm_backward_weight, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> g, view<const T> self, double eps) {
    ops::detail::norm_weight_by_tiles<false>(on, out, out, g, self, eps);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::layer_norm_backward_weight, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> dweight, view<T> dbias, view<const T> g,
                   view<const T> self, double eps) {
    ops::detail::norm_weight_by_tiles<true>(on, dweight, dbias, g, self, eps);
  }
};

}  // namespace ashlar
