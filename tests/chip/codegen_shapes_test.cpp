// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;
using host_test::same_bits;

constexpr double infinity = std::numeric_limits<double>::infinity();

template <int B>
struct softmax {
  static constexpr auto name = "softmax";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto n = x.extent(1);
    const auto inside = x.outside(-infinity);
    const auto best = k.loop(
        0, n, B, [&](tile::index c, auto m) { return max(m, tile::load<B>(inside, row, c)); },
        k.full<float, B>(-infinity));
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

/// Shapes, reductions along every axis, scans, tuples.
template <int A, int B>
struct shapes {
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

/// Places named one by one, regions that depend on values.
template <int B>
struct places {
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

}  // namespace

TEST_CASE("chip/codegen: rows that end inside a block, and views with strides") {
  for (const std::int64_t n : {1, 15, 16, 17, 63, 64, 65, 131}) {
    CAPTURE(n);
    const auto x = random_array<float>({3, n}, 1);
    CHECK(agrees<softmax<64>>({3, 1, 1}, array<float>({3, n}), x.in()));
    CHECK(agrees<softmax<7>>({3, 1, 1}, array<float>({3, n}), x.in()));
    auto turned = random_array<float>({n, 3}, 2);
    std::swap(turned.spec.extent[0], turned.spec.extent[1]);
    std::swap(turned.spec.stride[0], turned.spec.stride[1]);
    CHECK(agrees<softmax<64>>({3, 1, 1}, array<float>({3, n}), turned.in()));
  }
}

TEST_CASE("chip/codegen: shapes, reductions and scans") {
  const auto run = [&]<int A, int B>(std::integer_sequence<int, A, B>) {
    using kernel = shapes<A, B>;
    const auto x = random_array<float>({A, B}, 11);
    return agrees<kernel>({1, 1, 1}, array<float>({kernel::size}), x.in());
  };
  CHECK(run(std::integer_sequence<int, 4, 32>{}));
  CHECK(run(std::integer_sequence<int, 33, 5>{}));
}

TEST_CASE("chip/codegen: gather, scatter, atomics, branches and loops that depend on values") {
  const auto x = random_array<float>({5, 20}, 12);
  array<std::int64_t> at({20});
  for (std::int64_t i = 0; i < 20; ++i) {
    at[i] = (i * 7) % 11 - 3;  // some places are outside
  }
  al::chip::thread_limit one(1);  // the interpreter's order of atomics
  CHECK(agrees<places<20>>({4, 1, 1}, random_array<float>({5, 20}, 13), x.in(), at.in(), 3.0f));
}

TEST_CASE("chip/codegen: a launch that cannot be is refused, and nothing is written") {
  array<float> y({4, 4});
  const array<float> flat({16});
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({4, 1, 1}, flat.in(), y.out()), tile::launch_error);
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({-1, 1, 1}, y.in(), y.out()), tile::launch_error);
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({4, 1, 1}, y.in(), y.in()), tile::launch_error);
  al::chip::launch<softmax<64>>({0, 1, 1}, y.in(), y.out());
  CHECK(same_bits(y, array<float>({4, 4})));
}
