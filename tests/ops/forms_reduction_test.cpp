// SPDX-License-Identifier: Apache-2.0
// Functional, out= and in-place forms of reductions are one definition.
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

using real = plain<float>;
template <class Op>
constexpr al::op_function<Op> of;

template <class F, class X>
void check_axes(const F& f, const X& x) {
  check_output(f, x);
  check_output(f, x, 0);
  check_output(f, x, -1, true);
  check_output(f, x, al::shape{0, 2}, true);
}

}  // namespace

TEST_CASE("ops/reduction: all forms agree") {
  const auto x = numbers<real>({5, 3, 17}, 1);
  check_axes(al::sum, x);
  check_axes(al::mean, x);
  check_axes(al::max, x);
  check_axes(al::min, x);
  check_axes(al::argmax, x);
  check_axes(al::sum, numbers<real>({0, 3, 2}, 1));
  check_output(al::sum_to, x, al::shape{3, 1});
  check_output(al::sum_squares, x);
  const auto one = numbers<real>({1, 1}, 1);
  check_forms(al::mean, one, 0, true);  // the shape stays: in place too
  check_forms(al::sum, x, 1);           // it does not: refused
  check_forms(al::max, one, al::shape{0, 1}, true);
}

TEST_CASE("ops/reduction: integers and bool are summed as int64 in all forms") {
  check_axes(al::sum, numbers<plain<std::int32_t>>({2, 3, 5}, 1));
  check_axes(al::sum, numbers<plain<bool>>({2, 3, 5}, 1));
  check_forms(al::sum, numbers<plain<std::int64_t>>({1, 1}, 1), 1, true);
  static_assert(std::is_same_v<decltype(al::sum(plain<bool>{}))::value_type, std::int64_t>);
}

TEST_CASE("ops/softmax: all forms agree") {
  for (const al::shape& s : {al::shape{}, {0, 3}, {2, 3, 17}}) {
    const auto x = numbers<real>(s, 1);
    const auto g = numbers<real>(s, 2);
    for (const std::int64_t axis : {-1, 0}) {
      check_forms(al::softmax, x, axis);
      check_forms(al::log_softmax, x, axis);
      check_forms(of<al::ops::softmax_backward>, al::softmax(x, axis), g, axis);
      check_forms(of<al::ops::log_softmax_backward>, al::log_softmax(x, axis), g, axis);
    }
    check_forms(al::softmax, x);
  }
}

TEST_CASE("ops/cross_entropy: all forms agree") {
  const auto x = numbers<real>({4, 7}, 1);
  const auto t = al::from_values<plain<std::int64_t>>({4}, {2, 0, -100, 6});
  check_output(al::cross_entropy, x, t);
  check_output(al::cross_entropy, x, al::from_values<plain<std::int64_t>>({4}, {2, 0, 2, 6}), 2);
  check_output(of<al::ops::cross_entropy_backward>, al::ones<real>({}), x, t, std::int64_t{-100});
}
