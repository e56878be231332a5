// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

const std::vector<std::pair<al::shape, al::shape>> pairs{
    {{}, {}}, {{0}, {0}}, {{1}, {3}}, {{2, 3}, {3}}, {{3, 1}, {1, 2}}, {{2, 0}, {1}}};

/// Away from zero, where quotients and the like are steep.
leaf away(const al::shape& s, int salt) {
  const leaf x = numbers<leaf>(s, salt);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] += x.data()[i] < 0 ? -0.5 : 0.5;
  }
  return x;
}
template <class F>
void check_binary(const F& f) {
  for (const auto& [a, b] : pairs) {
    check_gradient(f, away(a, 1), away(b, 2));
    check_gradient(f, scattered(away(a, 1)), scattered(away(b, 2)));
  }
  check_second_gradient(f, away({2, 3}, 1), away({3}, 2));
}

}  // namespace

TEST_CASE("ops/arithmetic: gradients of functions of two tensors equal differences") {
  check_binary(al::add);
  check_binary(al::sub);
  check_binary(al::mul);
  check_binary(al::div);
  check_binary(al::maximum);
  check_binary(al::minimum);
}

TEST_CASE("ops/arithmetic: equal ones share the gradient of the larger and the smaller") {
  const leaf a = al::ones<leaf>({2});
  const leaf b = al::ones<leaf>({2});
  al::require_grad(a);
  const auto y = al::maximum(a, b);
  al::backward(y, al::ones<leaf>({2}));
  check_elements(al::gradient(a), [](std::int64_t) { return 0.5; });
}
