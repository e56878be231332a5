// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <initializer_list>

#include "ashlar/ops/tile/reduction.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

namespace {

struct sample {
  al::shape extents;
  al::shape axes;
};

template <class X>
double terms(const X& x) {
  return static_cast<double>(x.size());
}

}  // namespace

TEST_CASE_TEMPLATE("ops/tile_reduction: any axes of any layout", T, float, al::float16,
                   std::int64_t) {
  const std::initializer_list<sample> samples{{{}, {}},
                                              {{1}, {0}},
                                              {{67}, {}},
                                              {{3, 65}, {0}},
                                              {{65, 3}, {0}},
                                              {{3, 65}, {-1}},
                                              {{2, 3, 17}, {0, 2}},
                                              {{2, 3, 17}, {1}},
                                              {{2, 64, 17}, {}},
                                              {{131, 2, 33}, {0}},
                                              {{2, 3, 2, 3, 5}, {0, 2, 3}}};
  for (const sample& s : samples) {
    const auto& axes = s.axes;
    const auto x = twins::numbers<twins::plain<T>>(s.extents, 1);
    CAPTURE(al::to_string(x.shape()));
    // At most as many terms as elements, each at most 2.
    const tolerance near{terms(x), 2 * terms(x)};
    for (const bool keepdim : {false, true}) {
      const auto run = [&](const auto& f, const tolerance& allowed) {
        check_both(
            allowed, [&](const auto& v) { return f(v, axes, keepdim); }, x);
      };
      run(al::sum, near);
      run(al::max, exact);
      run(al::min, exact);
      run(al::argmax, exact);
      if constexpr (al::Floating<T>) {
        run(al::mean, tolerance{terms(x) + 1, 2});
      }
    }
    if constexpr (al::Floating<T>) {
      check_both(
          tolerance{terms(x) + 1, 4 * terms(x)}, [](const auto& v) { return al::sum_squares(v); },
          x);
    }
  }
}

TEST_CASE("ops/tile_reduction: nothing adds up to 0 and has no mean") {
  const auto x = twins::numbers<twins::plain<float>>({3, 0}, 1);
  check_both(
      exact, [](const auto& v) { return al::sum(v, {1}); }, x);
  check_both(
      exact, [](const auto& v) { return al::mean(v, {1}); }, x);
  check_both(
      exact, [](const auto& v) { return al::sum(v, {0}); }, x);
}

TEST_CASE("ops/tile_reduction: the first of equals, and NaN before all") {
  const float nan = std::nanf("");
  const auto x =
      al::from_values<twins::plain<float>>({4, 3}, {1, 1, 1, 0, 2, 2, 1, nan, nan, -3, nan, 5});
  check_both(
      exact, [](const auto& v) { return al::argmax(v, {1}); }, x);
  check_both(
      exact, [](const auto& v) { return al::argmax(v, {0}); }, x);
  check_both(
      exact, [](const auto& v) { return al::max(v, {1}); }, x);
  auto wide = al::zeros<twins::plain<float>>({200});
  wide.data()[70] = wide.data()[134] = wide.data()[7 + 64] = 1.0f;
  check_both(
      exact, [](const auto& v) { return al::argmax(v); }, wide);
}

TEST_CASE("ops/tile_reduction: the order does not depend on where elements lie") {
  const auto x = twins::numbers<twins::plain<float>>({67, 33}, 1);
  const auto turned = al::permute(al::clone(al::permute(x, {1, 0})), {1, 0});
  for (const al::shape& axes : {al::shape{0}, {1}}) {
    twins::check_same(back(al::sum(moved(x), axes)), back(al::sum(moved(turned), axes)));
  }
}

TEST_CASE("ops/tile_reduction: sum_to undoes broadcasting") {
  const auto x = twins::numbers<twins::plain<float>>({5, 1, 67}, 1);
  for (const al::shape& to : {al::shape{5, 1, 67}, {1, 67}, {67}, {5, 1, 1}, {1}, {}}) {
    check_both(
        tolerance{terms(x), 2 * terms(x)}, [&](const auto& v) { return al::sum_to(v, to); }, x);
  }
}
