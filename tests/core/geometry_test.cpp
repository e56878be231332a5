// SPDX-License-Identifier: Apache-2.0
#include "ashlar/core/geometry.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/overlap.hpp"
#include "ashlar/core/view.hpp"

using namespace ashlar;

namespace {

tensor_spec dense(std::initializer_list<std::int64_t> extents) {
  return contiguous_spec(dtype::float32, shape(extents).span());
}

/// Element numbers of a view in row-major order, by counting indices up: the naive twin.
std::vector<std::int64_t> elements(const tensor_spec& s) {
  std::vector<std::int64_t> all;
  std::array<std::int64_t, max_rank> index{};
  for (std::int64_t n = 0; n < s.size; ++n) {
    std::int64_t at = s.offset;
    for (std::size_t i = 0; i < s.rank; ++i) {
      at += index[i] * s.stride[i];
    }
    all.push_back(at);
    for (std::size_t i = s.rank; i-- > 0 && ++index[i] == s.extent[i];) {
      index[i] = 0;
    }
  }
  return all;
}

}  // namespace

TEST_CASE("core/shape: at most eight extents, sizes cannot overflow") {
  CHECK_THROWS_AS(shape({1, 1, 1, 1, 1, 1, 1, 1, 1}), rank_error);
  CHECK_THROWS_AS(static_cast<void>(dense({-1})), size_error);
  CHECK_THROWS_AS(static_cast<void>(dense({std::int64_t{1} << 40, std::int64_t{1} << 40})),
                  size_error);
  CHECK(dense({std::int64_t{1} << 40, 0, std::int64_t{1} << 40}).size == 0);
  CHECK(dense({}).size == 1);
}

TEST_CASE("core/error: shape_error prints both shapes and says where it was thrown") {
  try {
    static_cast<void>(broadcast("add", dense({2, 3}), dense({2, 4})));
    FAIL("must throw");
  } catch (const shape_error& e) {
    const std::string text = e.what();
    CHECK(text.find("[2, 3]") != std::string::npos);
    CHECK(text.find("[2, 4]") != std::string::npos);
    CHECK(text.find("add") != std::string::npos);
    CHECK(e.left == shape{2, 3});
    CHECK(std::string(e.where().file_name()).find("spec.hpp") != std::string::npos);
  }
}

TEST_CASE("core/view: at() finds the element of a broadcast, whatever its strides") {
  const std::vector<float> memory{0, 1, 2, 3, 4, 5};
  const tensor_spec rows = dense({2, 3});
  tensor_spec turned = rows;  // [3, 2]
  std::swap(turned.extent[0], turned.extent[1]);
  std::swap(turned.stride[0], turned.stride[1]);
  const tensor_spec column = dense({2, 1});
  const tensor_spec row = dense({3});
  const tensor_spec one = dense({});
  const auto of = [&](const tensor_spec& s) { return view<const float>{memory.data(), &s}; };
  for (std::int64_t i = 0; i < 6; ++i) {
    CHECK(of(rows).at(i) == static_cast<float>(i));
    CHECK(of(turned).at(i) == static_cast<float>(i % 2 * 3 + i / 2));
    CHECK(of(column).at(i, of(rows)) == static_cast<float>(i / 3));
    CHECK(of(row).at(i, of(rows)) == static_cast<float>(i % 3));
    CHECK(of(one).at(i, of(rows)) == 0.0F);
  }
}

TEST_CASE("core/spec: broadcasting aligns from the back") {
  CHECK(shape(broadcast("op", dense({5, 1, 4}), dense({3, 1})).shape()) == shape{5, 3, 4});
  CHECK(shape(broadcast("op", dense({}), dense({2})).shape()) == shape{2});
  CHECK(shape(broadcast("op", dense({0}), dense({1})).shape()) == shape{0});
  CHECK_THROWS_AS(static_cast<void>(broadcast("op", dense({0}), dense({2}))), shape_error);
}

TEST_CASE("core/geometry: slice takes what Python takes") {
  const auto s = dense({10, 3});
  CHECK(elements(geometry::slice(s, 0, 2, 7, 2)) ==
        std::vector<std::int64_t>{6, 7, 8, 12, 13, 14, 18, 19, 20});
  CHECK(geometry::slice(s, 0, -3, 100)[0] == 3);
  CHECK(geometry::slice(s, 0, 5, 2)[0] == 0);
  CHECK(elements(geometry::slice(s, -1, 1, 2)).front() == 1);
  CHECK_THROWS_AS(static_cast<void>(geometry::slice(s, 2, 0, 1)), argument_error);
  CHECK_THROWS_AS(static_cast<void>(geometry::slice(s, 0, 0, 1, 0)), argument_error);
  CHECK_THROWS_AS(static_cast<void>(geometry::narrow(s, 0, 8, 3)), argument_error);
}

TEST_CASE("core/geometry: select, permute, transpose, squeeze and unsqueeze keep the elements") {
  const auto s = dense({2, 3, 4});
  CHECK(elements(geometry::select(s, 1, -1)) ==
        std::vector<std::int64_t>{8, 9, 10, 11, 20, 21, 22, 23});
  const auto p = geometry::permute(s, {2, 0, 1});
  CHECK(shape(p.shape()) == shape{4, 2, 3});
  CHECK(elements(p)[1] == 4);
  CHECK(geometry::permute(p, {1, 2, 0}) == s);
  CHECK(geometry::transpose(geometry::transpose(s, 0, 2), -1, 0) == s);
  CHECK(elements(geometry::squeeze(geometry::unsqueeze(s, 1), 1)) == elements(s));
  CHECK(shape(geometry::unsqueeze(s, -1).shape()) == shape{2, 3, 4, 1});
  CHECK_THROWS_AS(static_cast<void>(geometry::permute(s, {0, 0, 1})), shape_error);
  CHECK_THROWS_AS(static_cast<void>(geometry::squeeze(s, 0)), argument_error);
}

TEST_CASE("core/geometry: expand repeats extents of 1 with stride 0") {
  const auto e = geometry::expand(dense({3, 1}), {2, -1, 4});
  CHECK(shape(e.shape()) == shape{2, 3, 4});
  CHECK(elements(e)[4] == 1);
  CHECK(geometry::repeats_elements(e));
  CHECK_THROWS_AS(static_cast<void>(geometry::expand(dense({3}), {4})), shape_error);
}

TEST_CASE("core/geometry: a reshape is a view exactly where the elements' order allows it") {
  const auto s = dense({4, 6});
  CHECK(shape(geometry::try_reshape(s, {2, -1, 3})->shape()) == shape{2, 4, 3});
  CHECK_FALSE(geometry::try_reshape(geometry::transpose(s, 0, 1), {24}).has_value());
  CHECK_THROWS_AS(static_cast<void>(geometry::try_reshape(s, {5, -1})), shape_error);
  CHECK_THROWS_AS(static_cast<void>(geometry::try_reshape(s, {-1, -1})), shape_error);
  // Every way to cut every view: where there is an answer it must list the same elements.
  const std::vector<tensor_spec> views{s,
                                       geometry::slice(s, 0, 0, 4, 2),
                                       geometry::slice(s, 1, 1, 5),
                                       geometry::transpose(s, 0, 1),
                                       geometry::expand(geometry::unsqueeze(s, 0), {3, 4, 6}),
                                       geometry::unsqueeze(s, 1),
                                       geometry::permute(dense({2, 3, 4}), {1, 0, 2}),
                                       geometry::select(dense({3, 4, 2}), 2, 1),
                                       dense({1, 1}),
                                       dense({0, 3})};
  int answers = 0;
  for (const tensor_spec& v : views) {
    for (std::int64_t a = 1; a <= 24; ++a) {
      for (std::int64_t b = 1; a * b <= 24; ++b) {
        if (v.size % (a * b) != 0 || v.size == 0) {
          continue;
        }
        if (const auto r = geometry::try_reshape(v, {a, b, -1})) {
          ++answers;
          CHECK(elements(*r) == elements(v));
          CHECK(r->contiguous == is_dense(*r));
        }
      }
    }
  }
  CHECK(answers > 100);
}

TEST_CASE("core/geometry: overlap is found by address ranges") {
  const auto s = dense({10});
  CHECK(geometry::may_overlap(geometry::slice(s, 0, 0, 5), geometry::slice(s, 0, 4, 6)));
  CHECK_FALSE(geometry::may_overlap(geometry::slice(s, 0, 0, 5), geometry::slice(s, 0, 5, 6)));
  CHECK_FALSE(geometry::may_overlap(s, geometry::slice(s, 0, 3, 3)));
}
