// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "ops/twins.hpp"

using namespace twins;

namespace {

struct sample {
  al::shape extents;
  al::shape axes;
};
const std::vector<sample> samples{{{}, {}},          {{1}, {0}},       {{7}, {}},
                                  {{3, 5}, {0}},     {{3, 5}, {-1}},   {{2, 3, 17}, {0, 2}},
                                  {{2, 3, 17}, {1}}, {{2, 3, 17}, {}}, {{4, 1, 33}, {1}},
                                  {{0, 3}, {1}}};

/// Folds the elements of each output in row-major order, in double.
template <class X, class Fold>
std::vector<double> folded(const X& x, const al::shape& axes, double first, const Fold& fold) {
  const std::uint32_t bits = al::ops::detail::axis_bits("test", axes, x.rank());
  const al::shape out = al::ops::detail::reduced_shape(al::shape(x.shape()), bits, true);
  const al::tensor_spec spec = al::contiguous_spec(al::dtype::float64, out.span());
  std::vector<double> y(static_cast<std::size_t>(spec.size), first);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    double& to = y[static_cast<std::size_t>(place(spec, x.shape(), i))];
    to = fold(to, static_cast<double>(at(x, i)));
  }
  return y;
}

template <class T, class F, class Twin>
void check(const F& f, const Twin& twin, double relative, bool empty_is_fine) {
  for (const auto& [extents, axes] : samples) {
    const auto x = numbers<plain<T>>(extents, 1);
    if (x.size() == 0 && !empty_is_fine) {
      continue;
    }
    const std::vector<double> want = twin(x, axes);
    for (const bool keepdim : {false, true}) {
      const auto y = f(x, axes, keepdim);
      CHECK(y.rank() == (keepdim ? x.rank() : x.rank() - (axes.rank() ? axes.rank() : x.rank())));
      REQUIRE(y.size() == static_cast<std::int64_t>(want.size()));
      check_elements(
          y, [&](std::int64_t i) { return want[static_cast<std::size_t>(i)]; }, relative, relative);
      check_same(f(scattered(x), axes, keepdim), y);
      auto given = scattered(y);
      f.out(given, x, axes, keepdim);
      check_same(given, y);
      check_meta(y, f(ghost_of(x), axes, keepdim));
    }
  }
}

}  // namespace

TEST_CASE("ops/reduction: sums and means equal their naive twins") {
  const auto total = [](const auto& x, const al::shape& axes) {
    return folded(x, axes, 0.0, std::plus<>{});
  };
  const auto average = [&](const auto& x, const al::shape& axes) {
    auto y = total(x, axes);
    for (double& v : y) {
      v *= static_cast<double>(y.size()) / static_cast<double>(x.size());
    }
    return y;
  };
  // Sums of at most 102 numbers in another order than the twin's.
  check<float>(al::sum, total, 1e-5, true);
  check<double>(al::sum, total, 1e-13, true);
  check<std::int64_t>(al::sum, total, 0, true);
  check<float>(al::mean, average, 1e-5, true);
}

TEST_CASE("ops/reduction: the largest and the smallest equal their naive twins") {
  constexpr double far = std::numeric_limits<double>::infinity();
  const auto largest = [](const auto& x, const al::shape& axes) {
    return folded(x, axes, -far, [](double a, double b) { return std::max(a, b); });
  };
  const auto smallest = [](const auto& x, const al::shape& axes) {
    return folded(x, axes, far, [](double a, double b) { return std::min(a, b); });
  };
  check<float>(al::max, largest, 0, false);
  check<float>(al::min, smallest, 0, false);
  check<std::int32_t>(al::max, largest, 0, false);
  const auto x = al::from_values<plain<float>>({3}, {1.0f, NAN, 3.0f});
  CHECK(std::isnan(al::item(al::max(x))));
  CHECK_THROWS_AS(al::max(al::zeros<plain<float>>({3, 0}), 1), al::argument_error);
  CHECK(al::max(al::zeros<plain<float>>({3, 0}), 0).size() == 0);
}

TEST_CASE("ops/reduction: argmax finds the first of the largest") {
  const auto x = al::from_values<plain<float>>({2, 4}, {1, 5, 5, 2, 7, 0, 7, 7});
  check_elements(al::argmax(x, 1), [](std::int64_t i) { return 1 - i; });
  check_elements(al::argmax(x, 0), [](std::int64_t i) { return i == 1 ? 0 : 1; });
  CHECK(al::item(al::argmax(x)) == 4);
  CHECK(al::argmax(x, -1, true).rank() == 2);
  check_meta(al::argmax(x, 1), al::argmax(ghost_of(x), 1));
}

TEST_CASE("ops/reduction: integers and bool are summed as int64") {
  const auto n = al::full<plain<std::int32_t>>({3}, 2147483647.0);
  const auto s = al::sum(n);
  static_assert(std::is_same_v<decltype(s)::value_type, std::int64_t>);
  CHECK(al::item(s) == 3 * std::int64_t{2147483647});
  CHECK(al::item(al::sum(al::ones<plain<bool>>({2, 5}))) == 10);
}

TEST_CASE("ops/reduction: sum_to undoes broadcasting and sum_squares is a sum of squares") {
  const auto x = numbers<plain<double>>({2, 3, 5}, 1);
  check_same(al::sum_to(x, {3, 1}), al::reshape(al::sum(x, {0, 2}), {3, 1}));
  check_same(al::sum_to(x, {2, 3, 5}), x);
  CHECK(al::sum_to(x, {}).rank() == 0);
  check_elements(al::sum_to(al::zeros<plain<double>>({0, 2}), {1, 2}),
                 [](std::int64_t) { return 0.0; });
  CHECK_THROWS_AS(al::sum_to(x, {4}), al::shape_error);
  CHECK_THROWS_AS(al::sum_to(al::select(x, 0, 0), {1, 3, 5}), al::shape_error);
  const auto squares = folded(x, {}, 0.0, [](double a, double b) { return a + b * b; });
  check_elements(
      al::sum_squares(x), [&](std::int64_t) { return squares[0]; }, 1e-13);
}

TEST_CASE("ops/reduction: axes that do not exist or stand twice are refused") {
  const auto x = al::zeros<plain<float>>({2, 3});
  CHECK_THROWS_AS(al::sum(x, 2), al::argument_error);
  CHECK_THROWS_AS(al::mean(x, {0, -2}), al::argument_error);
  CHECK_THROWS_AS(al::sum(plain<float>{}), al::undefined_tensor);
}
