// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/rows.hpp"
#include "ashlar/ops/unfold.hpp"

/// Elements by number, orders, running sums and windows as tile programs. The axis is the last one.
///
/// An index that does not exist stops the kernel (`require`) on chips that can; elsewhere it reads
/// as zero and is not written.
namespace ashlar {

namespace ops::programs {

template <Scalar T, std::integral I, int B = detail::tile_block>
struct gather {
  static constexpr auto name = "gather";

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::in<I, 4> index) const {
    const detail::grid_place at(k, y.extent(1));
    const auto c = k.program_id(0) * B;
    const auto id = tile::cast<std::int64_t>(tile::load<B>(index, at.i0, at.i1, at.i2, c));
    const auto beyond = k.iota<std::int64_t, 0, B>() >= y.extent(3) - c;
    k.require(0, beyond | ((id >= 0) & (id < x.extent(3))));
    tile::store(y, tile::gather<B>(x, at.i0, at.i1, at.i2, id), at.i0, at.i1, at.i2, c);
  }
};

/// One program for each row of `index`, place by place, so that sums have one order.
template <Scalar T, std::integral I, bool Accumulate>
struct scatter {
  static constexpr auto name = Accumulate ? "scatter_add" : "scatter";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<I, 4> index, tile::in<T, 4> source,
                            tile::out<T, 4> y) const {
    const detail::row_place at(k);
    k.loop(0, index.extent(3), 1, [&](tile::index i) {
      const auto id = tile::cast<std::int64_t>(tile::load(index, at.i0, at.i1, at.i2, i));
      k.require(0, (id >= 0) & (id < y.extent(3)));
      const auto v = tile::load(source, at.i0, at.i1, at.i2, i);
      if constexpr (Accumulate) {
        const auto before = tile::cast<C>(tile::load(y, at.i0, at.i1, at.i2, id));
        tile::store(y, tile::cast<T>(before + tile::cast<C>(v)), at.i0, at.i1, at.i2, id);
      } else {
        tile::store(y, v, at.i0, at.i1, at.i2, id);
      }
    });
  }
};

/// Each element counts how many stand before it: that is its place.
///
/// O(n^2) comparisons for a row, `B` at a time and without a branch.
template <Scalar T, bool Descending, int B = detail::tile_block>
struct argsort {
  static constexpr auto name = "argsort";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<std::int64_t, 4> y) const {
    const detail::grid_place at(k, x.extent(1));
    const auto c = k.program_id(0) * B;
    const auto n = x.extent(3);
    const auto number = k.iota<std::int64_t, 0, B>() + c;
    const auto mine = tile::cast<C>(tile::load<B>(x, at.i0, at.i1, at.i2, c));
    const auto place = k.loop(
        0, n, 1,
        [&](tile::index j, auto count) {
          const auto other = tile::broadcast<tile::tile<C, B>>(
              tile::cast<C>(tile::load(x, at.i0, at.i1, at.i2, j)));
          const auto earlier = tile::broadcast<tile::tile<std::int64_t, B>>(j) < number;
          const auto first = [&] {
            const auto strictly = Descending ? other > mine : other < mine;
            const auto equal = other == mine;
            if constexpr (std::is_floating_point_v<C>) {  // NaN is the largest
              const auto other_nan = other != other;
              const auto mine_nan = mine != mine;
              const auto wins = Descending ? other_nan & !mine_nan : mine_nan & !other_nan;
              return strictly | wins | ((equal | (other_nan & mine_nan)) & earlier);
            } else {
              return strictly | (equal & earlier);
            }
          }();
          return count + tile::cast<std::int64_t>(first);
        },
        k.zeros<std::int64_t, B>());
    // What is no element goes where nothing is written.
    const auto outside = tile::broadcast<tile::tile<std::int64_t, B>>(y.extent(3));
    tile::scatter(y, number, at.i0, at.i1, at.i2, tile::select(number < n, place, outside));
  }
};

/// One program for `B` rows that stand side by side along the last axis; the sums go along the one
/// before it.
template <Scalar T, bool FromEnd, int B = detail::tile_block>
struct cumsum {
  static constexpr auto name = "cumsum";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<T, 4> y) const {
    const auto i0 = k.program_id(2);
    const auto i1 = k.program_id(1);
    const auto c = k.program_id(0) * B;
    const auto n = x.extent(2);
    k.loop(
        0, n, 1,
        [&](tile::index i, auto sum) {
          const auto at = FromEnd ? n - 1 - i : i + 0;
          const auto now = sum + tile::cast<C>(tile::load<B>(x, i0, i1, at, c));
          tile::store(y, tile::cast<T>(now), i0, i1, at, c);
          return now;
        },
        k.zeros<C, B>());
  }
};

}  // namespace ops::programs

template <RunsTiles C>
struct tile_kernel<ops::gather, C> {
  template <class T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const I> index, int a) {
    using namespace ops::detail;
    constexpr int block = row_block<C, T>;
    if (out.size() == 0) {
      return;
    }
    const tensor_spec specs[3] = {with_last(*out.spec, a), with_last(*self.spec, a),
                                  with_last(*index.spec, a)};
    each_four_axes(
        [&](const auto& v) {
          run_tiles<ops::programs::gather<T, I, block>>(on, grid_over(v[0], block), v[0], v[1],
                                                        v[2]);
        },
        view<T>{out.data, &specs[0]}, view<const T>{self.data, &specs[1]},
        view<const I>{index.data, &specs[2]});
  }
};

template <RunsTiles C>
struct tile_kernel<ops::scatter, C> {
  template <class T, std::integral I>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const I> index,
                   view<const T> source, const ops::scatter::precomputed& how) {
    using namespace ops::detail;
    run_map(on, identity{}, out, self);
    if (index.size() == 0) {
      return;
    }
    if (how.accumulate) {
      run_rows<ops::programs::scatter<T, I, true>>(on, how.axis, std::tuple<>(), index, source,
                                                   out);
    } else {
      run_rows<ops::programs::scatter<T, I, false>>(on, how.axis, std::tuple<>(), index, source,
                                                    out);
    }
  }
};

template <RunsTiles C>
struct tile_kernel<ops::argsort, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<std::int64_t> out, view<const T> self,
                   const ops::argsort::precomputed& how) {
    using namespace ops::detail;
    constexpr int block = row_block<C, T>;
    if (out.size() == 0) {
      return;
    }
    const int a = how.axis;
    const tensor_spec specs[2] = {with_last(*self.spec, a), with_last(*out.spec, a)};
    each_four_axes(
        [&](const auto& v) {
          const tile::grid size = grid_over(v[0], block);
          if (how.descending) {
            run_tiles<ops::programs::argsort<T, true, block>>(on, size, v[0], v[1]);
          } else {
            run_tiles<ops::programs::argsort<T, false, block>>(on, size, v[0], v[1]);
          }
        },
        view<const T>{self.data, &specs[0]}, view<std::int64_t>{out.data, &specs[1]});
  }
};

template <RunsTiles C>
struct tile_kernel<ops::cumsum, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self,
                   const ops::cumsum::precomputed& how) {
    using namespace ops::detail;
    constexpr int block = row_block<C, T>;
    if (out.size() == 0) {
      return;
    }
    const int a = how.axis;
    const auto turned = [&](const tensor_spec& s) {
      const tensor_spec last = with_last(s, a);
      return geometry::transpose(last.rank > 1 ? last : geometry::unsqueeze(last, 0), -1, -2);
    };
    const tensor_spec specs[2] = {turned(*self.spec), turned(*out.spec)};
    each_four_axes(
        [&](const auto& v) {
          const auto& e = v[0].extents;
          const tile::grid size{ceil_div(e[3], block), e[1], e[0]};
          if (how.from_end) {
            run_tiles<ops::programs::cumsum<T, true, block>>(on, size, v[0], v[1]);
          } else {
            run_tiles<ops::programs::cumsum<T, false, block>>(on, size, v[0], v[1]);
          }
        },
        view<const T>{self.data, &specs[0]}, view<T>{out.data, &specs[1]});
  }
};

template <RunsTiles C>
struct tile_kernel<ops::unfold_backward, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape&, std::int64_t axis,
                   std::int64_t size, std::int64_t step, std::int64_t dilation) {
    tile_kernel<ops::fill, C>::template impl<T>(on, out, out, 0.0);
    ops::detail::each_window_place(
        *out.spec, *self.spec, axis, size, step, dilation,
        [&](const tensor_spec& to, const tensor_spec& from) {
          const view<T> sum{out.data + (to.offset - out.spec->offset), &to};
          const view<const T> x{self.data + (from.offset - self.spec->offset), &from};
          ops::detail::run_map(on, tile::fn::add{}, sum, view<const T>(sum), x);
        });
  }
};

}  // namespace ashlar
