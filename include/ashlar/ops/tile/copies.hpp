// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/tile/rows.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/tile/scalar.hpp"

/// Operators that place elements and compute nothing, and counting, as tile programs.
namespace ashlar {

namespace ops::detail {

/// Calls `body(views, number)`: for each place along the axes before the last four, how many
/// elements in row-major order stand before it.
template <class V, class F>
void each_numbered(const V& out, const F& body) {
  std::int64_t before = 0;
  each_four_axes(
      [&](const auto& views) {
        const auto& e = views[0].extents;
        body(views[0], before);
        before += e[0] * e[1] * e[2] * e[3];
      },
      out);
}

/// The number, in row-major order, of the first element along the last axis.
constexpr tile::index row_number(const grid_place& at, const auto& y) {
  return ((at.i0 * y.extent(1) + at.i1) * y.extent(2) + at.i2) * y.extent(3);
}

}  // namespace ops::detail

namespace ops::programs {

/// `start + i * step`, in double for floating types, for integers modulo 2^64.
template <Scalar T, int B = detail::tile_block>
struct arange {
  static constexpr auto name = "arange";
  using C = std::conditional_t<Floating<T>, double, std::int64_t>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::arg<C> start,
                            tile::arg<C> step, tile::arg<std::int64_t> before) const {
    const detail::grid_place at(k, y.extent(1));
    const auto column = k.program_id(0) * B;
    const auto number =
        k.iota<std::int64_t, 0, B>() + (before + detail::row_number(at, y) + column);
    const auto value = start + tile::cast<C>(number) * step;
    if constexpr (Floating<T>) {  // 16-bit formats go by way of float, as everywhere
      tile::store(y, tile::cast<T>(tile::cast<compute_type<T>>(value)), at.i0, at.i1, at.i2,
                  column);
    } else {
      tile::store(y, tile::cast<T>(value), at.i0, at.i1, at.i2, column);
    }
  }
};

}  // namespace ops::programs

template <RunsTiles C>
struct tile_kernel<ops::arange, C> {
  template <class T>
    requires(!std::is_same_v<T, bool>)
  static void impl(context<C>& on, view<T> out, view<const T>, double start, double step) {
    using namespace ops::detail;
    constexpr int block = row_block<C, double, 1>;
    using kernel = ops::programs::arange<T, block>;
    const auto first = tile::eval::cast<typename kernel::C>(start);
    const auto stride = tile::eval::cast<typename kernel::C>(step);
    if (out.size() == 0) {
      return;
    }
    each_numbered(out, [&](const tile::argument& y, std::int64_t before) {
      run_tiles<kernel>(on, grid_over(y, block), y, first, stride, before);
    });
  }
};

template <RunsTiles C>
struct tile_kernel<ops::cat, C> {
  template <class T, class... A>
  static void impl(context<C>& on, view<T> out, const A&... args) {
    const auto all = std::tie(args...);
    constexpr std::size_t count = sizeof...(args) - 1;
    const int axis = wrap_axis(ops::cat::name, std::get<count>(all), out.rank());
    std::int64_t begin = 0;
    const auto place = [&](const view<const T>& x) {
      const tensor_spec part = geometry::narrow(*out.spec, axis, begin, x.extent(axis));
      ops::detail::run_map(on, ops::detail::identity{},
                           view<T>{out.data + (part.offset - out.spec->offset), &part}, x);
      begin += x.extent(axis);
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (place(std::get<I>(all)), ...);
    }(std::make_index_sequence<count>{});
  }
};

template <RunsTiles C>
struct tile_kernel<ops::slice_backward, C> {
  template <class T>
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape&, std::int64_t axis,
                   std::int64_t begin, std::int64_t end, std::int64_t step) {
    tile_kernel<ops::fill, C>::template impl<T>(on, out, out, 0.0);
    const tensor_spec part = geometry::slice(*out.spec, axis, begin, end, step);
    ops::detail::run_map(on, ops::detail::identity{},
                         view<T>{out.data + (part.offset - out.spec->offset), &part}, self);
  }
};

}  // namespace ashlar
