// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/math.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// Away from zero, where quotients and the like are steep.
leaf away(const al::shape& s, int salt) {
  const leaf x = numbers<leaf>(s, salt);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] += x.data()[i] < 0 ? -0.5 : 0.5;
  }
  return x;
}
leaf positive(const al::shape& s) {
  const leaf x = away(s, 3);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = std::abs(x.data()[i]);
  }
  return x;
}

template <class F>
void check_unary(const F& f) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3}}) {
    check_gradient(f, positive(s));
    check_gradient(f, scattered(positive(s)));
  }
  check_second_gradient(f, positive({5}));
}

}  // namespace

TEST_CASE("ops/math: gradients of functions of one tensor equal differences") {
  check_unary([](const auto& x) { return al::abs(al::neg(x)); });
  check_unary(al::square);
  check_unary(al::exp);
  check_unary(al::log);
  check_unary(al::sqrt);
  check_unary(al::rsqrt);
  check_unary(al::tanh);
  check_unary([](const auto& x) { return al::scale(al::pow(x, 1.7), 3.0, 1.0); });
  check_unary([](const auto& x) { return al::mul(x, al::pow(x, 3.0)); });
}

TEST_CASE("ops/comparison: the gradient of where goes to the one that was chosen") {
  const auto c = al::gt(numbers<leaf>({2, 3}, 9), al::zeros<leaf>({}));
  const auto f = [&](const auto& a, const auto& b) { return al::where(c, a, b); };
  check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
  check_gradient(f, numbers<leaf>({1}, 1), scattered(numbers<leaf>({2, 3}, 2)));
}

TEST_CASE("ops/copy: gradients pass through conversions, copies and promotion") {
  const auto through_float = [](const auto& x) {
    return al::cast<double>(al::cast<float>(al::clone(x)));
  };
  const leaf x = numbers<leaf>({3}, 1);
  al::require_grad(x);
  al::backward(through_float(x), al::ones<leaf>({3}));
  check_elements(al::gradient(x), [](std::int64_t) { return 1.0; });

  using narrow_leaf = al::tensor<float, tape_keys>;
  const auto w = numbers<narrow_leaf>({3}, 2);
  al::require_grad(w);
  al::backward(al::mul(x, w), al::ones<leaf>({3}));
  check_elements(al::gradient(w), [&](std::int64_t i) { return static_cast<float>(at(x, i)); });

  check_gradient([](const auto& a, const auto& b) { return al::copy(a, al::square(b)); },
                 numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
  check_gradient([](const auto& a) { return al::contiguous(al::transpose(a)); },
                 numbers<leaf>({2, 3}, 1));
}

TEST_CASE("ops/copy: gradients know what was written in place") {
  const auto f = [](const auto& a, const auto& b) {
    auto y = al::square(a);
    al::mul.in_place(y, b);
    al::copy.in_place(y, al::add(y, b));
    return y;
  };
  check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
  const auto overwritten = [](const auto& a) {
    auto y = al::square(a);
    al::fill.in_place(y, 2.0);
    return al::mul(y, a);
  };
  check_gradient(overwritten, numbers<leaf>({3}, 1));
}
