// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Reductions as tile programs: rows of `B` lanes that add up apart and meet in the IR's tree.
///
/// The order depends on the number of reduced elements alone, not on strides: axes that do not lie
/// evenly are copied first.
namespace ashlar {

namespace ops::programs {

/// How a fold begins, takes in an element and ends. `count` is the number of elements.
struct fold_sum {
  static constexpr auto name = "sum";
  template <class C>
  static constexpr C first = C(0);
  static constexpr auto take(auto sum, auto x) { return sum + x; }
  static constexpr auto meet(auto lanes) { return tile::sum<0>(lanes); }
  static constexpr auto finish(auto sum, auto) { return sum; }
};
struct fold_mean : fold_sum {
  static constexpr auto name = "mean";
  template <class C, int... E>
  static constexpr auto finish(tile::tile<C, E...> sum, tile::index count) {
    return sum / tile::cast<C>(count);
  }
};
struct fold_squares : fold_sum {
  static constexpr auto name = "sum_squares";
  static constexpr auto take(auto sum, auto x) { return tile::fma(x, x, sum); }
};
struct fold_max {
  static constexpr auto name = "max";
  template <class C>
  static constexpr C first = std::is_floating_point_v<C> ? -std::numeric_limits<C>::infinity()
                                                         : std::numeric_limits<C>::lowest();
  static constexpr auto take(auto best, auto x) { return tile::max(best, x); }
  static constexpr auto meet(auto lanes) { return tile::max<0>(lanes); }
  static constexpr auto finish(auto best, auto) { return best; }
};
struct fold_min {
  static constexpr auto name = "min";
  template <class C>
  static constexpr C first = std::is_floating_point_v<C> ? std::numeric_limits<C>::infinity()
                                                         : std::numeric_limits<C>::max();
  static constexpr auto take(auto best, auto x) { return tile::min(best, x); }
  static constexpr auto meet(auto lanes) { return tile::min<0>(lanes); }
  static constexpr auto finish(auto best, auto) { return best; }
};

/// Whether elements outside a view of `T` can read as what fold `F` begins with, so that they need
/// no mask: the value goes through `double`, and e4m3 has no infinity.
template <class F, Scalar T>
inline constexpr bool begins_outside =
    F::template first<compute_type<T>> == 0 || (Floating<T> && !std::is_same_v<T, float8_e4m3>);

/// Takes `read(view)`, of which the first `rest` elements along an axis are there, into `lanes`.
///
/// `places` are the elements' numbers along that axis.
template <class F, class X, class Read>
constexpr auto take_there(auto lanes, const X& x, const auto& places, const tile::index& rest,
                          const Read& read) {
  using T = typename X::value_type;
  constexpr auto first = F::template first<compute_type<T>>;
  if constexpr (begins_outside<F, T>) {
    return F::take(lanes, read(x.outside(static_cast<double>(first))));
  } else {
    return F::take(lanes, tile::select(places < rest, read(x), first));
  }
}

/// One program for each row: the last axis is folded.
template <class F, Scalar T, int B = detail::tile_block>
struct fold_rows {
  static constexpr auto name = F::name;
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<T, 4> y) const {
    const detail::row_place at(k);
    const auto n = x.extent(3);
    const auto columns = k.iota<std::int64_t, 0, B>();
    const auto lanes = k.loop(
        0, n, B,
        [&](tile::index c, auto lane) {
          return take_there<F>(lane, x, columns, n - c, [&](const auto& from) {
            return tile::cast<C>(tile::load<B>(from, at.i0, at.i1, at.i2, c));
          });
        },
        k.full<C, B>(F::template first<C>));
    tile::store(y, tile::cast<T>(F::finish(F::meet(lanes), n)), at.i0, at.i1, at.i2, 0);
  }
};

/// One program for `N` neighbouring results: the last axis but one is folded, in the same order.
template <class F, Scalar T, int B = detail::tile_block, int N = 16>
struct fold_columns {
  static constexpr auto name = F::name;
  static constexpr int columns = N;
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<T, 4> y) const {
    const auto i0 = k.program_id(2);
    const auto i1 = k.program_id(1);
    const auto column = k.program_id(0) * N;
    const auto n = x.extent(2);
    const auto rows = k.iota<std::int64_t, 0, B, 1>();
    const auto lanes = k.loop(
        0, n, B,
        [&](tile::index r, auto lane) {
          return take_there<F>(lane, x, rows, n - r, [&](const auto& from) {
            return tile::cast<C>(tile::load<B, N>(from, i0, i1, r, column));
          });
        },
        k.full<C, B, N>(F::template first<C>));
    tile::store(y, tile::cast<T>(F::finish(F::meet(lanes), n)), i0, i1, 0, column);
  }
};

/// The number of the first of the largest elements of each row; NaN counts as the largest.
template <Scalar T, int B = detail::tile_block>
struct argmax {
  static constexpr auto name = "argmax";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<std::int64_t, 4> y) const {
    const detail::row_place at(k);
    const auto n = x.extent(3);
    const auto columns = k.iota<std::int64_t, 0, B>();
    // A lane without an element has no number, which is more than any other.
    const auto none = k.full<std::int64_t, B>(std::numeric_limits<std::int64_t>::max());
    const auto better = [](auto v, auto at_v, auto best, auto at_best) {
      const auto beats = [&] {
        if constexpr (std::is_floating_point_v<C>) {
          return (v > best) | ((v != v) & (best == best));
        } else {
          return v > best;
        }
      }();
      const auto ties = [&] {
        if constexpr (std::is_floating_point_v<C>) {
          return (v == best) | ((v != v) & (best != best));
        } else {
          return v == best;
        }
      }();
      const auto take = beats | (ties & (at_v < at_best));
      return std::tuple(tile::select(take, v, best), tile::select(take, at_v, at_best));
    };
    const auto lanes = k.loop(
        0, n, B,
        [&](tile::index c, auto best, auto where) {
          const auto number = columns + c;
          const auto real = number < n;
          const auto v = tile::cast<C>(tile::load<B>(x, at.i0, at.i1, at.i2, c));
          return better(tile::select(real, v, fold_max::first<C>), tile::select(real, number, none),
                        best, where);
        },
        k.full<C, B>(fold_max::first<C>), none);
    const auto found = tile::reduce<0>(
        [&](auto a, auto b) {
          return better(std::get<0>(b), std::get<1>(b), std::get<0>(a), std::get<1>(a));
        },
        std::get<0>(lanes), std::get<1>(lanes));
    tile::store(y, std::get<1>(found), at.i0, at.i1, at.i2, 0);
  }
};

}  // namespace ops::programs

namespace ops::detail {

/// The axes of `s` that stay, in order, and an axis of `n` elements with stride `step` after them.
///
/// `own` is the axis of `s` that stands for axis `a` of what was reduced, or -1.
template <class Own>
constexpr tensor_spec kept_axes(const tensor_spec& s, const tensor_spec& from, std::uint32_t bits,
                                const Own& own) {
  tensor_spec k{};
  k.type = s.type;
  const auto push = [&](std::int64_t extent, std::int64_t stride) {
    k.extent[k.rank] = extent;
    k.stride[k.rank] = stride;
    ++k.rank;
  };
  for (int a = 0; a < from.rank; ++a) {
    if ((bits >> a & 1u) == 0) {
      push(from[a], own(a) < 0 ? 0 : s.stride_of(own(a)));
    }
  }
  push(1, 1);
  return geometry::finished(k);
}

/// Folds the axes in `bits`, at least one, of `x` into `out` by kernel `Rows`, or by `Columns`
/// where results are neighbours in memory. `own(a)` is the axis of `out` that is axis `a` of `x`.
template <class Rows, class Columns, class C, class R, class T, class Own>
void run_fold(context<C>& on, const view<R>& out, const view<const T>& x, std::uint32_t bits,
              const Own& own) {
  if (out.size() == 0) {
    return;
  }
  shape order;
  shape extents;
  std::int64_t n = 1;
  for (int a = 0; a < x.rank(); ++a) {
    if ((bits >> a & 1u) == 0) {
      order.push_back(a);
      extents.push_back(x.extent(a));
    }
  }
  for (int a = 0; a < x.rank(); ++a) {
    if ((bits >> a & 1u) != 0) {
      order.push_back(a);
      n *= x.extent(a);
    }
  }
  extents.push_back(n);
  const tensor_spec turned = geometry::permute(*x.spec, order);
  const reshaped<T, C> rows(on, view<const T>{x.data, &turned}, extents);
  const tensor_spec to = kept_axes(*out.spec, *x.spec, bits, own);
  const tensor_spec& from = *rows.get().spec;
  if constexpr (!std::is_void_v<Columns>) {
    if (from.rank > 1 && n > 1 && from[-2] > 1 && from.stride_of(-2) == 1) {
      const tensor_spec columns = geometry::transpose(from, -1, -2);
      const tensor_spec results = geometry::transpose(to, -1, -2);
      each_four_axes(
          [&](const auto& views) {
            const auto& e = views[1].extents;
            run_tiles<Columns>(on, {ceil_div(e[3], Columns::columns), e[1], e[0]}, views[0],
                               views[1]);
          },
          view<const T>{rows.get().data, &columns}, view<R>{out.data, &results});
      return;
    }
  }
  each_four_axes(
      [&](const auto& views) {
        const auto& e = views[1].extents;
        run_tiles<Rows>(on, {e[2], e[1], e[0]}, views[0], views[1]);
      },
      rows.get(), view<R>{out.data, &to});
}

/// As the operators say: axes, and whether they stay with extent 1.
template <class Rows, class Columns, class C, class R, class T>
void run_fold_of_axes(context<C>& on, const view<R>& out, const view<const T>& x,
                      const shape& axes) {
  const std::uint32_t bits = axis_bits("reduction", axes, x.rank());
  const bool keeps = out.rank() == x.rank();
  run_fold<Rows, Columns>(on, out, x, bits, [&](int a) {
    return keeps ? a : a - std::popcount(bits & ((std::uint32_t{1} << a) - 1u));
  });
}

template <class F>
struct fold_by_tiles {
  template <class T, class C>
    requires(!std::is_same_v<T, bool> && (Floating<T> || !std::is_same_v<F, programs::fold_mean>))
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape& axes, bool) {
    constexpr int lanes = fold_block<C>;
    run_fold_of_axes<programs::fold_rows<F, T, lanes>, programs::fold_columns<F, T, lanes>>(
        on, out, self, axes);
  }
};

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::sum, C> : ops::detail::fold_by_tiles<ops::programs::fold_sum> {};
template <RunsTiles C>
struct tile_kernel<ops::mean, C> : ops::detail::fold_by_tiles<ops::programs::fold_mean> {};
template <RunsTiles C>
struct tile_kernel<ops::max, C> : ops::detail::fold_by_tiles<ops::programs::fold_max> {};
template <RunsTiles C>
struct tile_kernel<ops::min, C> : ops::detail::fold_by_tiles<ops::programs::fold_min> {};

template <RunsTiles C>
struct tile_kernel<ops::argmax, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<std::int64_t> out, view<const T> self, const shape& axes,
                   bool) {
    ops::detail::run_fold_of_axes<ops::programs::argmax<T, ops::detail::fold_block<C>>, void>(
        on, out, self, axes);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::sum_to, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape&) {
    using namespace ops::programs;
    constexpr int lanes = ops::detail::fold_block<C>;
    const int lead = self.rank() - out.rank();
    std::uint32_t bits = 0;
    for (int a = 0; a < self.rank(); ++a) {
      const bool summed = a < lead || (out.extent(a - lead) == 1 && self.extent(a) != 1);
      bits |= static_cast<std::uint32_t>(summed) << a;
    }
    if (bits == 0) {
      ops::detail::run_map(on, ops::detail::identity{}, out, self);
      return;
    }
    ops::detail::run_fold<fold_rows<fold_sum, T, lanes>, fold_columns<fold_sum, T, lanes>>(
        on, out, self, bits, [&](int a) { return a - lead; });
  }
};

template <RunsTiles C>
struct tile_kernel<ops::sum_squares, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self) {
    using fold =
        ops::programs::fold_rows<ops::programs::fold_squares, T, ops::detail::fold_block<C>>;
    ops::detail::run_fold_of_axes<fold, void>(on, out, self, {});
  }
};

}  // namespace ashlar
