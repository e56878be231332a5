// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/ops/conv.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Convolutions and pools as tile programs: windows are read where they stand in the image, none is
/// copied, and what reaches over the edge reads as its padding.
///
/// Gradients are products, scatters and sums of windows, programs of their own; for integers these
/// operators are their parts.
namespace ashlar {

namespace ops::programs {

/// `y = bias + sum of weight * window` for images and filters of one group: one program for `M`
/// outputs of `N` windows of one row of an image.
///
/// Each element is one chain of multiply-adds, whatever the batch: from the bias on, over the
/// places of a window in row-major order, of each place over the channels.
/// Shapes: `y` (B, Ho, O, Wo); `x` (B, H, C, W); `weight` (kh, kw, O, C), all with any strides;
///         `bias` (O), or without elements.
template <Scalar T, bool Apart, int M = 16, int N = 64, int K = 32>
struct conv2d {
  static constexpr auto name = Apart ? "conv2d_apart" : "conv2d";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::in<T, 4> weight, tile::in<T, 1> bias,
                            tile::arg<std::int64_t> stride_h, tile::arg<std::int64_t> stride_w,
                            tile::arg<std::int64_t> padding_h, tile::arg<std::int64_t> padding_w,
                            tile::arg<std::int64_t> dilation_h,
                            tile::arg<std::int64_t> dilation_w) const {
    const auto image = k.program_id(2) / y.extent(1);
    const auto row = k.program_id(2) % y.extent(1);
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto channels = x.extent(2);
    const auto start = tile::broadcast<tile::tile<C, M, N>>(
        tile::expand<1>(tile::cast<C>(tile::load<M>(bias, m))));
    const auto over_channels = [&](tile::index a, tile::index b, auto sum) {
      const auto h = row * stride_h - padding_h + a * dilation_h;
      const auto w = n * stride_w - padding_w + b * dilation_w;
      return k.loop(
          0, channels, K,
          [&](tile::index c, auto acc) {
            const auto filter = tile::load<M, K>(weight, a, b, m, c);
            if constexpr (Apart) {
              const auto channel = k.iota<std::int64_t, 0, K, N>() + c;
              const auto column = k.iota<std::int64_t, 1, K, N>() * stride_w + w;
              return tile::dot(filter, tile::gather<K, N>(x, image, h, channel, column), acc);
            } else {
              return tile::dot(filter, tile::load<K, N>(x, image, h, c, w), acc);
            }
          },
          sum);
    };
    const auto sum = k.loop(
        0, weight.extent(0), 1,
        [&](tile::index a, auto rows) {
          return k.loop(
              0, weight.extent(1), 1,
              [&](tile::index b, auto places) { return over_channels(a, b, places); }, rows);
        },
        start);
    tile::store(y, tile::cast<T>(sum), image, row, m, n);
  }
};

/// The largest of each window, of equal ones the first, and NaN if there is one: one program for
/// `B` windows of one row.
template <Scalar T, int B = detail::tile_block>
struct max_pool2d {
  static constexpr auto name = "max_pool2d";
  static constexpr double least = std::is_same_v<T, float8_e4m3>
                                      ? -448.0  // it has no infinity
                                      : -std::numeric_limits<double>::infinity();
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::arg<std::int64_t> rows, tile::arg<std::int64_t> columns,
                            tile::arg<std::int64_t> stride_h, tile::arg<std::int64_t> stride_w,
                            tile::arg<std::int64_t> padding_h, tile::arg<std::int64_t> padding_w,
                            tile::arg<std::int64_t> dilation_h,
                            tile::arg<std::int64_t> dilation_w) const {
    const detail::grid_place at(k, y.extent(1));
    const auto n = k.program_id(0) * B;
    const auto padded = x.outside(least);
    const auto first = (k.iota<std::int64_t, 0, B>() + n) * stride_w - padding_w;
    const auto best = k.loop(
        0, rows, 1,
        [&](tile::index a, auto above) {
          const auto h = at.i2 * stride_h - padding_h + a * dilation_h;
          return k.loop(
              0, columns, 1,
              [&](tile::index b, auto so_far) {
                const auto w = first + b * dilation_w;
                const auto v = tile::cast<C>(tile::gather<B>(padded, at.i0, at.i1, h, w));
                return tile::select((so_far >= v) | (so_far != so_far), so_far, v);
              },
              above);
        },
        k.full<C, B>(least));
    tile::store(y, tile::cast<T>(best), at.i0, at.i1, at.i2, n);
  }
};

/// The mean of each window: sums along its rows, then of these. Places up to `margin` outside the
/// image count.
template <Scalar T, int B = detail::tile_block>
struct avg_pool2d {
  static constexpr auto name = "avg_pool2d";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x,
                            tile::arg<std::int64_t> rows, tile::arg<std::int64_t> columns,
                            tile::arg<std::int64_t> stride_h, tile::arg<std::int64_t> stride_w,
                            tile::arg<std::int64_t> padding_h, tile::arg<std::int64_t> padding_w,
                            tile::arg<std::int64_t> dilation_h, tile::arg<std::int64_t> dilation_w,
                            tile::arg<std::int64_t> margin_h,
                            tile::arg<std::int64_t> margin_w) const {
    const detail::grid_place at(k, y.extent(1));
    const auto n = k.program_id(0) * B;
    const auto first = (k.iota<std::int64_t, 0, B>() + n) * stride_w - padding_w;
    const auto zero = k.zeros<C, B>();
    const auto one_if = [](auto counts) { return tile::cast<C>(tile::cast<std::int32_t>(counts)); };
    const auto all = k.loop(
        0, rows, 1,
        [&](tile::index a, auto total, auto count) {
          const auto h = at.i2 * stride_h - padding_h + a * dilation_h;
          const auto line = k.loop(
              0, columns, 1,
              [&](tile::index b, auto sum, auto places) {
                const auto w = first + b * dilation_w;
                const auto v = tile::cast<C>(tile::gather<B>(x, at.i0, at.i1, h, w));
                const auto counts = one_if((w >= -margin_w) & (w < x.extent(3) + margin_w));
                return std::tuple(sum + v, places + counts);
              },
              zero, zero);
          const auto counts = one_if((h >= -margin_h) & (h < x.extent(2) + margin_h));
          return std::tuple(total + std::get<0>(line), count + std::get<1>(line) * counts);
        },
        zero, zero);
    tile::store(y, tile::cast<T>(std::get<0>(all) / std::get<1>(all)), at.i0, at.i1, at.i2, n);
  }
};

}  // namespace ops::programs

namespace ops::detail {

/// `length` places of an axis of four from `begin`, then the axes in another order.
template <class T>
tile::argument part_of(const view<T>& v, std::int64_t axis, std::int64_t begin, std::int64_t length,
                       const shape& order) {
  const tensor_spec s = geometry::permute(geometry::narrow(*v.spec, axis, begin, length), order);
  return four_axes(view<T>{v.data, &s}, s.offset - v.spec->offset);
}

/// `bias` may be null.
template <class T, class C>
void conv2d_by_tiles(context<C>& on, const view<T>& out, const view<const T>& x,
                     const view<const T>& weight, const view<const T>* bias,
                     const window_options& o, std::int64_t groups) {
  constexpr chip::matmul_blocks size =
      chip::blocks_of<C>::product(C::description, {.element = dtype_of<T>});
  if (out.size() == 0) {
    return;
  }
  const std::int64_t outputs = out.extent(1) / groups;
  const std::int64_t inputs = weight.extent(1);
  const tile::grid grid{ceil_div(out.extent(3), size.n), ceil_div(outputs, size.m),
                        out.extent(0) * out.extent(2)};
  const tensor_spec nothing = contiguous_spec(dtype_of<T>, shape{0}.span());
  const shape rows_first{0, 2, 1, 3};
  for (std::int64_t g = 0; g < groups; ++g) {
    tensor_spec some = nothing;
    if (bias != nullptr) {
      some = geometry::narrow(*bias->spec, 0, g * outputs, outputs);
    }
    const view<const T> start{
        bias == nullptr ? nullptr : bias->data + (some.offset - bias->spec->offset), &some};
    const auto launch = [&]<bool Apart>() {
      // Places apart are gathered by number, and numbers take room.
      constexpr int channels = Apart ? std::min(size.k, 8) : size.k;
      run_tiles<programs::conv2d<T, Apart, size.m, size.n, channels>>(
          on, grid, part_of(out, 1, g * outputs, outputs, rows_first),
          part_of(x, 1, g * inputs, inputs, rows_first),
          part_of(weight, 0, g * outputs, outputs, shape{2, 3, 0, 1}), start, o.stride[0],
          o.stride[1], o.padding[0], o.padding[1], o.dilation[0], o.dilation[1]);
    };
    if (o.stride[1] == 1) {
      launch.template operator()<false>();
    } else {
      launch.template operator()<true>();
    }
  }
}

/// Runs a kernel of pools; `more` are its arguments after those of the windows.
template <class K, class T, class C, class... More>
void pool_by_tiles(context<C>& on, int block, const view<T>& out, const view<const T>& x,
                   const shape& size, const window_options& o, More... more) {
  const tile::argument y = four_axes(out, 0);
  run_tiles<K>(on, grid_over(y, block), y, four_axes(x, 0), size[0], size[1], o.stride[0],
               o.stride[1], o.padding[0], o.padding[1], o.dilation[0], o.dilation[1], more...);
}

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::conv2d, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   const window_options& options, std::int64_t groups) {
    ops::detail::conv2d_by_tiles<T>(on, out, self, weight, nullptr, options, groups);
  }
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const T> weight,
                   view<const T> bias, const window_options& options, std::int64_t groups) {
    ops::detail::conv2d_by_tiles<T>(on, out, self, weight, &bias, options, groups);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::max_pool2d, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape& size,
                   const window_options& options) {
    constexpr int block = ops::detail::row_block<C, T>;
    ops::detail::pool_by_tiles<ops::programs::max_pool2d<T, block>>(on, block, out, self, size,
                                                                    options);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::avg_pool2d, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, const shape& size,
                   const window_options& options, bool count_padding) {
    constexpr int block = ops::detail::row_block<C, T>;
    ops::detail::pool_by_tiles<ops::programs::avg_pool2d<T, block>>(
        on, block, out, self, size, options, count_padding ? options.padding[0] : 0,
        count_padding ? options.padding[1] : 0);
  }
};

}  // namespace ashlar
