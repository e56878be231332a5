// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/activation.hpp"

#include <algorithm>
#include <cmath>

#include "ops/twins.hpp"

using namespace twins;

namespace {
double normal_share(double x) { return 0.5 * (1 + std::erf(x / std::sqrt(2.0))); }
}  // namespace

TEST_CASE("ops/activation: functions equal their formulas") {
  check_function_in_both(al::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  check_function_in_both(al::silu, [](double x) { return x / (1 + std::exp(-x)); });
  check_function<float>(al::relu, [](double x) { return std::max(x, 0.0); });
  check_function_in_both(al::gelu, [](double x) { return x * normal_share(x); });
  check_function_in_both(al::gelu_tanh, [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  });
}

TEST_CASE("ops/activation: SwiGLU has the bits of its parts") {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {67}, {2, 3, 17}}) {
    const auto gate = numbers<plain<float>>(s, 1);
    const auto up = numbers<plain<float>>(s, 2);
    const auto y = al::swiglu(gate, up);
    check_same(y, al::mul(al::silu(gate), up));
    check_same(al::swiglu(scattered(gate), scattered(up)), y);
    check_meta(y, al::swiglu(ghost_of(gate), ghost_of(up)));
  }
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
