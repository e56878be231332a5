// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/math.hpp"

#include <algorithm>
#include <cmath>

#include "ashlar/ops/activation.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

// Vector functions and the C library's differ by a few roundings; a composition of three by more.
template <class T>
constexpr double allowed = std::is_same_v<T, float> ? 3e-6 : 1e-13;

template <class T, class F, class Twin>
void check(const F& f, const Twin& twin, bool positive = false) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {7}, {2, 3, 17}}) {
    auto x = numbers<plain<T>>(s, 3);
    for (std::int64_t i = 0; positive && i < x.size(); ++i) {
      x.data()[i] = std::abs(x.data()[i]) + T(0.1);
    }
    const plain<T> y = f(x);
    check_elements(
        y, [&](std::int64_t i) { return twin(static_cast<double>(at(x, i))); }, allowed<T>,
        allowed<T>);
    check_same(f(scattered(x)), y);
    plain<T> self = scattered(x);
    f.in_place(self);
    check_same(self, y);
    plain<T> given;
    check_same(f.out(given, x), y);
    check_meta(y, f(ghost_of(x)));
  }
}

template <class F, class Twin>
void check_both(const F& f, const Twin& twin, bool positive = false) {
  check<float>(f, twin, positive);
  check<double>(f, twin, positive);
}

double normal_share(double x) { return 0.5 * (1 + std::erf(x / std::sqrt(2.0))); }

}  // namespace

TEST_CASE("ops/math: functions equal those of the C library") {
  check_both(al::exp, [](double x) { return std::exp(x); });
  check_both(
      al::log, [](double x) { return std::log(x); }, true);
  check_both(
      al::sqrt, [](double x) { return std::sqrt(x); }, true);
  check_both(
      al::rsqrt, [](double x) { return 1 / std::sqrt(x); }, true);
  check_both(al::tanh, [](double x) { return std::tanh(x); });
}

TEST_CASE("ops/activation: functions equal their formulas") {
  check_both(al::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  check_both(al::silu, [](double x) { return x / (1 + std::exp(-x)); });
  check<float>(al::relu, [](double x) { return std::max(x, 0.0); });
  check_both(al::gelu, [](double x) { return x * normal_share(x); });
  check_both(al::gelu_tanh, [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  });
}

TEST_CASE("ops/activation: gradients equal differences of the function") {
  const auto x = numbers<plain<double>>({3, 11}, 5);
  const auto one = al::ones<plain<double>>({3, 11});
  const double h = 1e-5;
  const auto slope = [&](const auto& f) {
    return al::scale(al::sub(f(al::scale(x, 1.0, h)), f(al::scale(x, 1.0, -h))), 0.5 / h);
  };
  const auto check_slope = [&](const auto& got, const auto& want) {
    // The difference errs by h^2 and by the function's rounding over h.
    check_elements(
        got, [&](std::int64_t i) { return at(want, i); }, 1e-8, 1e-8);
  };
  using namespace al::ops;
  check_slope(al::call<silu_backward>(x, one), slope(al::silu));
  check_slope(al::call<gelu_backward>(x, one), slope(al::gelu));
  check_slope(al::call<gelu_tanh_backward>(x, one), slope(al::gelu_tanh));
  check_slope(al::call<sigmoid_backward>(al::sigmoid(x), one), slope(al::sigmoid));
  check_slope(al::call<tanh_backward>(al::tanh(x), one), slope(al::tanh));
  check_slope(al::call<relu_backward>(al::relu(x), one), slope(al::relu));
}
