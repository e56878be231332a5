// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <tuple>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Normalisation along the last axis as tile programs.
///
/// One program for each row; the gradients of weights first note each row's statistics, then add
/// up rows in their order, one program for a block of columns.
namespace ashlar {

namespace ops::programs {

/// Mean and `1 / sqrt(mean((x - mean)^2) + eps)` of the row at `places`, in two passes: no
/// cancellation for rows far from zero. RMS normalisation has the mean 0.
template <bool Centred, Scalar C, int B, class X, class... P>
constexpr auto row_statistics(tile::scope& k, const X& x, tile::scalar<C> eps, P... places) {
  const auto n = x.extent(X::rank - 1);
  const auto count = tile::cast<C>(n);
  const auto read = [&](tile::index c) { return tile::cast<C>(tile::load<B>(x, places..., c)); };
  const auto mean = [&] {
    if constexpr (Centred) {
      const auto sum = k.loop(
          0, n, B, [&](tile::index c, auto acc) { return acc + read(c); }, k.zeros<C, B>());
      return tile::sum<0>(sum) / count;
    } else {
      return k.constant<C>(0);
    }
  }();
  const auto square = [&](auto v, auto acc) { return tile::fma(v, v, acc); };
  const auto squares = [&] {
    if constexpr (Centred) {
      // Beyond the row's end x is 0 and x - mean is not: that is masked, in the last block only.
      const auto whole = n - n % B;
      const auto columns = k.iota<std::int64_t, 0, B>();
      const auto most = k.loop(
          0, whole, B, [&](tile::index c, auto acc) { return square(read(c) - mean, acc); },
          k.zeros<C, B>());
      return k.loop(
          whole, n, B,
          [&](tile::index c, auto acc) {
            return square(tile::select(columns < n - c, read(c) - mean, 0), acc);
          },
          most);
    } else {
      return k.loop(
          0, n, B, [&](tile::index c, auto acc) { return square(read(c), acc); }, k.zeros<C, B>());
    }
  }();
  return std::tuple(mean, 1 / tile::sqrt(tile::sum<0>(squares) / count + eps));
}

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

/// Writes mean and inverse deviation of each row.
template <Scalar T, bool Centred, int B = detail::tile_block>
struct note_statistics {
  static constexpr auto name = "note_statistics";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<C, 2> noted, tile::in<T, 2> x,
                            tile::arg<C> eps) const {
    const auto row = k.program_id(0);
    const auto statistics = row_statistics<Centred, C, B>(k, x, eps, row);
    tile::store(noted, std::get<0>(statistics), row, 0);
    tile::store(noted, std::get<1>(statistics), row, 1);
  }
};

/// The sums over rows of `g (x - mean) inverse`, and of `g`.
template <Scalar T, bool Centred, int B = detail::tile_block>
struct norm_backward_weight {
  static constexpr auto name = Centred ? "layer_norm_backward_weight" : "rms_norm_backward_weight";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 1> dweight, tile::out<T, 1> dbias,
                            tile::in<T, 2> g, tile::in<T, 2> x, tile::in<C, 2> noted) const {
    const auto column = k.program_id(0) * B;
    const auto zero = k.zeros<C, B>();
    const auto grad = [&](tile::index r) { return tile::cast<C>(tile::load<B>(g, r, column)); };
    const auto normal = [&](tile::index r) {
      const auto v = tile::cast<C>(tile::load<B>(x, r, column));
      const auto inverse = tile::load(noted, r, 1);
      if constexpr (Centred) {
        return (v - tile::load(noted, r, 0)) * inverse;
      } else {
        return v * inverse;
      }
    };
    const auto dw = k.loop(
        0, x.extent(0), 1, [&](tile::index r, auto acc) { return acc + grad(r) * normal(r); },
        zero);
    tile::store(dweight, tile::cast<T>(dw), column);
    if constexpr (Centred) {
      const auto db = k.loop(
          0, x.extent(0), 1, [&](tile::index r, auto acc) { return acc + grad(r); }, zero);
      tile::store(dbias, tile::cast<T>(db), column);
    }
  }
};

}  // namespace ops::programs

namespace ops::detail {

template <bool Centred, class T, class C>
void norm_weight_by_tiles(context<C>& on, const view<T>& dweight, const view<T>& dbias,
                          const view<const T>& g, const view<const T>& x, double eps) {
  using compute = compute_type<T>;
  const shape rows{rows_of(*x.spec), x.extent(-1)};
  const reshaped<T, C> flat_g(on, g, rows);
  const reshaped<T, C> flat_x(on, x, rows);
  const auto noted = make_scratch<compute>(on, {rows[0], 2});
  run_tiles<programs::note_statistics<T, Centred, fold_block<C>>>(
      on, {rows[0], 1, 1}, noted.view(), flat_x.get(), static_cast<compute>(eps));
  constexpr int block = row_block<C, T, 2>;
  run_tiles<programs::norm_backward_weight<T, Centred, block>>(
      on, {ceil_div(rows[1], block), 1, 1}, dweight, dbias, flat_g.get(), flat_x.get(),
      view<const compute>(noted.view()));
}

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
