// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {
template <class F>
void check_unary(const F& f) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3}}) {
    check_gradient(f, numbers<leaf>(s, 1));
    check_gradient(f, scattered(numbers<leaf>(s, 2)));
  }
  check_second_gradient(f, numbers<leaf>({7}, 3));
}
}  // namespace

TEST_CASE("ops/activation: gradients, and theirs, equal differences") {
  check_unary(al::sigmoid);
  check_unary(al::tanh);
  check_unary(al::relu);
  check_unary(al::silu);
  check_unary(al::gelu);
  check_unary(al::gelu_tanh);
}
