// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {
template <class F>
void check(const F& f) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3}, {2, 3, 2}}) {
    for (int axis = 0; axis < std::max(s.rank(), 1); ++axis) {
      const auto g = [&](const auto& x) { return f(x, axis); };
      check_gradient(g, numbers<leaf>(s, 1));
      check_gradient(g, scattered(numbers<leaf>(s, 2)));
    }
  }
  check_second_gradient([&](const auto& x) { return f(x, 1); }, numbers<leaf>({2, 3, 2}, 3));
}

struct checks {
  static void of(std::type_identity<ops::softmax>) {
    check([](const auto& x, int axis) { return al::softmax(x, axis); });
  }
  static void of(std::type_identity<ops::softmax_backward>) {
    for (const std::int64_t axis : {0, 1}) {
      const auto f = [=](const auto& y, const auto& g) {
        return al::call<ops::softmax_backward>(y, g, axis);
      };
      check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({2, 3}, 2));
      check_second_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({2, 3}, 2));
      check_gradient(f, scattered(numbers<leaf>({2, 3, 2}, 1)),
                     scattered(numbers<leaf>({2, 3, 2}, 2)));
    }
  }
  static void of(std::type_identity<ops::log_softmax>) {
    check([](const auto& x, int axis) { return al::log_softmax(x, axis); });
  }
  static void of(std::type_identity<ops::log_softmax_backward>) {
    for (const std::int64_t axis : {0, 1}) {
      const auto f = [=](const auto& y, const auto& g) {
        return al::call<ops::log_softmax_backward>(y, g, axis);
      };
      check_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({2, 3}, 2));
      check_second_gradient(f, numbers<leaf>({2, 3}, 1), numbers<leaf>({2, 3}, 2));
      check_gradient(f, scattered(numbers<leaf>({2, 3, 2}, 1)),
                     scattered(numbers<leaf>({2, 3, 2}, 2)));
    }
  }
  static void of(std::type_identity<ops::cross_entropy>) {
    const auto t = al::from_values<plain<std::int64_t>>({4}, {2, 0, -100, 1});
    const auto f = [&](const auto& x) { return al::cross_entropy(x, t); };
    check_gradient(f, numbers<leaf>({4, 3}, 1));
    check_gradient(f, scattered(numbers<leaf>({4, 3}, 2)));
    check_second_gradient(f, numbers<leaf>({4, 3}, 3));
    const auto one = al::from_values<plain<std::int64_t>>({1}, {0});
    check_gradient([&](const auto& x) { return al::cross_entropy(x, one); },
                   numbers<leaf>({1, 1}, 1));
  }
};

}  // namespace

TEST_CASE("ops/softmax: gradients, and theirs, equal differences") {
  check_family<checks>(family::softmax{});
}
