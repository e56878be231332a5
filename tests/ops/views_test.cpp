// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/views.hpp"

#include "ashlar/ops/copy.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// A view shares the elements, and its geometry is the same without any.
template <class X, class V>
void check_view(const X& x, const V& v, const ghost<typename X::value_type>& g) {
  CHECK(&v.body()->root() == &x.body()->root());
  CHECK(v.spec() == g.spec());
}

}  // namespace

TEST_CASE("ops/views: each view shows the elements it names") {
  const auto x = numbers<plain<float>>({3, 5, 7}, 1);
  const auto g = ghost_of(x);

  const auto sliced = al::slice(x, 1, 1, 5, 2);
  check_elements(sliced,
                 [&](std::int64_t i) { return x.view()(i / 14, 1 + i / 7 % 2 * 2, i % 7); });
  check_view(x, sliced, al::slice(g, 1, 1, 5, 2));

  const auto narrowed = al::narrow(x, -1, 2, 3);
  check_elements(narrowed, [&](std::int64_t i) { return x.view()(i / 15, i / 3 % 5, 2 + i % 3); });
  check_view(x, narrowed, al::narrow(g, -1, 2, 3));

  const auto selected = al::select(x, 1, -1);
  check_elements(selected, [&](std::int64_t i) { return x.view()(i / 7, 4, i % 7); });
  check_view(x, selected, al::select(g, 1, -1));

  const auto turned = al::transpose(x, 0, 2);
  check_elements(turned, [&](std::int64_t i) { return x.view()(i % 3, i / 3 % 5, i / 15); });
  check_view(x, turned, al::transpose(g, 0, 2));
  check_same(al::transpose(x), al::transpose(x, 1, 2));

  const auto permuted = al::permute(x, {2, 0, 1});
  check_elements(permuted, [&](std::int64_t i) { return x.view()(i / 5 % 3, i % 5, i / 15); });
  check_view(x, permuted, al::permute(g, {2, 0, 1}));

  const auto one = al::select(x, 0, 0);
  const auto spread = al::expand(al::unsqueeze(one, 1), {2, 5, 4, 7});
  check_elements(spread, [&](std::int64_t i) { return one.view()(i / 28 % 5, i % 7); });
  check_view(x, spread, al::expand(al::unsqueeze(al::select(g, 0, 0), 1), {2, 5, 4, 7}));
  check_same(al::squeeze(al::unsqueeze(x, 3), 3), x);
}

TEST_CASE("ops/views: reshape is a view where that works and a copy where not") {
  const auto x = numbers<plain<float>>({4, 6}, 1);
  const auto folded = al::reshape(x, {2, -1, 3});
  CHECK(al::shape(folded.shape()) == al::shape{2, 4, 3});
  CHECK(&folded.body()->root() == &x.body()->root());
  check_elements(folded, [&](std::int64_t i) { return at(x, i); });

  const auto turned = al::transpose(x);
  const auto copied = al::reshape(turned, {24});
  CHECK(&copied.body()->root() != &x.body()->root());
  check_elements(copied, [&](std::int64_t i) { return at(turned, i); });
  CHECK_THROWS_AS(al::view_as(turned, {24}), al::argument_error);
  CHECK(al::reshape(turned, {6, 2, 2}).body()->base);
  CHECK(al::reshape(ghost_of(turned), {24}).size() == 24);

  CHECK(al::reshape(al::zeros<plain<float>>({0, 3}), {3, 0}).size() == 0);
  CHECK(al::reshape(al::zeros<plain<float>>({1}), {}).rank() == 0);
}

TEST_CASE("ops/views: what is written to a view is written to its base") {
  auto x = al::zeros<plain<float>>({3, 4});
  auto column = al::select(x, 1, 2);
  al::fill.in_place(column, 5.0);
  check_elements(x, [](std::int64_t i) { return i % 4 == 2 ? 5.0f : 0.0f; });
}

TEST_CASE("ops/views: slice_backward puts a part into zeros") {
  const auto part = numbers<plain<float>>({3, 2}, 1);
  const auto y = al::call<al::ops::slice_backward>(
      part, al::shape{3, 5}, std::int64_t{1}, std::int64_t{1}, std::int64_t{5}, std::int64_t{2});
  check_elements(y, [&](std::int64_t i) {
    const std::int64_t c = i % 5;
    return c == 1 || c == 3 ? part.view()(i / 5, c / 2) : 0.0f;
  });
}

TEST_CASE("ops/views: what does not exist is refused") {
  const auto x = al::zeros<plain<float>>({3, 4});
  CHECK_THROWS_AS(al::narrow(x, 0, 2, 2), al::argument_error);
  CHECK_THROWS_AS(al::narrow(x, 2, 0, 1), al::argument_error);
  CHECK_THROWS_AS(al::select(x, 0, 3), al::argument_error);
  CHECK_THROWS_AS(al::slice(x, 0, 0, 3, 0), al::argument_error);
  CHECK_THROWS_AS(al::permute(x, {0, 0}), al::shape_error);
  CHECK_THROWS_AS(al::expand(x, {3, 5}), al::shape_error);
  CHECK_THROWS_AS(al::squeeze(x, 0), al::argument_error);
  CHECK_THROWS_AS(al::reshape(x, {5, -1}), al::shape_error);
  CHECK_THROWS_AS(al::reshape(plain<float>{}, {1}), al::undefined_tensor);
  CHECK_THROWS_AS(al::transpose(plain<float>{}, 0, 1), al::undefined_tensor);
}
