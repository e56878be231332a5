// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <tuple>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/language.hpp"

/// Kernels that several chips are tested with.
namespace tile_kernels {

namespace al = ashlar;
namespace tile = ashlar::tile;

/// Each function of floating-point tiles whose last bit every machine agrees on.
template <class T, int B>
struct exact_functions {
  static constexpr auto name = "exact";
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<T, 1> z,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    const auto b = tile::load<B>(z, i);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, v, row++, i); };
    put(sqrt(abs(a)));
    put(rsqrt(abs(a) + 1));
    put(floor(a * 3));
    put(-a);
    put(a + b);
    put(a - b);
    put(a * b);
    put(a / b);
    put(max(a, b));
    put(min(a, b));
    put(fma(a, b, a));
    put(select(a < b, a, b * 2));
    put(select((a <= b) & !(a == b), b, 1));
    put(select((a != b) | (b > 0), a, 0));
    put(tile::cast<T>(tile::cast<std::int32_t>(a * 100) + 1));
    put(tile::cast<T>(tile::cast<std::int64_t>(a * 1e9)));
    put(tile::cast<T>(tile::cast<std::uint8_t>(a * 100)));
    put(tile::cast<T>(tile::cast<std::int8_t>(a * 100)));
    put(tile::cast<T>(tile::cast<bool>(a)));
    put(tile::cast<T>(tile::cast<al::bfloat16>(a, tile::rounding::toward_zero)));
    put(tile::cast<T>(tile::cast<al::float16>(a)));
    put(tile::cast<T>(tile::cast<al::float16>(a / 50000, tile::rounding::toward_zero)));
    put(tile::cast<T>(tile::cast<double>(a) / 3));
    put(tile::cast<T>(tile::cast<float>(tile::cast<double>(a) / 3, tile::rounding::toward_zero)));
  }
  static constexpr int rows = 24;
};

/// The 8-bit formats: all codes of one, casts of both in every rounding, their arithmetic.
template <int B>
struct float8_values {
  static constexpr auto name = "float8";
  constexpr void operator()(tile::scope& k, tile::in<al::float8_e4m3, 1> x, tile::in<float, 1> z,
                            tile::out<float, 2> y, tile::out<al::float8_e5m2, 1> w) const {
    using e4 = al::float8_e4m3;
    using e5 = al::float8_e5m2;
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x.outside(1.5), i);
    const auto b = tile::load<B>(z, i);
    const auto other = tile::bitcast<e5>(a);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, tile::cast<float>(v), row++, i); };
    put(a);
    put(other);
    for (const auto how :
         {tile::rounding::nearest_even, tile::rounding::toward_zero, tile::rounding::saturating}) {
      put(tile::cast<e4>(b, how));
      put(tile::cast<e5>(b * 100, how));
      put(tile::cast<e4>(other, how));
      put(tile::cast<float>(tile::cast<double>(b) * 1e38, how));
    }
    put(a + tile::cast<e4>(b));
    put(tile::select(a < tile::cast<e4>(b), a, -a));
    tile::store(w, other * 2, i);
  }
  static constexpr int rows = 16;
};

/// A product of microscaled matrices: e4m3 with a power of two for each 32 along K, stored as the
/// exponent byte of a float (OCP E8M0).
template <int M, int N>
struct microscaled_product {
  static constexpr auto name = "microscaled";
  constexpr void operator()(tile::scope& k, tile::in<al::float8_e4m3, 2> a,
                            tile::in<std::uint8_t, 2> scale_a, tile::in<al::float8_e4m3, 2> b,
                            tile::in<std::uint8_t, 2> scale_b, tile::out<float, 2> c) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto power = [](auto exponent) {
      return tile::bitcast<float>(tile::cast<std::int32_t>(exponent) << 23);
    };
    const auto sum = k.loop(
        0, a.extent(1), 64,
        [&](tile::index i, auto acc) {
          const auto sa = power(tile::load<M, 2>(scale_a, m, i / 32));
          const auto sb = power(tile::load<2, N>(scale_b, i / 32, n));
          return tile::dot_scaled(tile::load<M, 64>(a, m, i), sa, tile::load<64, N>(b, i, n), sb,
                                  acc);
        },
        k.zeros<float, M, N>());
    tile::store(c, sum, m, n);
  }
};

/// Those whose last bits are the C library's.
template <class T, int B>
struct library_functions {
  static constexpr auto name = "library";
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    tile::store(y, exp(a), 0, i);
    tile::store(y, log(abs(a)), 1, i);
    tile::store(y, tanh(a), 2, i);
    tile::store(y, sigmoid(a), 3, i);
    tile::store(y, erf(a), 4, i);
  }
  static constexpr int rows = 5;
};

template <class T, int B>
struct integers {
  static constexpr auto name = "integers";
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<T, 1> z,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    const auto b = tile::load<B>(z, i);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, v, row++, i); };
    put(a + b);
    put(a - b);
    put(a * b);
    put(a / b);
    put(a % b);
    put((a & b) | (a ^ 5));
    put(a << b);
    put(a >> b);
    put(~a);
    put(max(a, b));
    put(min(a, b));
    put(abs(a));
    put(-a);
    put(select(a < b, a, b));
    put(tile::cast<T>(tile::cast<std::int64_t>(a) * 3));
    put(tile::cast<T>(tile::cast<float>(a) / 2));
  }
  static constexpr int rows = 16;
};

template <int B>
struct softmax {
  static constexpr auto name = "softmax";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto n = x.extent(1);
    const auto inside = x.outside(-std::numeric_limits<double>::infinity());
    const auto best = k.loop(
        0, n, B, [&](tile::index c, auto m) { return max(m, tile::load<B>(inside, row, c)); },
        k.full<float, B>(-std::numeric_limits<double>::infinity()));
    const auto largest = tile::max<0>(best);
    const auto total = tile::sum<0>(k.loop(
        0, n, B,
        [&](tile::index c, auto sum) {
          const auto e = exp(tile::load<B>(inside, row, c) - largest);
          tile::store(y, e, row, c);
          return sum + e;
        },
        k.zeros<float, B>()));
    k.loop(0, n, B,
           [&](tile::index c) { tile::store(y, tile::load<B>(y, row, c) / total, row, c); });
  }
};

template <class T, class C, int M, int N, int K>
struct matmul {
  static constexpr auto name = "matmul";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> a, tile::in<T, 2> b,
                            tile::out<C, 2> c) const {
    const auto m = k.program_id(0) * M;
    const auto n = k.program_id(1) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          const auto y = tile::load<K, N>(b, i, n);
          return tile::dot(x, y, acc);
        },
        k.template zeros<C, M, N>());
    tile::store(c, sum, m, n);
  }
};

/// x W^T with W as it lies in a model: [N, K].
template <int M, int N, int K>
struct matmul_turned {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::in<float, 2> w,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(0) * M;
    const auto n = k.program_id(1) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          return tile::dot(x, tile::transpose(tile::load<N, K>(w, n, i)), acc);
        },
        k.zeros<float, M, N>());
    tile::store(c, sum, m, n);
  }
};

/// Shapes, reductions along every axis, scans, tuples.
template <int A, int B>
struct shapes {
  static constexpr auto name = "shapes";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 1> y) const {
    const auto a = tile::load<A, B>(x, 0, 0);
    tile::index at = k.constant<std::int64_t>(0);
    const auto put = [&](auto v) {
      using V = decltype(v);
      constexpr int n = static_cast<int>(V::type.size());
      tile::store(y, tile::reshape<n>(v), at);
      at = at + n;
    };
    put(tile::transpose(a));
    put(tile::sum<0>(a));
    put(tile::sum<1>(a));
    put(tile::max<0>(a));
    put(tile::min<1>(a));
    put(tile::reduce<1>([](auto p, auto q) { return p * q; }, a));
    put(tile::scan<1>([](auto p, auto q) { return p + q; }, a));
    put(tile::scan<0, true>([](auto p, auto q) { return max(p, q); }, a));
    put(a - tile::expand<1>(tile::max<1>(a)));
    put(a - tile::expand<0>(tile::max<0>(a)));
    put(a - tile::max<0>(a));
    const auto [even, odd] = tile::split(tile::join(a, -a));
    put(even + 2 * odd);
    const auto best = tile::reduce<1>(
        [](auto p, auto q) {
          const auto take = std::get<0>(q) > std::get<0>(p);
          return std::tuple(tile::select(take, std::get<0>(q), std::get<0>(p)),
                            tile::select(take, std::get<1>(q), std::get<1>(p)));
        },
        a, k.iota<std::int32_t, 1, A, B>());
    put(std::get<0>(best));
    put(tile::cast<float>(std::get<1>(best)));
    put(tile::cast<float>(k.iota<std::int64_t, 0, A, B>()));
    put(tile::cast<float>(
        k.random_bits(k.constant<std::int64_t>(7), k.iota<std::int64_t, 1, A, B>())));
  }
  static constexpr int size = A * B * 9 + (A * 6 + B * 2) * 1;
};

/// Mean, sum of squared distances from it, and count: of two parts, of both (Welford; Chan et al.).
inline constexpr auto both_moments = [](auto a, auto b) {
  const auto [mean_a, squares_a, count_a] = a;
  const auto [mean_b, squares_b, count_b] = b;
  const auto count = count_a + count_b;
  const auto part = count_b / max(count, 1);
  const auto apart = mean_b - mean_a;
  return std::tuple(mean_a + apart * part, squares_a + squares_b + apart * apart * (count_a * part),
                    count);
};

/// Reductions and scans of several tiles at once. Of each row of `x`, B columns at most: its
/// moments, those up to each column, and those from each column on; then x h + 1 - x of column
/// after column, from h = 0.
template <class T, int A, int B>
struct moments {
  static constexpr auto name = "moments";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> x, tile::out<T, 3> y) const {
    const auto row = k.program_id(0) * A;
    const auto columns = k.iota<std::int64_t, 1, A, B>();
    const auto v = tile::load<A, B>(x, row, 0);
    const auto none = k.zeros<T, A, B>();
    const auto counts = select(columns < x.extent(1), none + 1, none);
    const auto [mean, squares, count] = tile::reduce<1>(both_moments, v, none, counts);
    tile::store(y, mean, 0, 0, row);
    tile::store(y, squares, 0, 1, row);
    tile::store(y, count, 0, 2, row);
    const auto put = [&](auto tiles, int at) {
      tile::store(y, tile::transpose(std::get<0>(tiles)), at, 0, row);
      tile::store(y, tile::transpose(std::get<1>(tiles)), at + 1, 0, row);
    };
    put(tile::scan<1>(both_moments, v, none, counts), 1);
    put(tile::scan<1, true>(both_moments, v, none, counts), 3);
    // h -> a h + b, one after the other.
    put(tile::scan<1>(
            [](auto first, auto then) {
              return std::tuple(std::get<0>(then) * std::get<0>(first),
                                std::get<0>(then) * std::get<1>(first) + std::get<1>(then));
            },
            v, 1 - v),
        5);
  }
  static constexpr int planes = 7;
};

/// Atomics on a few places that every program of the grid wants.
template <class T, int B>
struct contended {
  static constexpr auto name = "contended";
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<std::int64_t, 1> at,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto v = tile::load<B>(x, i);
    const auto places = tile::load<B>(at.outside(-1), i);
    tile::atomic_add(y, v, 0, places);
    tile::atomic_max(y, v, 1, places);
    tile::atomic_min(y, v, 2, places);
  }
};

/// Says what it loaded, and wants all of it below a limit.
struct speaking {
  static constexpr auto name = "speaking";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::arg<float> limit,
                            tile::out<float, 1> y) const {
    const auto i = k.program_id(0) * 4;
    const auto v = tile::load<4>(x, i);
    k.print(3, i);
    k.print(4, v);
    k.print(5, tile::cast<std::int8_t>(v) < 0);
    k.require(8, v < limit + 1000);
    k.require(9, v < limit);
    tile::store(y, v, i);
  }
};

/// Places named one by one, regions that depend on values.
template <int B>
struct places {
  static constexpr auto name = "places";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::in<std::int64_t, 1> at,
                            tile::out<float, 2> y, tile::arg<float> limit) const {
    const auto i = k.program_id(0);
    const auto columns = k.iota<std::int64_t, 0, B>();
    const auto from = tile::load<B>(at, 0);
    const auto v = tile::gather<B>(x.outside(-1), from, columns);
    const auto total = tile::sum<0>(v);
    const auto w = k.branch(
        total > limit, [&] { return v * 2; },
        [&] {
          return k.loop(
              0, i + 1, 1, [&](tile::index, auto a) { return a + v; }, v);
        });
    tile::scatter(y, w, i, columns);
    tile::atomic_add(y, w, 0, from);
    tile::atomic_max(y, w, 1, columns);
    tile::atomic_min(y, w, 2, columns);
    const auto halved = k.repeat([&](auto s, auto) { return s > 1; },
                                 [&](auto s, auto n) { return std::tuple(s / 2, n + 1); },
                                 tile::max<0>(tile::abs(v)), k.constant<float>(0));
    tile::store(y, std::get<0>(halved), 3, i);
    tile::store(y, std::get<1>(halved), 4, i);
  }
};

/// Nibbles, bits of floating-point numbers, halves of rows.
struct pieces {
  static constexpr auto name = "pieces";
  constexpr void operator()(tile::scope& k, tile::in<std::int8_t, 1> x, tile::in<std::uint8_t, 1> z,
                            tile::in<float, 2> f, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    k.print(7, row);
    tile::store(y, tile::cast<float>(tile::unpack_nibbles(tile::load<12>(x, 0))), row * 4, 0);
    tile::store(y, tile::cast<float>(tile::unpack_nibbles(tile::load<12>(z, 0))), row * 4 + 1, 0);
    const auto a = tile::load<24>(f, row, 0);
    const auto [even, odd] = tile::split(a);
    tile::store(y, tile::join(odd, even), row * 4 + 2, 0);
    tile::store(y, tile::bitcast<float>(tile::bitcast<std::int32_t>(a) ^ 1), row * 4 + 3, 0);
  }
};

}  // namespace tile_kernels
