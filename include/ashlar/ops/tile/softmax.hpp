// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Softmax, its logarithm and their derivatives as tile programs: one program for each row.
namespace ashlar {

namespace ops::programs {

/// `exp(x - largest) / total`, or `x - largest - log(total)`. The terms wait in `y`; where that
/// rounds to 16 bits they are computed again instead, so that results round once.
template <Scalar T, bool Log, int B = detail::tile_block>
struct softmax {
  static constexpr auto name = Log ? "log_softmax" : "softmax";
  using C = compute_type<T>;
  static constexpr bool terms_wait = !Log && std::is_same_v<T, C>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> y, tile::in<T, 4> x) const {
    constexpr double lowest = -std::numeric_limits<double>::infinity();
    const detail::row_place at(k);
    const auto n = x.extent(3);
    const auto inside = x.outside(lowest);
    const auto read = [&](tile::index c) {
      return tile::cast<C>(tile::load<B>(inside, at.i0, at.i1, at.i2, c));
    };
    const auto store = [&](tile::index c, auto v) {
      tile::store(y, tile::cast<T>(v), at.i0, at.i1, at.i2, c);
    };
    const auto largest = tile::max<0>(k.loop(
        0, n, B, [&](tile::index c, auto best) { return tile::max(best, read(c)); },
        k.full<C, B>(lowest)));
    const auto total = tile::sum<0>(k.loop(
        0, n, B,
        [&](tile::index c, auto sum) {
          const auto term = tile::exp(read(c) - largest);
          if constexpr (terms_wait) {
            store(c, term);
          }
          return sum + term;
        },
        k.zeros<C, B>()));
    if constexpr (Log) {
      const auto second = tile::log(total);
      k.loop(0, n, B, [&](tile::index c) { store(c, read(c) - largest - second); });
    } else if constexpr (terms_wait) {
      k.loop(0, n, B,
             [&](tile::index c) { store(c, tile::load<B>(y, at.i0, at.i1, at.i2, c) / total); });
    } else {
      k.loop(0, n, B, [&](tile::index c) { store(c, tile::exp(read(c) - largest) / total); });
    }
  }
};

/// `y (g - sum(y g))`, or `g - exp(y) sum(g)`.
template <Scalar T, bool Log, int B = detail::tile_block>
struct softmax_backward {
  static constexpr auto name = Log ? "log_softmax_backward" : "softmax_backward";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> dx, tile::in<T, 4> y,
                            tile::in<T, 4> g) const {
    const detail::row_place at(k);
    const auto n = y.extent(3);
    const auto read = [&](const auto& from, tile::index c) {
      return tile::cast<C>(tile::load<B>(from, at.i0, at.i1, at.i2, c));
    };
    const auto total = tile::sum<0>(k.loop(
        0, n, B,
        [&](tile::index c, auto sum) {
          if constexpr (Log) {
            return sum + read(g, c);
          } else {
            return tile::fma(read(y, c), read(g, c), sum);
          }
        },
        k.zeros<C, B>()));
    k.loop(0, n, B, [&](tile::index c) {
      const auto p = read(y, c);
      const auto grad = read(g, c);
      const auto d = [&] {
        if constexpr (Log) {
          return grad - tile::exp(p) * total;
        } else {
          return p * (grad - total);
        }
      }();
      tile::store(dx, tile::cast<T>(d), at.i0, at.i1, at.i2, c);
    });
  }
};

}  // namespace ops::programs

namespace ops::detail {

template <bool Log>
struct softmax_by_tiles {
  template <Floating T, class C>
  static void impl(context<C>& on, view<T> out, view<const T> self, std::int64_t axis) {
    run_rows<programs::softmax<T, Log, fold_block<C>>>(on, row_axis("softmax", axis, self.rank()),
                                                       std::tuple<>(), out, self);
  }
};
template <bool Log>
struct softmax_backward_by_tiles {
  template <Floating T, class C>
  static void impl(context<C>& on, view<T> out, view<const T> y, view<const T> g,
                   std::int64_t axis) {
    run_rows<programs::softmax_backward<T, Log, fold_block<C>>>(
        on, row_axis("softmax_backward", axis, y.rank()), std::tuple<>(), out, y, g);
  }
};

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::softmax, C> : ops::detail::softmax_by_tiles<false> {};
template <RunsTiles C>
struct tile_kernel<ops::log_softmax, C> : ops::detail::softmax_by_tiles<true> {};
template <RunsTiles C>
struct tile_kernel<ops::softmax_backward, C> : ops::detail::softmax_backward_by_tiles<false> {};
template <RunsTiles C>
struct tile_kernel<ops::log_softmax_backward, C> : ops::detail::softmax_backward_by_tiles<true> {};

}  // namespace ashlar
