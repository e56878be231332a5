// SPDX-License-Identifier: Apache-2.0
// Functional, out= and in-place forms of copies and views are one definition.
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/random.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {
using real = plain<float>;
template <class Op>
constexpr al::op_function<Op> of;
}  // namespace

TEST_CASE("ops/copy: all forms agree") {
  for (const al::shape& s : {al::shape{}, {0}, {2, 3, 5}}) {
    const auto x = numbers<real>(s, 1);
    check_output(al::cast<double>, x);
    check_forms(al::cast<float>, x);
    check_forms(al::copy, x, numbers<plain<std::int32_t>>({}, 2));
    check_forms(al::clone, x);
    check_forms(al::contiguous, x);
  }
}

TEST_CASE("ops/creation: all forms agree") {
  for (const al::shape& s : {al::shape{}, {0}, {2, 3, 5}}) {
    const auto x = numbers<real>(s, 1);
    check_forms(al::fill, x, 3);
    check_forms(of<al::ops::arange>, x, 1.0, 0.5);
    check_forms(al::uniform, x, 7);
    check_forms(al::normal, x, 7, 2, 1.0, 3.0);
  }
}

TEST_CASE("ops/cat: all forms agree, for lists too") {
  const auto a = numbers<real>({2, 3}, 1);
  const auto b = numbers<real>({2, 1}, 2);
  check_output(al::cat, a, b, a, 1);
  check_forms(al::cat, a, numbers<real>({2, 0}, 3), -1);
  check_forms(al::cat, a, b, 1);  // in place it does not fit, and says so
  for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 17u}) {
    const std::vector<real> list(n, a);
    const auto y = al::cat(list, 0);
    real given = scattered(al::zeros<real>(al::shape(y.shape())));
    check_same(al::cat.out(given, list, 0), y);
  }
}

namespace {
template <class F, class... A>
concept Callable = requires(const F& f, const A&... args) { f(args...); };
static_assert(Callable<decltype(al::squeeze), real, int>);
static_assert(!Callable<decltype(al::squeeze), real, const char*> &&
              !Callable<decltype(al::squeeze), int, int> && !Callable<decltype(al::squeeze), real>);
}  // namespace

TEST_CASE("ops/views: out= copies what the view shows") {
  const auto x = numbers<real>({2, 3, 4}, 1);
  check_output(al::slice, x, 2, 0, 4, 3);
  check_output(al::slice, x, -1, 1, 3);
  check_output(al::narrow, x, 1, 1, 2);
  check_output(al::select, x, 0, -1);
  check_output(al::transpose, x);
  check_output(al::permute, x, al::shape{2, 0, 1});
  check_output(al::expand, numbers<real>({3, 1}, 1), al::shape{2, 3, 4});
  check_output(al::squeeze, numbers<real>({3, 1}, 1), 1);
  check_output(al::unsqueeze, x, 0);
  check_output(al::reshape, x, al::shape{4, -1});
  check_output(of<al::ops::slice_backward>, numbers<real>({2, 1}, 1), al::shape{2, 3},
               std::int64_t{1}, std::int64_t{1}, std::int64_t{2}, std::int64_t{1});
  const auto y = al::view_as(x, {4, 6});
  real given = al::zeros<real>({4, 6});
  check_same(al::view_as.out(given, x, {4, 6}), y);
  CHECK(given.data() != x.data());
}

TEST_CASE("ops/views: outputs that do not fit, or share elements, are refused by name") {
  const auto x = numbers<real>({3, 3}, 1);
  real wrong = al::zeros<real>({2, 3});
  try {
    al::reshape.out(wrong, x, {9});
    FAIL("must throw");
  } catch (const al::output_error& e) {
    CHECK(e.op == "reshape");
    CHECK(e.needed == al::shape{9});
    CHECK(e.given == al::shape{2, 3});
  }
  real same = x;
  CHECK_THROWS_WITH(al::transpose.out(same, x),
                    "ashlar::transpose: the output shares elements with an argument; write to a "
                    "tensor of its own");
  CHECK_THROWS_AS(al::transpose.out(same, real{}), al::undefined_tensor);
  real square = numbers<real>({2, 2}, 1);
  check_same(al::reshape.in_place(square, {2, 2}), numbers<real>({2, 2}, 1));
  CHECK_THROWS_AS(al::reshape.in_place(square, {4}), al::output_error);
}

TEST_CASE("ops/views: an output of what has no kernel is not recorded") {
  const leaf x = numbers<leaf>({2, 3}, 1);
  al::require_grad(x);
  leaf y;
  CHECK_THROWS_AS(al::transpose.out(y, x), al::not_recordable);
  CHECK_THROWS_AS(al::reshape.out(y, x, {6}), al::not_recordable);
  const al::no_grad off;
  CHECK(al::reshape.out(y, x, {6}).size() == 6);
}
