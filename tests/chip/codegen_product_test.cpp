// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"

// Grids of products that the host computes as one product of matrices.
namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

/// What comes before the sum and after it, beside batches: `y = max(bias + a b, r)`.
template <int M, int N, int K>
struct dressed_product {
  constexpr void operator()(tile::scope& k, tile::in<float, 3> a, tile::in<float, 3> b,
                            tile::in<float, 1> bias, tile::in<float, 2> r,
                            tile::out<float, 3> y) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto batch = k.program_id(2);
    const auto sum = k.loop(
        0, a.extent(2), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, batch, m, i);
          return tile::dot(x, tile::load<K, N>(b, batch, i, n), acc);
        },
        tile::broadcast<tile::tile<float, M, N>>(tile::load<N>(bias, n)));
    tile::store(y, tile::max(sum, tile::load<M, N>(r, m, n)), batch, m, n);
  }
};

/// `c = c + a b`, where A may be C.
struct accumulated_product {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::in<float, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(0) * 16;
    const auto n = k.program_id(1) * 64;
    const auto sum = k.loop(
        0, a.extent(1), 16,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<16, 16>(a, m, i);
          return tile::dot(x, tile::load<16, 64>(b, i, n), acc);
        },
        tile::load<16, 64>(c, m, n));
    tile::store(c, sum, m, n);
  }
};

template <class K>
constexpr bool is_one_product =
    al::chip::host_codegen::detail::grid_product_of<al::chip::host_codegen::source<K>>.found;

/// One product of the grid, or `dot` after `dot` where each program writes its place on the grid,
/// too.
template <class T, bool Apart>
struct narrow_product {
  using R = al::chip::sum_of<T>;
  constexpr void operator()(tile::scope& k, tile::in<T, 2> a, tile::in<T, 2> b,
                            tile::out<R, 2> c) const {
    const auto m = k.program_id(1) * 8;
    const auto n = k.program_id(0) * 32;
    if constexpr (Apart) {
      tile::store(c, k.zeros<R, 8, 32>(), m, n);
    }
    const auto sum = k.loop(
        0, a.extent(1), 64,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<8, 64>(a, m, i);
          return tile::dot(x, tile::load<64, 32>(b, i, n), acc);
        },
        k.zeros<R, 8, 32>());
    tile::store(c, sum, m, n);
  }
};

}  // namespace

TEST_CASE("chip/codegen: a grid of products with batches, bias and what follows is one product") {
  static_assert(is_one_product<dressed_product<16, 32, 8>>);
  for (const std::int64_t m : {1, 15, 16, 33}) {
    for (const std::int64_t n : {1, 31, 64}) {
      for (const std::int64_t k : {0, 1, 8, 19}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const auto a = random_array<float>({2, m, k}, 1);
        const auto b = random_array<float>({2, k, n}, 2);
        const auto bias = random_array<float>({n}, 3);
        const auto r = random_array<float>({m, n}, 4);
        CHECK(agrees<dressed_product<16, 32, 8>>({3, 4, 2}, random_array<float>({2, m, n}, 5),
                                                 a.in(), b.in(), bias.in(), r.in()));
        // The output has room for programs beyond A and B: they add up what reads as 0.
        CHECK(agrees<dressed_product<16, 32, 8>>({3, 4, 3},
                                                 random_array<float>({3, m + 20, n + 1}, 5), a.in(),
                                                 b.in(), bias.in(), r.in()));
      }
    }
  }
}

TEST_CASE(
    "chip/codegen: products accumulate in place, also transposed and over their own operand") {
  static_assert(is_one_product<accumulated_product>);
  for (const std::int64_t n : {1, 16, 65}) {
    CAPTURE(n);
    const auto a = random_array<float>({n, 21}, 6);
    const auto b = random_array<float>({21, n}, 7);
    CHECK(agrees<accumulated_product>({5, 2, 1}, random_array<float>({n, n}, 8), a.in(), b.in()));
    auto turned = random_array<float>({n, 21}, 9);
    std::swap(turned.spec.extent[0], turned.spec.extent[1]);
    std::swap(turned.spec.stride[0], turned.spec.stride[1]);
    auto out = random_array<float>({n, n}, 10);
    std::swap(out.spec.stride[0], out.spec.stride[1]);
    CHECK(agrees<accumulated_product>({5, 2, 1}, out, a.in(), turned.in()));
  }
  // One program, which reads all of A before it writes it.
  auto c = random_array<float>({16, 16}, 11);
  auto expected = c;
  const auto b = random_array<float>({16, 16}, 12);
  const std::vector<tile::argument> reference{tile::argument(expected.in()), tile::argument(b.in()),
                                              tile::argument(expected.out())};
  al::chip::launch<accumulated_product>({1, 1, 1}, c.in(), b.in(), c.out());
  tile::interpret<al::chip::host_codegen::host_math>(tile::program_of<accumulated_product>,
                                                     {1, 1, 1}, reference);
  CHECK(host_test::same_bits(c, expected));
}

TEST_CASE_TEMPLATE(
    "chip/codegen: a product in groups has the same bits as one product and as `dot`s", T,
    al::bfloat16, std::int8_t) {
  using R = al::chip::sum_of<T>;
  static_assert(is_one_product<narrow_product<T, false>>);
  static_assert(!is_one_product<narrow_product<T, true>>);
  for (const std::int64_t m : {1, 8, 19}) {
    for (const std::int64_t n : {1, 32, 35}) {
      for (const std::int64_t k : {0, 1, 64, 97}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const auto a = random_array<T>({m, k}, 13);
        auto b = random_array<T>({k, n}, 14);
        array<R> whole({m, n});
        array<R> apart({m, n});
        al::chip::launch<narrow_product<T, false>>({2, 3, 1}, a.in(), b.in(), whole.out());
        al::chip::launch<narrow_product<T, true>>({2, 3, 1}, a.in(), b.in(), apart.out());
        CHECK(host_test::same_bits(whole, apart));
        CHECK(agrees<narrow_product<T, false>>({2, 3, 1}, array<R>({m, n}), a.in(), b.in()));
        CHECK(agrees<narrow_product<T, true>>({2, 3, 1}, array<R>({m, n}), a.in(), b.in()));
      }
    }
  }
}
