// SPDX-License-Identifier: Apache-2.0
// Functional, out= and in-place forms of elementwise operators are one definition: here those whose
// forms are not checked beside their values.
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/math.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

using real = plain<float>;
const std::vector<std::pair<al::shape, al::shape>> pairs{
    {{}, {}}, {{0}, {1}}, {{17}, {17}}, {{2, 3, 5}, {3, 1}}, {{3, 1}, {2, 3, 5}}};

template <class Op>
void check_backward() {
  for (const auto& [a, b] : pairs) {
    check_forms(al::op_function<Op>{}, numbers<real>(a, 1), numbers<real>(b, 2));
  }
}

}  // namespace

TEST_CASE("ops/arithmetic: all forms take numbers alike") {
  for (const al::shape& s : {al::shape{}, {0}, {2, 3, 17}}) {
    const auto x = al::square(numbers<real>(s, 1));
    check_forms(al::scale, x, 2.0);
    check_forms(al::scale, x, 2.0, 1.0);
    check_forms(al::pow, x, 1.5);
    check_forms(al::pow, x, 2);  // a number of another type
  }
}

TEST_CASE("ops/arithmetic: all forms promote alike") {
  const auto i = numbers<plain<std::int32_t>>({2, 3}, 1);
  const auto x = numbers<real>({3}, 2);
  check_output(al::mul, i, x);  // an integer cannot hold the result: no in-place form
  check_forms(al::mul, x, i);
  check_forms(al::sub, i, i);
}

TEST_CASE("ops/activation: all forms of gradients agree") {
  check_backward<al::ops::tanh_backward>();
  check_backward<al::ops::sigmoid_backward>();
  check_backward<al::ops::relu_backward>();
  check_backward<al::ops::silu_backward>();
  check_backward<al::ops::gelu_backward>();
  check_backward<al::ops::gelu_tanh_backward>();
}

TEST_CASE("ops/comparison: all forms agree") {
  check_output(al::logical_not, numbers<plain<std::int32_t>>({2, 3}, 1));
  check_forms(al::logical_not, numbers<plain<bool>>({2, 3}, 1));
  check_output(al::where, numbers<plain<bool>>({2, 1}, 1), numbers<real>({3}, 2),
               numbers<real>({2, 3}, 3));
  const auto c = numbers<plain<bool>>({5}, 1);
  check_forms(al::where, c, numbers<plain<bool>>({5}, 2), numbers<plain<bool>>({1}, 3));
}
