// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <tuple>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/ops/dropout.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/tile/angles.hpp"
#include "ashlar/ops/tile/rows.hpp"
#include "ashlar/tile/scalar.hpp"

/// Random fills and dropout as tile programs: the words of the host's Philox blocks, from integer
/// arithmetic.
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

/// Numbers `i` to `i + B` of a sequence: uniform in [0, 1), or standard normal.
template <Scalar T, bool Normal, int B>
struct random_numbers {
  static constexpr int group = std::same_as<T, double> ? 2 : 4;

  static constexpr tile::tile<double, B> at(tile::scope& k, tile::index i, tile::index seed,
                                            tile::index offset) {
    const auto block = k.iota<std::int64_t, 0, B / group>() + (offset + i / group);
    const auto words = philox_words(k, block, seed);
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

/// `low + (high - low) u`, or `low + (high - low) z` with z standard normal: mean and deviation
/// come as such bounds. One program for `B` elements.
template <Scalar T, bool Normal, int B = detail::tile_block>
struct random_fill {
  static constexpr auto name = Normal ? "normal" : "uniform";

  constexpr void operator()(tile::scope& k, tile::out<T, 1> y, tile::arg<std::int64_t> seed,
                            tile::arg<std::int64_t> offset, tile::arg<double> first,
                            tile::arg<double> scale) const {
    const auto i = k.program_id(0) * B;
    const auto numbers = random_numbers<T, Normal, B>::at(k, i, seed, offset);
    const auto value = tile::cast<compute_type<T>>(first + scale * numbers);
    tile::store(y, tile::cast<T>(value), i);
  }
};

/// `factor x` where the uniform number of the place is at least `p`, else 0: bits of a counter and
/// a choice, nothing is stored between.
template <Scalar T, int B = detail::tile_block>
struct dropout {
  static constexpr auto name = "dropout";
  using C = compute_type<T>;

  constexpr void operator()(tile::scope& k, tile::out<T, 1> y, tile::in<T, 1> x,
                            tile::arg<std::int64_t> seed, tile::arg<std::int64_t> offset,
                            tile::arg<C> p, tile::arg<C> factor) const {
    const auto i = k.program_id(0) * B;
    const auto u = tile::cast<C>(random_numbers<T, false, B>::at(k, i, seed, offset));
    const auto kept = tile::cast<C>(tile::cast<T>(u)) >= p;
    const auto v = tile::cast<C>(tile::load<B>(x, i));
    tile::store(y, tile::cast<T>(tile::select(kept, v * factor, 0)), i);
  }
};

}  // namespace ops::programs

namespace ops::detail {

/// Elements for which one program draws numbers: two groups of four at least.
template <class C>
inline constexpr int random_block = std::max(row_block<C, double, 4>, 8);

template <bool Normal, class T, class C>
void random_by_tiles(context<C>& on, const view<T>& out, std::uint64_t seed, std::uint64_t offset,
                     double first, double scale) {
  into_shape(on, out, {out.size()}, [&](const view<T>& to) {
    constexpr int block = random_block<C>;
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

template <RunsTiles C>
struct tile_kernel<ops::dropout, C> {
  template <Floating T>
  static void impl(context<C>& on, view<T> out, view<const T> self, double p, std::uint64_t seed,
                   std::uint64_t offset) {
    using namespace ops::detail;
    using compute = compute_type<T>;
    constexpr int block = random_block<C>;
    if (p == 1.0) {  // no factor would do
      tile_kernel<ops::fill, C>::template impl<T>(on, out, out, 0.0);
      return;
    }
    const reshaped<T, C> x(on, self, {self.size()});
    into_shape(on, out, {out.size()}, [&](const view<T>& y) {
      run_tiles<ops::programs::dropout<T, block>>(
          on, {ceil_div(out.size(), block), 1, 1}, y, x.get(), static_cast<std::int64_t>(seed),
          static_cast<std::int64_t>(offset), static_cast<compute>(tile::eval::cast<T>(p)),
          static_cast<compute>(1.0 / (1.0 - p)));
    });
  }
};

}  // namespace ashlar
