// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <tuple>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// The gradients of normalisation for weights as tile programs, which the host has, too; and the
/// statistics of rows.
///
/// First each row's statistics are noted, one program for a row; then rows are added up in their
/// order, one program for a block of columns.
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
      const auto columns = k.iota<std::int32_t, 0, B>();
      const auto most = k.loop(
          0, whole, B, [&](tile::index c, auto acc) { return square(read(c) - mean, acc); },
          k.zeros<C, B>());
      return k.loop(
          whole, n, B,
          [&](tile::index c, auto acc) {
            const auto inside = columns < tile::cast<std::int32_t>(n - c);
            return square(tile::select(inside, read(c) - mean, 0), acc);
          },
          most);
    } else {
      return k.loop(
          0, n, B, [&](tile::index c, auto acc) { return square(read(c), acc); }, k.zeros<C, B>());
    }
  }();
  return std::tuple(mean, 1 / tile::sqrt(tile::sum<0>(squares) / count + eps));
}

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

/// The sums over rows of `g (x - mean) inverse`, and of `g`. Some rows are added up by themselves,
/// so that the error does not grow with the number of all rows.
template <Scalar T, bool Centred, int B = detail::tile_block>
struct norm_backward_weight {
  static constexpr auto name = Centred ? "layer_norm_backward_weight" : "rms_norm_backward_weight";
  static constexpr int rows_per_fold = 256;
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
    const auto sum_over_rows = [&](const auto& term) {
      const auto n = x.extent(0);
      return k.loop(
          0, n, rows_per_fold,
          [&](tile::index first, auto total) {
            return total + k.loop(
                               first, tile::min(first + rows_per_fold, n), 1,
                               [&](tile::index r, auto acc) { return acc + term(r); }, zero);
          },
          zero);
    };
    const auto dw = sum_over_rows([&](tile::index r) { return grad(r) * normal(r); });
    tile::store(dweight, tile::cast<T>(dw), column);
    if constexpr (Centred) {
      tile::store(dbias, tile::cast<T>(sum_over_rows(grad)), column);
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

}  // namespace ops::detail

}  // namespace ashlar
