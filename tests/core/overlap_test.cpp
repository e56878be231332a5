// SPDX-License-Identifier: Apache-2.0
#include "ashlar/core/overlap.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <set>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"

using ashlar::dtype;
using ashlar::tensor_spec;
namespace geometry = ashlar::geometry;

namespace {

/// Every place that a spec leads to, with repetitions.
std::multiset<std::int64_t> places(const tensor_spec& s) {
  std::multiset<std::int64_t> all;
  for (std::int64_t i = 0; i < s.size; ++i) {
    std::int64_t at = s.offset;
    std::int64_t rest = i;
    for (int a = s.rank - 1; a >= 0; --a) {
      at += rest % s[a] * s.stride_of(a);
      rest /= s[a];
    }
    all.insert(at);
  }
  return all;
}

template <class Random>
tensor_spec random_spec(Random& random) {
  const auto below = [&](unsigned n) { return static_cast<std::int64_t>(random() % n); };
  tensor_spec s = ashlar::contiguous_spec(dtype::float32, {});
  s.rank = static_cast<std::uint8_t>(below(4));
  for (std::size_t a = 0; a < s.rank; ++a) {
    s.extent[a] = below(5);
    s.stride[a] = below(13);
  }
  s.offset = below(20);
  return geometry::finished(s);
}

}  // namespace

TEST_CASE("core/overlap: the answers are those of listing every element") {
  std::mt19937 random(7);  // what it draws is the same everywhere
  int meet = 0;
  int repeat = 0;
  for (int n = 0; n < 4000; ++n) {
    const tensor_spec a = random_spec(random);
    const tensor_spec b = random_spec(random);
    const auto in_a = places(a);
    const auto in_b = places(b);
    bool common = false;
    bool twice = false;
    for (const std::int64_t at : in_a) {
      common = common || in_b.contains(at);
      twice = twice || in_a.count(at) > 1;
    }
    CHECK(geometry::may_overlap(a, b) == common);
    CHECK(geometry::repeats_elements(a) == twice);
    meet += common ? 1 : 0;
    repeat += twice ? 1 : 0;
  }
  CHECK(meet > 400);
  CHECK(repeat > 400);
}

TEST_CASE("core/overlap: parts of one tensor that lie between each other are apart") {
  const tensor_spec whole = ashlar::contiguous_spec(dtype::float32, ashlar::shape{64, 48}.span());
  const auto left = geometry::slice(whole, 1, 0, 24);
  const auto right = geometry::slice(whole, 1, 24, 48);
  CHECK_FALSE(geometry::may_overlap(left, right));
  CHECK_FALSE(geometry::may_overlap(geometry::slice(whole, 1, 0, 48, 2),
                                    geometry::slice(whole, 1, 1, 48, 2)));
  CHECK(geometry::may_overlap(geometry::slice(whole, 1, 0, 25), right));
  CHECK_FALSE(geometry::repeats_elements(geometry::transpose(left, 0, 1)));
}
