// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <concepts>
#include <cstdint>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/tile/angles.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Rotary position embedding as a tile program. Angles are computed in double, in the kernel.
namespace ashlar {

namespace ops::programs {

/// Turns the pairs (a, b) of all heads of one token: one program for `B` pairs of a token.
///
/// Both conventions are this kernel: the halves or the even and odd channels are views.
template <Scalar T, std::integral P, int B = 32>
struct rope {
  static constexpr auto name = "rope";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 4> ya, tile::out<T, 4> yb,
                            tile::in<T, 4> a, tile::in<T, 4> b, tile::in<P, 1> positions,
                            tile::arg<double> log_theta, tile::arg<double> sign) const {
    const auto i0 = k.program_id(2);
    const auto t = k.program_id(1);
    const auto i = k.program_id(0) * B;
    const auto half = tile::cast<double>(a.extent(3));
    const auto pair = tile::cast<double>(k.iota<std::int64_t, 0, B>() + i);
    const auto frequency = tile::exp(-(pair / half * log_theta));
    const auto position = tile::cast<double>(tile::load(positions, t));
    const auto turned = sine_and_cosine(position * frequency);
    const auto s = tile::cast<C>(std::get<0>(turned) * sign);
    const auto c = tile::cast<C>(std::get<1>(turned));
    k.loop(0, a.extent(2), 1, [&](tile::index head) {
      const auto x = tile::cast<C>(tile::load<B>(a, i0, t, head, i));
      const auto y = tile::cast<C>(tile::load<B>(b, i0, t, head, i));
      tile::store(ya, tile::cast<T>(x * c - y * s), i0, t, head, i);
      tile::store(yb, tile::cast<T>(y * c + x * s), i0, t, head, i);
    });
  }
};

}  // namespace ops::programs

template <RunsTiles C>
struct tile_kernel<ops::rope, C> {
  template <Floating T, std::integral I>
  static void impl(context<C>& on, view<T> out, view<const T> self, view<const I> positions,
                   double theta, bool interleaved, bool inverse) {
    using namespace ops::detail;
    constexpr int block = row_block<C, double, 2>;
    using kernel = ops::programs::rope<T, I, block>;
    if (out.size() == 0) {
      return;
    }
    const std::int64_t half = self.extent(-1) / 2;
    const auto part = [&](const tensor_spec& s, int which) {
      return interleaved ? geometry::slice(s, -1, which, 2 * half, 2)
                         : geometry::narrow(s, -1, which * half, half);
    };
    const tensor_spec to[2] = {part(*out.spec, 0), part(*out.spec, 1)};
    const tensor_spec from[2] = {part(*self.spec, 0), part(*self.spec, 1)};
    const auto second = [](const tensor_spec* s) { return s[1].offset - s[0].offset; };
    each_four_axes(
        [&](const auto& x) {
          const auto& e = x[0].extents;
          run_tiles<kernel>(on, {ceil_div(half, block), e[1], e[0]}, x[0], x[1], x[2], x[3],
                            positions, std::log(theta), inverse ? -1.0 : 1.0);
        },
        view<T>{out.data, &to[0]}, view<T>{out.data + second(to), &to[1]},
        view<const T>{self.data, &from[0]}, view<const T>{self.data + second(from), &from[1]});
  }
};

}  // namespace ashlar
