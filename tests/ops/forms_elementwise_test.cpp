// SPDX-License-Identifier: Apache-2.0
// Functional, out= and in-place forms of elementwise operators are one definition.
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/math.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

using real = plain<float>;
const std::vector<std::pair<al::shape, al::shape>> pairs{
    {{}, {}}, {{0}, {1}}, {{17}, {17}}, {{2, 3, 5}, {3, 1}}, {{3, 1}, {2, 3, 5}}};

template <class F, class... A>
void check_unary(const F& f, const A&... attributes) {
  for (const al::shape& s : {al::shape{}, {0}, {2, 3, 17}}) {
    const auto x = numbers<real>(s, 1);
    check_forms(f, al::add(al::mul(x, x), al::full<real>({}, 0.1)), attributes...);
  }
}
template <class F>
void check_binary(const F& f) {
  for (const auto& [a, b] : pairs) {
    check_forms(f, numbers<real>(a, 1), numbers<real>(b, 2));
  }
}
template <class Op>
constexpr al::op_function<Op> of;

}  // namespace

TEST_CASE("ops/arithmetic: all forms agree") {
  check_binary(al::add);
  check_binary(al::sub);
  check_binary(al::mul);
  check_binary(al::div);
  check_binary(al::maximum);
  check_binary(al::minimum);
  check_unary(al::neg);
  check_unary(al::abs);
  check_unary(al::sign);
  check_unary(al::square);
  check_unary(al::scale, 2.0);
  check_unary(al::scale, 2.0, 1.0);
  check_unary(al::pow, 1.5);
  check_unary(al::pow, 2);  // a number of another type
}

TEST_CASE("ops/arithmetic: all forms promote alike") {
  const auto i = numbers<plain<std::int32_t>>({2, 3}, 1);
  const auto x = numbers<real>({3}, 2);
  check_output(al::mul, i, x);  // an integer cannot hold the result: no in-place form
  check_forms(al::mul, x, i);
  check_forms(al::sub, i, i);
}

TEST_CASE("ops/math: all forms agree") {
  check_unary(al::exp);
  check_unary(al::log);
  check_unary(al::sqrt);
  check_unary(al::rsqrt);
  check_unary(al::tanh);
  check_binary(of<al::ops::tanh_backward>);
}

TEST_CASE("ops/activation: all forms agree") {
  check_unary(al::sigmoid);
  check_unary(al::relu);
  check_unary(al::silu);
  check_unary(al::gelu);
  check_unary(al::gelu_tanh);
  check_binary(of<al::ops::sigmoid_backward>);
  check_binary(of<al::ops::relu_backward>);
  check_binary(of<al::ops::silu_backward>);
  check_binary(of<al::ops::gelu_backward>);
  check_binary(of<al::ops::gelu_tanh_backward>);
}

TEST_CASE("ops/comparison: all forms agree") {
  const auto check = [](const auto& f) {
    for (const auto& [a, b] : pairs) {
      check_output(f, numbers<real>(a, 1), numbers<real>(b, 1));
    }
  };
  check(al::eq);
  check(al::ne);
  check(al::lt);
  check(al::le);
  check(al::gt);
  check(al::ge);
  check_output(al::logical_not, numbers<plain<std::int32_t>>({2, 3}, 1));
  check_forms(al::logical_not, numbers<plain<bool>>({2, 3}, 1));
  check_output(al::where, numbers<plain<bool>>({2, 1}, 1), numbers<real>({3}, 2),
               numbers<real>({2, 3}, 3));
  const auto c = numbers<plain<bool>>({5}, 1);
  check_forms(al::where, c, numbers<plain<bool>>({5}, 2), numbers<plain<bool>>({1}, 3));
}
