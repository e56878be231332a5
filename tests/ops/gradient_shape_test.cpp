// SPDX-License-Identifier: Apache-2.0
#include "ops/gradients.hpp"

using namespace twins;

namespace {
/// Through a square, so that a wrong place shows.
template <class F>
void check(const F& f, const al::shape& s) {
  const auto g = [&](const auto& x) { return f(al::square(x)); };
  check_gradient(g, numbers<leaf>(s, 1));
  check_gradient(g, scattered(numbers<leaf>(s, 2)));
  check_second_gradient(g, numbers<leaf>(s, 3));
}
template <class F>
void check_axes(const F& f) {
  check([&](const auto& x) { return f(x, {}, false); }, {2, 3});
  check([&](const auto& x) { return f(x, {1}, false); }, {2, 3});
  check([&](const auto& x) { return f(x, {-3, 2}, true); }, {2, 1, 3});
  check([&](const auto& x) { return f(x, {}, true); }, {});
  check([&](const auto& x) { return f(x, {1}, false); }, {0, 3});
}

struct checks {
  static void of(std::type_identity<ops::slice>) {
    check([](const auto& x) { return al::slice(x, 1, 1, 5, 2); }, {2, 6});
    check([](const auto& x) { return al::slice(x, -1, 2, 2); }, {2, 3});
  }
  static void of(std::type_identity<ops::narrow>) {
    check([](const auto& x) { return al::narrow(x, -2, 1, 2); }, {3, 2});
  }
  static void of(std::type_identity<ops::select>) {
    check([](const auto& x) { return al::select(x, -1, -2); }, {2, 3});
  }
  static void of(std::type_identity<ops::transpose>) {
    check([](const auto& x) { return al::transpose(x, 0, -1); }, {2, 3, 2});
  }
  static void of(std::type_identity<ops::permute>) {
    check([](const auto& x) { return al::permute(x, {2, 0, -2}); }, {2, 3, 2});
  }
  static void of(std::type_identity<ops::expand>) {
    check([](const auto& x) { return al::expand(x, {2, 3, 2}); }, {3, 1});
  }
  static void of(std::type_identity<ops::squeeze>) {
    check([](const auto& x) { return al::squeeze(x, -2); }, {2, 1, 3});
  }
  static void of(std::type_identity<ops::unsqueeze>) {
    check([](const auto& x) { return al::unsqueeze(x, -1); }, {2, 3});
  }
  static void of(std::type_identity<ops::view_as>) {
    check([](const auto& x) { return al::view_as(x, {3, 2}); }, {2, 3});
    check([](const auto& x) { return al::reshape(al::transpose(x), {2, -1}); }, {2, 3});
    check([](const auto& x) { return al::reshape(x, {3, 0}); }, {0, 3});
  }
  static void of(std::type_identity<ops::slice_backward>) {
    const auto f = [](const auto& x) {
      return al::call<ops::slice_backward>(x, al::shape{2, 6}, std::int64_t{1}, std::int64_t{1},
                                           std::int64_t{5}, std::int64_t{2});
    };
    check(f, {2, 2});
  }
  static void of(std::type_identity<ops::cat>) {
    const auto f = [](const auto& a, const auto& b, const auto& c) {
      return al::square(al::cat(a, al::square(b), c, -1));
    };
    check_gradient(f, numbers<leaf>({2, 1}, 1), scattered(numbers<leaf>({2, 3}, 2)),
                   numbers<leaf>({2, 0}, 3));
    check_second_gradient(f, numbers<leaf>({2, 1}, 1), numbers<leaf>({2, 2}, 2),
                          numbers<leaf>({2, 1}, 3));
    const auto some = [](const auto& b) {
      return al::cat(al::zeros<leaf>({2}), al::square(b), al::zeros<leaf>({1}), 0);
    };
    check_gradient(some, numbers<leaf>({3}, 1));
  }
  static void of(std::type_identity<ops::sum>) {
    check_axes(
        [](const auto& x, const al::shape& axes, bool keep) { return al::sum(x, axes, keep); });
    check([](const auto& x) { return al::sum(x); }, {0, 2});
  }
  static void of(std::type_identity<ops::mean>) {
    check_axes(
        [](const auto& x, const al::shape& axes, bool keep) { return al::mean(x, axes, keep); });
  }
  static void of(std::type_identity<ops::max>) {
    check_axes(
        [](const auto& x, const al::shape& axes, bool keep) { return al::max(x, axes, keep); });
  }
  static void of(std::type_identity<ops::min>) {
    check_axes(
        [](const auto& x, const al::shape& axes, bool keep) { return al::min(x, axes, keep); });
  }
  static void of(std::type_identity<ops::sum_to>) {
    check([](const auto& x) { return al::sum_to(x, {3, 1}); }, {2, 3, 2});
  }
  static void of(std::type_identity<ops::sum_squares>) { check(al::sum_squares, {2, 3}); }
};

}  // namespace

TEST_CASE("ops/views: gradients of views and reductions, and theirs, equal differences") {
  check_family<checks>(family::shapes{});
}
