// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/embedding.hpp"
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

/// A block of a row: the elements, their numbers in the row and their places in the order of the
/// row; a place that nobody has for what is no element.
template <class X, class N>
struct ordered_block {
  X elements;
  N numbers, places;
};
/// Each element counts how many stand before it: that is its place. Equal ones stand by number, NaN
/// is the largest.
///
/// O(n^2) comparisons for a row, `B` at a time and without a branch.
template <bool Descending, int B, Scalar T>
constexpr auto block_in_order(tile::scope& k, const tile::in<T, 4>& x, const detail::grid_place& at,
                              const auto& c) {
  using C = compute_type<T>;
  const auto n = x.extent(3);
  const auto number = k.iota<std::int64_t, 0, B>() + c;
  const auto elements = tile::load<B>(x, at.i0, at.i1, at.i2, c);
  const auto mine = tile::cast<C>(elements);
  const auto place = k.loop(
      0, n, 1,
      [&](tile::index j, auto count) {
        const auto other =
            tile::broadcast<tile::tile<C, B>>(tile::cast<C>(tile::load(x, at.i0, at.i1, at.i2, j)));
        const auto earlier = tile::broadcast<tile::tile<std::int64_t, B>>(j) < number;
        const auto first = [&] {
          const auto strictly = Descending ? other > mine : other < mine;
          const auto equal = other == mine;
          if constexpr (std::is_floating_point_v<C>) {
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
  const auto nobodys = tile::broadcast<tile::tile<std::int64_t, B>>(n);
  return ordered_block{elements, number, tile::select(number < n, place, nobodys)};
}

/// Places beyond the end of `y` are not written.
template <Scalar T, bool Descending, int B = detail::tile_block>
struct argsort {
  static constexpr auto name = "argsort";

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<std::int64_t, 4> y) const {
    const detail::grid_place at(k, x.extent(1));
    const auto all = block_in_order<Descending, B>(k, x, at, k.program_id(0) * B);
    tile::scatter(y, all.numbers, at.i0, at.i1, at.i2, all.places);
  }
};

template <Scalar T, bool Descending, int B = detail::tile_block>
struct topk {
  static constexpr auto name = "topk";

  constexpr void operator()(tile::scope& k, tile::in<T, 4> x, tile::out<T, 4> values,
                            tile::out<std::int64_t, 4> places) const {
    const detail::grid_place at(k, x.extent(1));
    const auto all = block_in_order<Descending, B>(k, x, at, k.program_id(0) * B);
    tile::scatter(values, all.elements, at.i0, at.i1, at.i2, all.places);
    tile::scatter(places, all.numbers, at.i0, at.i1, at.i2, all.places);
  }
};

/// One program for a block of classes of one id: is it the one?
template <Scalar T, std::integral I, int B = detail::tile_block>
struct one_hot {
  static constexpr auto name = "one_hot";

  constexpr void operator()(tile::scope& k, tile::out<T, 2> y, tile::in<I, 1> ids) const {
    const auto i = k.program_id(1);
    const auto c = k.program_id(0) * B;
    const auto id = tile::cast<std::int64_t>(tile::load(ids, i));
    k.require(0, (id >= 0) & (id < y.extent(1)));
    const auto is_it =
        k.iota<std::int64_t, 0, B>() + c == tile::broadcast<tile::tile<std::int64_t, B>>(id);
    tile::store(y, tile::cast<T>(tile::cast<compute_type<T>>(is_it)), i, c);
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

namespace ops::detail {
/// Runs `K<T, Descending, block>` on rows along `axis` of `self` and of the outputs.
template <template <Scalar, bool, int> class K, RunsTiles C, class T, class... Out>
void run_in_order(context<C>& on, int axis, bool descending, view<const T> self,
                  const view<Out>&... outs) {
  constexpr int block = row_block<C, T>;
  const std::array specs{with_last(*self.spec, axis), with_last(*outs.spec, axis)...};
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    each_four_axes(
        [&](const auto& v) {
          const tile::grid size = grid_over(v[0], block);
          if (descending) {
            run_tiles<K<T, true, block>>(on, size, v[0], v[I + 1]...);
          } else {
            run_tiles<K<T, false, block>>(on, size, v[0], v[I + 1]...);
          }
        },
        view<const T>{self.data, &specs[0]}, view<Out>{outs.data, &specs[I + 1]}...);
  }(std::index_sequence_for<Out...>{});
}
}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::argsort, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<std::int64_t> out, view<const T> self,
                   const ops::argsort::precomputed& how) {
    if (out.size() != 0) {
      ops::detail::run_in_order<ops::programs::argsort>(on, how.axis, how.descending, self, out);
    }
  }
};
template <RunsTiles C>
struct tile_kernel<ops::topk, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> values, view<std::int64_t> places, view<const T> self,
                   std::int64_t, std::int64_t axis, bool largest) {
    if (places.size() != 0) {
      const int a = row_axis(ops::topk::name, axis, self.rank());
      ops::detail::run_in_order<ops::programs::topk>(on, a, largest, self, values, places);
    }
  }
};
template <RunsTiles C>
struct tile_kernel<ops::sort, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> values, view<std::int64_t> places, view<const T> self,
                   std::int64_t axis, bool descending) {
    tile_kernel<ops::topk, C>::impl(on, values, places, self, std::int64_t{}, axis, descending);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::index_select, C> {
  template <class T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const I> ids,
                   std::int64_t axis) {
    using namespace ops::detail;
    const int a = wrap_axis(ops::index_select::name, axis, self.rank());
    shape whole{1, self.extent(a), 1};
    for (int i = 0; i < self.rank(); ++i) {
      if (i != a) {
        whole[i < a ? 0 : 2] *= self.extent(i);
      }
    }
    if (whole[2] == 1) {  // nothing stands behind a place: a block is one of ids
      tensor_spec index = *ids.spec;
      for (int i = 0; i < self.rank(); ++i) {
        index = i == a ? index : geometry::unsqueeze(index, i);
      }
      index = geometry::expand(index, shape(out.spec->shape()));
      return tile_kernel<ops::gather, C>::template impl<T, I>(on, out, self,
                                                              view<const I>{ids.data, &index}, a);
    }
    const reshaped<T, C> tables(on, self, whole);
    into_shape(on, out, {whole[0], ids.size(), whole[2]},
               [&](const view<T>& to) { run_embedding(on, to, tables.get(), ids); });
  }
};

template <class Y, RunsTiles C>
struct tile_kernel<ops::one_hot<Y>, C> {
  template <class T, std::integral I>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const I> ids, std::int64_t classes) {
    using namespace ops::detail;
    constexpr int block = row_block<C, T>;
    const reshaped<I, C> flat(on, ids, {ids.size()});
    into_shape(on, out, {ids.size(), classes}, [&](const view<T>& to) {
      run_tiles<ops::programs::one_hot<T, I, block>>(on, {ceil_div(classes, block), ids.size(), 1},
                                                     to, flat.get());
    });
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
