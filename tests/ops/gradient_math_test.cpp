// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {

struct checks {
  static void of(std::type_identity<ops::neg>) { check_unary_gradients(al::neg, away); }
  static void of(std::type_identity<ops::abs>) { check_unary_gradients(al::abs, away); }
  static void of(std::type_identity<ops::sign>) { check_unary_gradients(al::sign, away); }
  static void of(std::type_identity<ops::square>) { check_unary_gradients(al::square, away); }
  static void of(std::type_identity<ops::exp>) { check_unary_gradients(al::exp, away); }
  static void of(std::type_identity<ops::log>) {
    check_unary_gradients(al::log, [](const al::shape& s, int salt) { return positive(s, salt); });
  }
  static void of(std::type_identity<ops::sqrt>) {
    check_unary_gradients(al::sqrt, [](const al::shape& s, int salt) { return positive(s, salt); });
  }
  static void of(std::type_identity<ops::erf>) { check_unary_gradients(al::erf, away); }
  static void of(std::type_identity<ops::rsqrt>) {
    check_unary_gradients(al::rsqrt,
                          [](const al::shape& s, int salt) { return positive(s, salt); });
  }
  static void of(std::type_identity<ops::cast<float>>) {
    check_unary_gradients(al::cast<double>, away);  // differences need doubles
    const auto through_float = [](const auto& x) { return al::cast<double>(al::cast<float>(x)); };
    const leaf x = numbers<leaf>({3}, 1);
    al::require_grad(x);
    al::backward(through_float(x), al::ones<leaf>({3}));
    check_elements(al::gradient(x), [](std::int64_t) { return 1.0; });
  }
  static void of(std::type_identity<ops::copy>) {
    const auto f = [](const auto& a, const auto& b) { return al::copy(a, al::square(b)); };
    check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
    check_second_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({3}, 2));
  }
  static void of(std::type_identity<ops::clone>) { check_unary_gradients(al::clone, away); }
  static void of(std::type_identity<ops::fill>) {
    const auto f = [](const auto& x) { return al::fill(x, 2.0); };
    check_gradient(f, away({3}, 1));
    check_second_gradient(f, away({3}, 1));
  }
};

}  // namespace

TEST_CASE("ops/math: gradients, and theirs, equal differences") {
  check_family<checks>(family::math{});
}

TEST_CASE("ops/copy: gradients pass through promotion and composites") {
  const leaf x = numbers<leaf>({3}, 1);
  using narrow_leaf = al::tensor<float, tape_keys>;
  const auto w = numbers<narrow_leaf>({3}, 2);
  al::require_grad(w);
  al::backward(al::mul(x, w), al::ones<leaf>({3}));
  check_elements(al::gradient(w), [&](std::int64_t i) { return static_cast<float>(at(x, i)); });
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
