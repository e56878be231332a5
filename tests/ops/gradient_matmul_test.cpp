// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::matmul>) {
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
  static void of(std::type_identity<ops::linear>) {
    const auto f = [](const auto& x, const auto& w) { return al::linear(x, w); };
    const auto w = numbers<leaf>({2, 3}, 2);
    for (const al::shape& s : {al::shape{3}, {1, 3}, {4, 3}, {2, 2, 3}, {0, 3}}) {
      check_gradient(f, scattered(numbers<leaf>(s, 1)), scattered(w));
      check_second_gradient(f, numbers<leaf>(s, 1), w);
    }
  }
  static void of(std::type_identity<ops::linear_bias>) {
    const auto f = [](const auto& x, const auto& w, const auto& b) { return al::linear(x, w, b); };
    const auto w = numbers<leaf>({2, 3}, 2);
    const auto b = numbers<leaf>({2}, 3);
    for (const al::shape& s : {al::shape{3}, {1, 3}, {4, 3}, {2, 2, 3}, {0, 3}}) {
      check_gradient(f, numbers<leaf>(s, 1), w, b);
    }
    check_second_gradient(f, numbers<leaf>({2, 2, 3}, 1), w, b);
  }
};

}  // namespace

TEST_CASE("ops/matmul: gradients, and theirs, equal differences") {
  check_family<checks>(family::matmul{});
}

TEST_CASE("ops/dense: gradients, and theirs, equal differences") {
  const auto w = numbers<leaf>({2, 3}, 2);
  const auto b = numbers<leaf>({2}, 3);
  for (const al::shape& s : {al::shape{1, 3}, {4, 3}, {2, 2, 3}, {0, 3}}) {
    al::shape to = s;
    to[to.rank() - 1] = 2;
    check_gradient(al::dense<al::ops::gelu>, numbers<leaf>(s, 1), w, b, numbers<leaf>(to, 4));
    check_gradient(al::dense<void>, numbers<leaf>(s, 1), w, b, scattered(numbers<leaf>(to, 4)));
    check_gradient(al::dense<al::ops::silu>, scattered(numbers<leaf>(s, 1)), w, b);
  }
  check_second_gradient(al::dense<al::ops::silu>, numbers<leaf>({2, 3}, 1), w, b,
                        numbers<leaf>({2, 2}, 4));
  CHECK_THROWS_AS(al::dense<void>(numbers<leaf>({1, 3}, 1), w, b, b), al::shape_error);
}
