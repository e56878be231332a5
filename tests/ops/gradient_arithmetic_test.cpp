// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::add>) { check_binary_gradients(al::add); }
  static void of(std::type_identity<ops::sub>) { check_binary_gradients(al::sub); }
  static void of(std::type_identity<ops::mul>) { check_binary_gradients(al::mul); }
  static void of(std::type_identity<ops::div>) { check_binary_gradients(al::div); }
  static void of(std::type_identity<ops::maximum>) { check_binary_gradients(al::maximum); }
  static void of(std::type_identity<ops::minimum>) { check_binary_gradients(al::minimum); }
  static void of(std::type_identity<ops::scale>) {
    check_unary_gradients([](const auto& x) { return al::scale(x, 3.0, 1.0); }, away);
  }
  static void of(std::type_identity<ops::pow>) {
    const auto smooth = [](const al::shape& s, int salt) { return positive(s, salt); };
    check_unary_gradients([](const auto& x) { return al::pow(x, 1.7); }, smooth);
    check_unary_gradients([](const auto& x) { return al::mul(x, al::pow(x, 3.0)); }, away);
    check_gradient([](const auto& x) { return al::pow(x, 0.0); }, away({3}, 1));
  }
  static void of(std::type_identity<ops::where>) {
    const auto c = al::gt(numbers<leaf>({2, 3}, 9), al::zeros<leaf>({}));
    const auto f = [&](const auto& a, const auto& b) { return al::where(c, a, b); };
    check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
    check_second_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
    check_gradient(f, numbers<leaf>({1}, 1), scattered(numbers<leaf>({2, 3}, 2)));
  }
};

}  // namespace

TEST_CASE("ops/arithmetic: gradients, and theirs, equal differences") {
  check_family<checks>(family::arithmetic{});
}

TEST_CASE("ops/arithmetic: rounded quotients have gradients of zeros") {
  const leaf a = al::from_values<leaf>({3}, {1.5, -7.0, 1e300});
  const leaf b = al::from_values<leaf>({}, {0.1});
  al::require_grad(a);
  al::require_grad(b);
  const auto y =
      al::add(al::div(a, b, al::rounding::floor{}), al::div(a, b, al::rounding::trunc{}));
  al::backward(y, al::ones<leaf>({3}));
  check_same(al::gradient(a), al::zeros<leaf>({3}));
  check_same(al::gradient(b), al::zeros<leaf>({}));
}

TEST_CASE("ops/arithmetic: equal ones share the gradient of the larger and the smaller") {
  const leaf a = al::ones<leaf>({2});
  const leaf b = al::ones<leaf>({2});
  al::require_grad(a);
  const auto y = al::maximum(a, b);
  al::backward(y, al::ones<leaf>({2}));
  check_elements(al::gradient(a), [](std::int64_t) { return 0.5; });
}
