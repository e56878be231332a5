// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/softmax.hpp"

#include <cmath>
#include <limits>

#include "ashlar/ops/cross_entropy.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// The logarithm of the softmax in double.
template <class X>
std::vector<double> log_twin(const X& x, int axis) {
  std::vector<double> y(static_cast<std::size_t>(x.size()));
  if (x.rank() == 0) {
    return {0.0};
  }
  const auto row = al::contiguous(al::transpose(x, axis, -1));
  const std::int64_t n = row.extent(-1);
  const auto out = al::transpose(al::zeros<plain<double>>(al::shape(row.shape())), axis, -1);
  const auto back = al::transpose(out, axis, -1);
  for (std::int64_t r = 0; n > 0 && r < row.size() / n; ++r) {
    double largest = -std::numeric_limits<double>::infinity();
    for (std::int64_t i = 0; i < n; ++i) {
      largest = std::max(largest, static_cast<double>(at(row, r * n + i)));
    }
    double total = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      total += std::exp(static_cast<double>(at(row, r * n + i)) - largest);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      at(back, r * n + i) = static_cast<double>(at(row, r * n + i)) - largest - std::log(total);
    }
  }
  for (std::int64_t i = 0; i < x.size(); ++i) {
    y[static_cast<std::size_t>(i)] = at(out, i);
  }
  return y;
}

template <class T>
void check(double allowed) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {37}, {3, 5}, {2, 3, 17}, {4, 0, 3}}) {
    for (int axis = 0; axis < std::max(s.rank(), 1); ++axis) {
      const auto x = numbers<plain<T>>(s, 1);
      const std::vector<double> want = log_twin(x, axis);
      const auto logs = al::log_softmax(x, axis);
      const auto y = al::softmax(x, axis);
      check_elements(
          logs, [&](std::int64_t i) { return want[static_cast<std::size_t>(i)]; }, allowed,
          allowed);
      check_elements(
          y, [&](std::int64_t i) { return std::exp(want[static_cast<std::size_t>(i)]); }, allowed,
          allowed);
      check_same(al::softmax(scattered(x), axis), y);
      check_same(al::log_softmax(scattered(x), axis), logs);
      auto given = scattered(y);
      check_same(al::softmax.out(given, x, std::int64_t{axis}), y);
      auto self = al::clone(x);
      check_same(al::softmax.in_place(self, std::int64_t{axis}), y);
      check_meta(y, al::softmax(ghost_of(x), axis));
      check_meta(logs, al::log_softmax(ghost_of(x), axis));
    }
  }
}

}  // namespace

TEST_CASE("ops/softmax: softmax and its logarithm equal their naive twins along every axis") {
  check<float>(2e-6);  // a few roundings of sums of up to 37 exponentials
  check<double>(1e-14);
}

TEST_CASE("ops/softmax: rows far from zero do not overflow") {
  const auto x = al::from_values<plain<float>>({2, 2}, {1e30f, 1e30f, -1e30f, 0.0f});
  check_elements(al::softmax(x), [](std::int64_t i) { return i < 2 ? 0.5f : i == 2 ? 0.f : 1.f; });
  CHECK_THROWS_AS(al::softmax(x, 2), al::argument_error);
}

TEST_CASE("ops/cross_entropy: the mean over the rows that count") {
  const auto x = numbers<plain<double>>({7, 11}, 1);
  const auto logs = al::log_softmax(x, 1);
  const auto t = al::from_values<plain<std::int32_t>>({7}, {0, 3, -100, 10, 5, -100, 1});
  double total = 0;
  for (std::int64_t i = 0; i < 7; ++i) {
    total -= at(t, i) < 0 ? 0.0 : logs.view()(i, at(t, i));
  }
  const auto y = al::cross_entropy(x, t);
  CHECK(y.rank() == 0);
  CHECK(al::item(y) == doctest::Approx(total / 5).epsilon(1e-13));
  CHECK(al::item(al::cross_entropy(scattered(x), scattered(t))) == al::item(y));
  check_meta(y, al::cross_entropy(ghost_of(x), ghost_of(t)));

  const auto g = al::call<al::ops::cross_entropy_backward>(al::full<plain<double>>({}, 2.0), x, t,
                                                           std::int64_t{-100});
  check_elements(
      g,
      [&](std::int64_t i) {
        const std::int64_t target = at(t, i / 11);
        const double one = i % 11 == target ? 1.0 : 0.0;
        return target < 0 ? 0.0 : (std::exp(at(logs, i)) - one) * 2.0 / 5;
      },
      1e-13, 1e-15);
}

TEST_CASE("ops/cross_entropy: bad targets and shapes are refused") {
  const auto x = al::zeros<plain<float>>({2, 3});
  const auto targets = [](std::int64_t a, std::int64_t b) {
    return al::from_values<plain<std::int64_t>>({2}, {a, b});
  };
  CHECK_THROWS_AS(al::cross_entropy(x, targets(0, 3)), al::argument_error);
  CHECK_THROWS_AS(al::cross_entropy(x, targets(-1, 0)), al::argument_error);
  CHECK_THROWS_AS(al::cross_entropy(x, al::zeros<plain<std::int64_t>>({3})), al::shape_error);
  CHECK(std::isnan(al::item(al::cross_entropy(x, targets(-100, -100)))));
  const auto none =
      al::cross_entropy(al::zeros<plain<float>>({0, 3}), al::zeros<plain<std::int64_t>>({0}));
  CHECK(std::isnan(al::item(none)));
}
