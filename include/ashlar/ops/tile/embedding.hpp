// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Rows of a table as tile programs. An id that is no row stops the kernel (`require`) on chips
/// that can; elsewhere it reads as zeros and is not written.
namespace ashlar {

namespace ops::programs {

/// One program for a block of columns of one id in one of several tables.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct embedding {
  static constexpr auto name = "embedding";

  constexpr void operator()(tile::scope& k, tile::out<T, 3> y, tile::in<T, 3> weight,
                            tile::in<I, 1> ids) const {
    const auto table = k.program_id(2);
    const auto i = k.program_id(1);
    const auto c = k.program_id(0) * B;
    const auto row = tile::cast<std::int64_t>(tile::load(ids, i));
    k.require(0, (row >= 0) & (row < weight.extent(1)));
    tile::store(y, tile::load<B>(weight, table, row, c), table, i, c);
  }
};

/// One program for a block of columns: ids in their order, so that sums have one order and nothing
/// is atomic.
template <Scalar T, std::integral I, int B = detail::tile_block>
struct embedding_backward {
  static constexpr auto name = "embedding_backward";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 2> dweight, tile::in<T, 2> g,
                            tile::in<I, 1> ids) const {
    const auto c = k.program_id(0) * B;
    k.loop(0, dweight.extent(0), 1,
           [&](tile::index v) { tile::store(dweight, k.zeros<T, B>(), v, c); });
    k.loop(0, ids.extent(0), 1, [&](tile::index i) {
      const auto row = tile::cast<std::int64_t>(tile::load(ids, i));
      k.require(0, (row >= 0) & (row < dweight.extent(0)));
      const auto sum =
          tile::cast<C>(tile::load<B>(dweight, row, c)) + tile::cast<C>(tile::load<B>(g, i, c));
      tile::store(dweight, tile::cast<T>(sum), row, c);
    });
  }
};

}  // namespace ops::programs

namespace ops::detail {
/// (tables, rows, columns) -> (tables, ids, columns)
template <class T, std::integral I, RunsTiles C>
void run_embedding(context<C>& on, view<T> out, view<const T> weight, view<const I> ids) {
  constexpr int block = row_block<C, T>;
  run_tiles<programs::embedding<T, I, block>>(
      on, {ceil_div(out.extent(2), block), ids.size(), out.extent(0)}, out, weight, ids);
}
}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::embedding, C> {
  template <class T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> weight, view<const I> ids) {
    using namespace ops::detail;
    const reshaped<I, C> flat(on, ids, {ids.size()});
    const tensor_spec table = geometry::unsqueeze(*weight.spec, 0);
    into_shape(on, out, {1, ids.size(), out.extent(-1)}, [&](const view<T>& to) {
      run_embedding(on, to, view<const T>{weight.data, &table}, flat.get());
    });
  }
};

template <RunsTiles C>
struct tile_kernel<ops::embedding_backward, C> {
  template <Floating T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> g, view<const I> ids, std::int64_t) {
    using namespace ops::detail;
    constexpr int block = row_block<C, T, 2>;
    const reshaped<I, C> flat(on, ids, {ids.size()});
    const reshaped<T, C> rows(on, g, {ids.size(), g.extent(-1)});
    run_tiles<ops::programs::embedding_backward<T, I, block>>(
        on, {ceil_div(out.extent(1), block), 1, 1}, out, rows.get(), flat.get());
  }
};

}  // namespace ashlar
