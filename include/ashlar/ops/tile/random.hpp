// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <tuple>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/tile/angles.hpp"
#include "ashlar/ops/tile/rows.hpp"

/// Random fills as tile programs: the words of the host's Philox blocks, from integer arithmetic.
///
/// Uniform numbers are the host's, bit for bit. Normal numbers are computed in double by other
/// functions, so that a double may differ in its last bits and a narrower number where it rounds.
namespace ashlar {

namespace ops::programs {

/// The four words of each block of the sequence of `seed`, as int64 from 0 to 2^32 - 1.
template <int... E>
constexpr auto philox_words(tile::scope& k, tile::tile<std::int64_t, E...> block,
                            tile::index seed) {
  constexpr std::int64_t low = 0xFFFFFFFF;
  const auto zero = k.zeros<std::int64_t, E...>();
  const auto all = k.loop(
      0, 10, 1,
      [&](tile::index, auto c0, auto c1, auto c2, auto c3, auto k0, auto k1) {
        // The low 64 bits of the product of two words are all of it.
        const auto a = c0 * std::int64_t{0xD2511F53};
        const auto b = c2 * std::int64_t{0xCD9E8D57};
        return std::tuple(((b >> 32) & low) ^ c1 ^ k0, b & low, ((a >> 32) & low) ^ c3 ^ k1,
                          a & low, (k0 + std::int64_t{0x9E3779B9}) & low,
                          (k1 + std::int64_t{0xBB67AE85}) & low);
      },
      block & low, (block >> 32) & low, zero, zero, seed & low, (seed >> 32) & low);
  return std::tuple(std::get<0>(all), std::get<1>(all), std::get<2>(all), std::get<3>(all));
}

/// In [0, 1): all 53 bits of a double from two words.
constexpr auto unit_double(auto low, auto high) {
  constexpr std::int64_t kept = (std::int64_t{1} << 53) - 1;
  return tile::cast<double>((((high << 32) | low) >> 11) & kept) * 0x1p-53;
}

/// `low + (high - low) u`, or `low + (high - low) z` with z standard normal: mean and deviation
/// come as such bounds. One program for `B` elements.
template <Scalar T, bool Normal, int B = detail::tile_block>
struct random_fill {
  static constexpr auto name = Normal ? "normal" : "uniform";
  static constexpr int group = std::same_as<T, double> ? 2 : 4;

  constexpr void operator()(tile::scope& k, tile::out<T, 1> y, tile::arg<std::int64_t> seed,
                            tile::arg<std::int64_t> offset, tile::arg<double> first,
                            tile::arg<double> scale) const {
    const auto i = k.program_id(0) * B;
    const auto block = k.iota<std::int64_t, 0, B / group>() + (offset + i / group);
    const auto words = philox_words(k, block, seed);
    const auto numbers = [&] {
      if constexpr (group == 2) {
        const auto u = unit_double(std::get<0>(words), std::get<1>(words));
        const auto v = unit_double(std::get<2>(words), std::get<3>(words));
        if constexpr (Normal) {
          const auto z = box_muller(1.0 - u, v);
          return tile::join(std::get<0>(z), std::get<1>(z));
        } else {
          return tile::join(u, v);
        }
      } else if constexpr (Normal) {
        const auto some = [](auto w, double more) {
          return (tile::cast<double>(w) + more) * 0x1p-32;
        };
        const auto z = box_muller(some(tile::join(std::get<0>(words), std::get<2>(words)), 1.0),
                                  some(tile::join(std::get<1>(words), std::get<3>(words)), 0.0));
        return tile::join(std::get<0>(z), std::get<1>(z));
      } else {
        constexpr int bits = std::same_as<T, float> ? 24 : std::same_as<T, float16> ? 11 : 8;
        const auto u = [](auto w) {
          return tile::cast<double>(w >> (32 - bits)) * (1.0 / static_cast<double>(1u << bits));
        };
        return interleave(u(std::get<0>(words)), u(std::get<1>(words)), u(std::get<2>(words)),
                          u(std::get<3>(words)));
      }
    }();
    const auto value = tile::cast<compute_type<T>>(first + scale * numbers);
    tile::store(y, tile::cast<T>(value), i);
  }

 private:
  /// Two normal numbers of two uniform ones, the first in (0, 1].
  static constexpr auto box_muller(auto u, auto v) {
    const auto radius = tile::sqrt(-2.0 * tile::log(u));
    const auto turned = sine_and_cosine(2.0 * std::numbers::pi * v);
    return std::tuple(radius * std::get<1>(turned), radius * std::get<0>(turned));
  }
  static constexpr auto interleave(auto a, auto b, auto c, auto d) {
    return tile::join(tile::join(a, c), tile::join(b, d));
  }
};

}  // namespace ops::programs

namespace ops::detail {

template <bool Normal, class T, class C>
void random_by_tiles(context<C>& on, const view<T>& out, std::uint64_t seed, std::uint64_t offset,
                     double first, double scale) {
  into_shape(on, out, {out.size()}, [&](const view<T>& to) {
    constexpr int block = std::max(row_block<C, double, 4>, 8);  // two groups of four at least
    run_tiles<programs::random_fill<T, Normal, block>>(
        on, {ceil_div(out.size(), block), 1, 1}, to, static_cast<std::int64_t>(seed),
        static_cast<std::int64_t>(offset), first, scale);
  });
}

}  // namespace ops::detail

template <RunsTiles C>
struct tile_kernel<ops::uniform, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T>, std::uint64_t seed,
                   std::uint64_t offset, double low, double high) {
    ops::detail::random_by_tiles<false>(on, out, seed, offset, low, high - low);
  }
};
template <RunsTiles C>
struct tile_kernel<ops::normal, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T>, std::uint64_t seed,
                   std::uint64_t offset, double center, double deviation) {
    ops::detail::random_by_tiles<true>(on, out, seed, offset, center, deviation);
  }
};

}  // namespace ashlar
