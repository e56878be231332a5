// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/type.hpp"

/// From tensors of any rank to the views of four axes that tile programs have.
namespace ashlar::ops::detail {

/// Elements along the last axis that one program takes of a kernel that is not told how many.
inline constexpr int tile_block = 64;

/// Elements of a row that one program takes on chip `C`: of `Inputs` rows, computed with in `T`.
template <class C, class T, int Inputs = 1>
inline constexpr int row_block = chip::blocks_of<C>::row(
    C::description, {.inputs = Inputs, .element = dtype_of<compute_type<T>>});
/// Partial sums along a row, on chip `C`.
template <class C>
inline constexpr int fold_block = chip::blocks_of<C>::fold;

/// A view as an argument of four axes: axes of extent 1 in front, or without its first axes.
template <class T>
tile::argument four_axes(const view<T>& v, std::int64_t offset) {
  std::array<std::int64_t, tile::max_rank> extents{1, 1, 1, 1};
  std::array<std::int64_t, tile::max_rank> strides{};
  for (int a = 0; a < tile::max_rank && a < v.rank(); ++a) {
    const auto to = static_cast<std::size_t>(tile::max_rank - 1 - a);
    extents[to] = v.extent(-1 - a);
    strides[to] = v.stride(-1 - a);
  }
  return {v.data + offset, extents, strides};
}

/// Calls `f(arguments)` once, or once for each place along the axes before the last four.
///
/// Requires: all views have the shape of the first.
template <class F, class First, class... Rest>
void each_four_axes(const F& f, const First& first, const Rest&... rest) {
  const int lead = first.rank() - tile::max_rank;
  const auto run = [&](auto... offset) {
    f(std::array<tile::argument, 1 + sizeof...(Rest)>{offset...});
  };
  if (lead <= 0) {
    run(four_axes(first, 0), four_axes(rest, 0)...);
    return;
  }
  std::array<std::int64_t, max_rank> at{};
  std::int64_t places = 1;
  for (int a = 0; a < lead; ++a) {
    places *= first.extent(a);
  }
  const auto offset_in = [&](const auto& v) {
    std::int64_t offset = 0;
    for (int a = 0; a < lead; ++a) {
      offset += at[static_cast<std::size_t>(a)] * v.stride(a);
    }
    return offset;
  };
  for (std::int64_t n = 0; n < places; ++n) {
    run(four_axes(first, offset_in(first)), four_axes(rest, offset_in(rest))...);
    for (int a = lead - 1; a >= 0; --a) {
      if (++at[static_cast<std::size_t>(a)] < first.extent(a)) {
        break;
      }
      at[static_cast<std::size_t>(a)] = 0;
    }
  }
}

/// The same elements with as few axes as hold them: neighbours that lie evenly in all specs are
/// one.
///
/// Requires: all specs have one shape.
template <std::size_t N>
constexpr std::array<tensor_spec, N> merged_axes(const std::array<tensor_spec, N>& all) {
  std::array<tensor_spec, N> merged = all;
  for (tensor_spec& s : merged) {
    s.extent = {};
    s.stride = {};
    s.rank = 0;
  }
  std::size_t rank = 0;
  for (std::size_t a = 0; a < all[0].rank; ++a) {
    const std::int64_t n = all[0].extent[a];
    if (n == 1) {
      continue;
    }
    bool joins = rank > 0;
    for (std::size_t i = 0; i < N && joins; ++i) {
      joins = merged[i].stride[rank - 1] == n * all[i].stride[a];
    }
    rank += joins ? 0u : 1u;
    for (std::size_t i = 0; i < N; ++i) {
      merged[i].extent[rank - 1] = joins ? merged[i].extent[rank - 1] * n : n;
      merged[i].stride[rank - 1] = all[i].stride[a];
      merged[i].rank = static_cast<std::uint8_t>(rank);
    }
  }
  for (tensor_spec& s : merged) {
    s = geometry::finished(s);
  }
  return merged;
}

/// As `each_four_axes` for kernels that take elements one by one: axes are merged where they can
/// be.
template <class F, class First, class... Rest>
void each_merged(const F& f, const First& first, const Rest&... rest) {
  const auto specs = merged_axes(std::array{*first.spec, *rest.spec...});
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    each_four_axes(f, First{first.data, &specs[0]}, Rest{rest.data, &specs[I + 1]}...);
  }(std::index_sequence_for<Rest...>{});
}

/// The grid over an argument of four axes: blocks of the last one, the axis before it, the others.
inline tile::grid grid_over(const tile::argument& y, std::int64_t block) {
  return {ceil_div(y.extents[3], block), y.extents[2], y.extents[0] * y.extents[1]};
}

/// A chip that fixed kernels can be launched on. The host compiles them; it has no `codegen`, since
/// its operators take tile programs one by one, where those are faster than what is written by
/// hand.
template <class C>
concept LaunchesTiles = RunsTiles<C> || std::same_as<C, chip::host>;

/// Enqueues the fixed kernel `K`; nothing where the grid is empty.
template <class K, LaunchesTiles C, class... A>
void run_tiles(context<C>& on, const tile::grid& grid, const A&... arguments) {
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) {
    return;
  }
  const std::array<tile::argument, sizeof...(A)> all{tile::argument(arguments)...};
  if constexpr (std::same_as<C, chip::host>) {
    chip::host_codegen::run<chip::host_codegen::source<K>>(grid, all);
  } else if constexpr (CompilesKernel<C, K>) {
    C::codegen::template run<K>(on, grid, all);
  } else {
    C::codegen::run(on, tile::program_of<K>, grid, all);
  }
}

/// Where a program of `grid_over` stands.
struct grid_place {
  tile::index i0, i1, i2;
  constexpr grid_place(tile::scope& k, const tile::index& middle)
      : i0(k.program_id(2) / middle), i1(k.program_id(2) % middle), i2(k.program_id(1)) {}
};

}  // namespace ashlar::ops::detail
