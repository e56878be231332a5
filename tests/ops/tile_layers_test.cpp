// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/embedding.hpp"
#include "ashlar/ops/tile/rope.hpp"
#include "ashlar/ops/tile/windows.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

namespace {
template <class I>
twins::plain<I> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<twins::plain<I>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<I>(i * 7 % below);
  }
  return ids;
}
}  // namespace

TEST_CASE_TEMPLATE("ops/tile_layers: embedding, and its gradient in the host's order", T, float,
                   al::bfloat16) {
  for (const std::int64_t columns : {1, 63, 65}) {
    for (const al::shape& s : {al::shape{}, {0}, {5}, {2, 3, 2}}) {
      const auto table = twins::numbers<twins::plain<T>>({11, columns}, 1);
      const auto ids = picks<std::int32_t>(s, 5);
      check_both(
          exact, [](const auto& w, const auto& i) { return al::embedding(w, i); }, table, ids);
      const auto g = al::embedding(table, ids);
      check_both(
          exact,
          [](const auto& d, const auto& i) {
            return al::call<al::ops::embedding_backward>(d, i, std::int64_t{11});
          },
          g, ids);
    }
  }
}

TEST_CASE("ops/tile_layers: an id that is no row stops the kernel") {
  const auto table = moved(twins::numbers<twins::plain<float>>({3, 2}, 1));
  const auto ids = moved(al::from_values<twins::plain<std::int64_t>>({2}, {1, 3}));
  CHECK_THROWS_AS(al::embedding(table, ids), al::tile::execution_error);
}

TEST_CASE_TEMPLATE("ops/tile_layers: rope by halves and pairs, there and back", T, float,
                   al::bfloat16, double) {
  for (const std::int64_t width : {2, 62, 64, 66}) {
    const auto x = twins::numbers<twins::plain<T>>({2, 3, 2, width}, 1);
    auto positions = picks<std::int64_t>({3}, 5);
    positions.data()[2] = 100003;
    for (const bool interleaved : {false, true}) {
      for (const bool inverse : {false, true}) {
        // Angles are off by about 2^-50 of themselves in double; then four roundings.
        const tolerance near{std::is_same_v<T, double> ? 8e5 : 4, 2};
        check_both(
            near,
            [&](const auto& v, const auto& p) {
              return al::rope(v, p, 10000.0, interleaved, inverse);
            },
            x, positions);
      }
    }
  }
}

TEST_CASE_TEMPLATE("ops/tile_layers: arange counts as the host does", T, float, al::float16, double,
                   std::int32_t) {
  for (const std::int64_t n : {0, 1, 63, 65, 200}) {
    const auto want = al::arange<twins::plain<T>>(n, 3.0, 2.0);
    check_close(al::arange<on_tiles<T>>(n, 3.0, 2.0), want, exact);
  }
  const auto count = [](const auto& x) { return al::call<al::ops::arange>(x, 1.0, 0.25); };
  check_both(exact, count, twins::numbers<twins::plain<T>>({2, 3, 2, 3, 5}));
}

TEST_CASE("ops/tile_layers: cat and the gradient of a slice are copies") {
  using X = twins::plain<float>;
  const auto a = twins::numbers<X>({2, 3, 5}, 1);
  const auto b = twins::numbers<X>({2, 0, 5}, 2);
  const auto c = twins::numbers<X>({2, 4, 5}, 3);
  check_both(
      exact, [](const auto& x, const auto& y, const auto& z) { return al::cat(x, y, z, 1); }, a, b,
      c);
  check_both(
      exact,
      [](const auto& g) {
        return al::call<al::ops::slice_backward>(g, al::shape{2, 9, 5}, std::int64_t{1},
                                                 std::int64_t{1}, std::int64_t{7}, std::int64_t{2});
      },
      a);
}

TEST_CASE("ops/tile_layers: a composite whose program is not for some element types is its parts") {
  const auto whole = [](const auto& x) { return al::max_pool2d(x, {2, 2}); };
  check_both(exact, whole, twins::numbers<twins::plain<std::int32_t>>({1, 2, 5, 5}, 1));
  const auto mixed = [](const auto& x, const auto& w) { return al::conv2d(x, w); };
  const tolerance chain{8, 32};
  check_both(chain, mixed, twins::numbers<twins::plain<float>>({1, 2, 3, 3}, 1),
             twins::numbers<twins::plain<double>>({1, 2, 2, 2}, 2));
}
