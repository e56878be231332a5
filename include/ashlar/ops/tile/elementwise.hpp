// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/tile/launch.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/scalar.hpp"

/// Elementwise operators as tile programs, for every chip that runs those.
namespace ashlar {

namespace ops {

namespace programs {

/// `y = function(x...)`, computed in `C`; a `bool` beside others is a condition.
template <int Block, class F, class C, Scalar R, Scalar... S>
struct map {
  static constexpr auto name = "map";
  F function{};

  constexpr void operator()(tile::scope& k, tile::out<R, 4> y, tile::in<S, 4>... x) const {
    const detail::grid_place at(k, y.extent(1));
    const auto column = k.program_id(0) * Block;
    const auto read = [&]<class X>(const X& from) {
      const auto v = tile::load<Block>(from, at.i0, at.i1, at.i2, column);
      if constexpr (std::same_as<typename X::value_type, bool>) {
        return v;
      } else {
        return tile::cast<C>(v);
      }
    };
    // Braces: loads are written from left to right.
    const std::tuple values{read(x)...};
    const auto result = std::apply(function, values);
    tile::store(y, tile::cast<R>(result), at.i0, at.i1, at.i2, column);
  }
};

/// `y[...] = value` is `map` without inputs; its functions take a place to write constants.
template <Scalar R, int Block = detail::tile_block>
struct fill {
  static constexpr auto name = "fill";

  constexpr void operator()(tile::scope& k, tile::out<R, 4> y, tile::arg<R> value) const {
    const detail::grid_place at(k, y.extent(1));
    tile::store(y, tile::broadcast<tile::tile<R, Block>>(value), at.i0, at.i1, at.i2,
                k.program_id(0) * Block);
  }
};

}  // namespace programs

namespace detail {

/// Runs `function` over views that are broadcast to `out`.
template <class C, class F, class R, class... S>
void run_map(context<C>& on, const F& function, const view<R>& out, const view<const S>&... x) {
  if (out.size() == 0) {
    return;
  }
  using compute = common_compute_type<S...>;
  constexpr int block = row_block<C, compute, sizeof...(S)>;
  const tile::program program = tile::trace(programs::map<block, F, compute, R, S...>{function});
  const std::array specs{geometry::expand(*x.spec, shape(out.shape()))...};
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    each_merged(
        [&](const auto& arguments) {
          C::codegen::run(on, program, grid_over(arguments[0], block), arguments);
        },
        out, view<const S>{x.data, &specs[I]}...);
  }(std::index_sequence_for<S...>{});
}

/// A function of numbers on booleans, which tile programs only combine: they are 0 and 1.
template <class F>
struct of_numbers {
  F function{};

  template <class... V>
  constexpr auto operator()(const V&... x) const {
    return function(tile::cast<std::int8_t>(x)...);
  }
};

/// As `chip::host_kernels::map`: views, then the function's attributes.
template <class F, class C, class R, class... A>
void map_by_tiles(context<C>& on, const view<R>& out, const A&... arguments) {
  run_on_views<F>(
      [&]<class... S>(const F& function, const view<S>&... x) {
        if constexpr (std::same_as<common_compute_type<std::remove_const_t<S>...>, bool>) {
          run_map(on, of_numbers<F>{function}, out, x...);
        } else {
          run_map(on, function, out, x...);
        }
      },
      arguments...);
}

struct identity {
  template <class V>
  constexpr V operator()(const V& x) const {
    return x;
  }
};

}  // namespace detail

}  // namespace ops

template <ops::detail::NamesFunction Op, RunsTiles C>
struct tile_kernel<Op, C> {
  template <class R, class... A>
    requires(!ops::detail::FloatingOnly<Op> || Floating<R>)
  static void impl(context<C>& on, view<R> out, const A&... args) {
    ops::detail::map_by_tiles<typename Op::function>(on, out, args...);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::where, C> {
  template <class T>
  static void impl(context<C>& on, view<T> out, view<const bool> condition, view<const T> self,
                   view<const T> other) {
    ops::detail::run_map(on, tile::fn::where{}, out, condition, self, other);
  }
};

template <class R, RunsTiles C>
struct tile_kernel<ops::cast<R>, C> {
  template <class T>
  static void impl(context<C>& on, view<R> out, view<const T> self) {
    ops::detail::run_map(on, ops::detail::identity{}, out, self);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::copy, C> {
  template <class T, class U>
  static void impl(context<C>& on, view<T> out, view<const T>, view<const U> other) {
    ops::detail::run_map(on, ops::detail::identity{}, out, other);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::clone, C> {
  template <class T>
  static void impl(context<C>& on, view<T> out, view<const T> self) {
    ops::detail::run_map(on, ops::detail::identity{}, out, self);
  }
};

template <RunsTiles C>
struct tile_kernel<ops::fill, C> {
  template <class T>
  static void impl(context<C>& on, view<T> out, view<const T>, double value) {
    if (out.size() == 0) {
      return;
    }
    constexpr int block = ops::detail::row_block<C, T, 0>;
    ops::detail::each_four_axes(
        [&](const auto& y) {
          ops::detail::run_tiles<ops::programs::fill<T, block>>(
              on, ops::detail::grid_over(y[0], block), y[0], tile::eval::cast<T>(value));
        },
        out);
  }
};

}  // namespace ashlar
