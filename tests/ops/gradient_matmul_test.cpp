// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ops/twins.hpp"

using namespace twins;

TEST_CASE("ops/matmul: gradients of products, and theirs, equal differences") {
  const auto f = [](const auto& a, const auto& b) { return al::matmul(a, b); };
  const std::vector<std::pair<al::shape, al::shape>> pairs{
      {{1, 1}, {1, 1}},          {{2, 3}, {3, 4}}, {{2, 2, 3}, {3, 2}}, {{2, 3}, {2, 3, 2}},
      {{2, 1, 2, 3}, {3, 3, 2}}, {{0, 3}, {3, 2}}, {{2, 0}, {0, 3}},    {{3}, {3, 2}},
      {{2, 2, 3}, {3}},          {{3}, {3}}};
  for (const auto& [a, b] : pairs) {
    check_gradient(f, numbers<leaf>(a, 1), numbers<leaf>(b, 2));
    check_gradient(f, scattered(numbers<leaf>(a, 1)), scattered(numbers<leaf>(b, 2)));
  }
  check_second_gradient(f, numbers<leaf>({2, 2, 3}, 1), numbers<leaf>({3, 2}, 2));
  check_second_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({2, 3, 2}, 2));
}

TEST_CASE("ops/matmul: gradients of linear layers, and theirs, equal differences") {
  const auto with_bias = [](const auto& x, const auto& w, const auto& b) {
    return al::linear(x, w, b);
  };
  const auto without = [](const auto& x, const auto& w) { return al::linear(x, w); };
  const auto w = numbers<leaf>({2, 3}, 2);
  const auto b = numbers<leaf>({2}, 3);
  for (const al::shape& s : {al::shape{3}, {1, 3}, {4, 3}, {2, 2, 3}, {0, 3}}) {
    check_gradient(with_bias, numbers<leaf>(s, 1), w, b);
    check_gradient(without, scattered(numbers<leaf>(s, 1)), scattered(w));
  }
  check_second_gradient(with_bias, numbers<leaf>({2, 2, 3}, 1), w, b);
}
