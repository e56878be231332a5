// SPDX-License-Identifier: Apache-2.0
// Generated kernels against the interpreter of the same program: bit for bit, since both keep the
// IR's order and take the same functions.
#include "ashlar/chip/host/codegen.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "ashlar/tile/interpret.hpp"
#include "chip/host_support.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
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

template <class T, class C, int M, int N, int K>
struct matmul {
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

/// Every elementwise function of floating-point tiles.
template <class T, int B>
struct functions {
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<T, 1> z,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    const auto b = tile::load<B>(z, i);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, v, row++, i); };
    put(exp(a));
    put(log(abs(a)));
    put(sqrt(abs(a)));
    put(rsqrt(abs(a) + 1));
    put(tanh(a));
    put(sigmoid(a));
    put(erf(a));
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
    put(tile::cast<T>(tile::cast<float>(a)));
    put(tile::cast<T>(tile::cast<al::bfloat16>(a)));
    put(tile::cast<T>(tile::cast<al::float16>(a, tile::rounding::toward_zero)));
    put(tile::cast<T>(tile::cast<double>(a) / 3));
  }
  static constexpr int rows = 24;
};

/// Every operation of integer tiles.
template <class T, int B>
struct integers {
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
    put(a & b);
    put(a | b);
    put(a ^ b);
    put(a << (b & 7));
    put(a >> (b & 7));
    put(~a);
    put(max(a, b));
    put(min(a, b));
    put(select(a < b, a, b));
    put(tile::cast<T>(tile::cast<std::int64_t>(a) * 3));
    put(tile::cast<T>(tile::cast<float>(a) / 2));
  }
  static constexpr int rows = 16;
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
    put(tile::cast<float>(k.random_bits(k.constant<std::int64_t>(7), k.iota<std::int64_t, 1, A, B>())));
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
        [&] { return k.loop(0, i + 1, 1, [&](tile::index, auto a) { return a + v; }, v); });
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

template <class T>
array<T> random_array(const al::shape& extents, unsigned seed) {
  array<T> a(extents);
  std::mt19937 random(seed);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if constexpr (std::is_integral_v<T>) {
      a[i] = static_cast<T>(static_cast<int>(random() % 200) - 100);
    } else {
      a[i] = T(std::uniform_real_distribution<float>(-4, 4)(random));
    }
  }
  return a;
}

/// Runs kernel `K` both ways on copies of `out`.
template <class K, class T, class... A>
bool agrees(const tile::grid& grid, array<T> out, const A&... given) {
  array<T> expected = out;
  const std::vector<tile::argument> in{tile::argument(given)...};
  // The output stands where the kernel's first written parameter does.
  const auto with = [&](array<T>& to) {
    std::vector<tile::argument> all = in;
    int written = 0;
    while (!tile::program_of<K>.parameter_at(written).written) {
      ++written;
    }
    all.insert(all.begin() + written, tile::argument(to.out()));
    return all;
  };
  tile::interpret<al::chip::host_codegen::host_math>(tile::program_of<K>, grid, with(expected));
  al::chip::host_codegen::run<al::chip::host_codegen::source<K>>(grid, with(out));
  return same_bits(out, expected);
}

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

TEST_CASE("chip/codegen: matmul of every shape and type adds in the order of K") {
  for (const std::int64_t m : {1, 7, 8, 9}) {
    for (const std::int64_t n : {1, 47, 48, 49}) {
      for (const std::int64_t k : {0, 1, 16, 33}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const auto a = random_array<float>({m, k}, 3);
        const auto b = random_array<float>({k, n}, 4);
        CHECK(agrees<matmul<float, float, 8, 48, 16>>({2, 2, 1}, array<float>({m, n}), a.in(),
                                                      b.in()));
      }
    }
  }
  const auto a = random_array<float>({9, 11}, 5);
  const auto b = random_array<float>({11, 13}, 6);
  CHECK(agrees<matmul<float, float, 5, 7, 3>>({2, 2, 1}, array<float>({9, 13}), a.in(), b.in()));
  const auto ah = random_array<al::bfloat16>({9, 11}, 5);
  const auto bh = random_array<al::bfloat16>({11, 13}, 6);
  CHECK(agrees<matmul<al::bfloat16, float, 4, 16, 8>>({3, 1, 1}, array<float>({9, 13}), ah.in(),
                                                      bh.in()));
  const auto ai = random_array<std::int8_t>({9, 11}, 5);
  const auto bi = random_array<std::int8_t>({11, 13}, 6);
  CHECK(agrees<matmul<std::int8_t, std::int32_t, 4, 16, 8>>({3, 1, 1}, array<std::int32_t>({9, 13}),
                                                            ai.in(), bi.in()));
}

TEST_CASE_TEMPLATE("chip/codegen: every function of a floating type", T, float, double,
                   al::bfloat16) {
  using kernel = functions<T, 40>;
  auto a = random_array<T>({79}, 7);
  auto b = random_array<T>({79}, 8);
  const float nasty[] = {0.0f, -0.0f, 1.0f, std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(), 1e-30f};
  for (int i = 0; i < 36; ++i) {
    a[i] = T(nasty[i / 6]);
    b[i] = T(nasty[i % 6]);
  }
  CHECK(agrees<kernel>({2, 1, 1}, array<T>({kernel::rows, 79}), a.in(), b.in()));
}

TEST_CASE_TEMPLATE("chip/codegen: every operation of an integer type", T, std::int32_t,
                   std::int64_t, std::int8_t, std::uint8_t) {
  using kernel = integers<T, 24>;
  auto a = random_array<T>({47}, 9);
  auto b = random_array<T>({47}, 10);
  a[0] = std::numeric_limits<T>::min();
  b[0] = static_cast<T>(-1);
  b[1] = 0;
  CHECK(agrees<kernel>({2, 1, 1}, array<T>({kernel::rows, 47}), a.in(), b.in()));
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
