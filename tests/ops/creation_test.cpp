// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/creation.hpp"

#include <cmath>
#include <vector>

#include "ashlar/ops/random.hpp"
#include "ops/twins.hpp"

using namespace twins;

TEST_CASE("ops/creation: full, zeros, ones and arange hold what they say") {
  check_elements(al::full<plain<float>>({3, 5}, 2.5), [](std::int64_t) { return 2.5f; });
  check_elements(al::zeros<plain<std::int32_t>>({7}), [](std::int64_t) { return 0; });
  check_elements(al::ones<plain<bool>>({7}), [](std::int64_t) { return true; });
  check_elements(al::full<plain<al::bfloat16>>({}, 3.0),
                 [](std::int64_t) { return al::bfloat16(3.0f); });
  check_elements(al::arange<plain<std::int64_t>>(5), [](std::int64_t i) { return i; });
  check_elements(al::arange<plain<double>>(5, 1.0, 0.5),
                 [](std::int64_t i) { return 1.0 + 0.5 * static_cast<double>(i); });
  CHECK(al::arange<plain<float>>(0).size() == 0);
  auto spread = scattered(al::zeros<plain<float>>({3, 4}));
  al::op_function<al::ops::arange>{}.in_place(spread, 0.0, 2.0);
  check_elements(spread, [](std::int64_t i) { return static_cast<float>(2 * i); });
  al::fill.in_place(spread, -1.0);
  check_elements(spread, [](std::int64_t) { return -1.0f; });
  check_same(al::fill(spread, -1.0), spread);
  CHECK_THROWS_AS(static_cast<void>(al::zeros<plain<float>>({-1})), al::size_error);
  CHECK(al::zeros<ghost<float>>({1 << 20, 1 << 20}).size() == std::int64_t{1} << 40);
}

TEST_CASE("ops/creation: values go in and come out in row-major order") {
  const auto x = al::from_values<plain<float>>({2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(x.view()(1, 0) == 4.0f);
  CHECK(al::to_vector(x) == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(al::to_vector(al::transpose(x)) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(al::to_vector(al::zeros<plain<float>>({0, 3})).empty());
  const auto flags = al::from_values<plain<bool>>({3}, {true, false, false});
  CHECK(al::to_vector(flags) == std::vector<bool>{true, false, false});
  CHECK(al::item(al::select(al::select(x, 0, 1), 0, 2)) == 6.0f);
  CHECK_THROWS_AS(static_cast<void>(al::item(x)), al::argument_error);
  CHECK_THROWS_AS(static_cast<void>(al::item(plain<float>{})), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(al::from_values<plain<float>>({2}, {1.0f})), al::shape_error);
}

TEST_CASE("ops/creation: a tensor moves to another chip and keeps its shape") {
  const auto x = al::transpose(numbers<plain<float>>({2, 3}, 1));
  check_same(al::to<al::chip::host>(x), x);
  CHECK(&al::to<al::chip::host>(x).body()->root() != &x.body()->root());
  const auto g = al::to<al::chip::meta>(x);
  CHECK(al::same_shape(g.spec(), x.spec()));
  static_assert(std::is_same_v<decltype(g), const ghost<float>>);
}

TEST_CASE("ops/random: a fill is a function of seed and offset") {
  const auto a = al::randn<plain<float>>({1003}, 7);
  check_same(al::randn<plain<float>>({1003}, 7), a);
  CHECK(al::to_vector(al::randn<plain<float>>({1003}, 8)) != al::to_vector(a));
  // The sequence goes on where the first fill ended.
  const auto blocks = al::random_blocks<float>(100);
  check_same(al::randn<plain<float>>({900}, 7, blocks), al::narrow(a, 0, 100, 900));
  auto spread = scattered(al::zeros<plain<float>>({17, 59}));
  al::normal.in_place(spread, 7);
  check_elements(spread, [&](std::int64_t i) { return at(a, i); });
}

TEST_CASE("ops/random: mean and spread are those of the distribution") {
  const auto moments = [](const auto& x) {
    double sum = 0;
    double squares = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) {
      sum += x.data()[i];
      squares += x.data()[i] * x.data()[i];
    }
    const double n = static_cast<double>(x.size());
    return std::pair{sum / n, squares / n - sum * sum / n / n};
  };
  // 40,000 numbers: means within four standard errors, 0.02 and 0.006.
  auto n = al::empty<plain<double>>({200, 200});
  al::normal.in_place(n, 3, 0, 1.0, 2.0);
  CHECK(std::abs(moments(n).first - 1.0) < 0.04);
  CHECK(std::abs(moments(n).second - 4.0) < 0.12);
  const auto u = al::rand<plain<double>>({200, 200}, 4);
  CHECK(std::abs(moments(u).first - 0.5) < 0.006);
  CHECK(std::abs(moments(u).second - 1.0 / 12) < 0.002);
  for (std::int64_t i = 0; i < u.size(); ++i) {
    REQUIRE((u.data()[i] >= 0.0 && u.data()[i] < 1.0));
  }
}
