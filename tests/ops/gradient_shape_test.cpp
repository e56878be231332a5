// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"
#include "ops/twins.hpp"

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
}  // namespace

TEST_CASE("ops/views: gradients of views equal differences") {
  check([](const auto& x) { return al::slice(x, 1, 1, 5, 2); }, {2, 6});
  check([](const auto& x) { return al::slice(x, -1, 2, 2); }, {2, 3});
  check([](const auto& x) { return al::narrow(x, -2, 1, 2); }, {3, 2});
  check([](const auto& x) { return al::select(x, -1, -2); }, {2, 3});
  check([](const auto& x) { return al::transpose(x, 0, -1); }, {2, 3, 2});
  check([](const auto& x) { return al::permute(x, {2, 0, -2}); }, {2, 3, 2});
  check([](const auto& x) { return al::expand(x, {2, 3, 2}); }, {3, 1});
  check([](const auto& x) { return al::unsqueeze(al::squeeze(x, -2), -1); }, {2, 1, 3});
  check([](const auto& x) { return al::reshape(al::transpose(x), {2, -1}); }, {2, 3});
  check([](const auto& x) { return al::reshape(x, {3, 0}); }, {0, 3});
}

TEST_CASE("ops/cat: gradients of tensors one after the other equal differences") {
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

TEST_CASE("ops/reduction: gradients of reductions equal differences") {
  const auto check_axes = [](const auto& f) {
    check([&](const auto& x) { return f(x, {}, false); }, {2, 3});
    check([&](const auto& x) { return f(x, {1}, false); }, {2, 3});
    check([&](const auto& x) { return f(x, {-3, 2}, true); }, {2, 1, 3});
    check([&](const auto& x) { return f(x, {}, true); }, {});
    check([&](const auto& x) { return f(x, {1}, false); }, {0, 3});
  };
  check_axes(
      [](const auto& x, const al::shape& axes, bool keep) { return al::sum(x, axes, keep); });
  check_axes(
      [](const auto& x, const al::shape& axes, bool keep) { return al::mean(x, axes, keep); });
  check_axes(
      [](const auto& x, const al::shape& axes, bool keep) { return al::max(x, axes, keep); });
  check_axes(
      [](const auto& x, const al::shape& axes, bool keep) { return al::min(x, axes, keep); });
  check([](const auto& x) { return al::sum(x); }, {0, 2});
  check([](const auto& x) { return al::sum_to(x, {3, 1}); }, {2, 3, 2});
  check(al::sum_squares, {2, 3});
}
