// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/comparison.hpp"

#include <cmath>
#include <functional>

#include "ashlar/ops/arithmetic.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

template <class T, class F, class Twin>
void check(const F& f, const Twin& twin) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3, 17}}) {
    const auto a = numbers<plain<T>>(s, 1);
    auto b = numbers<plain<T>>(s, 2);
    for (std::int64_t i = 0; i < b.size(); i += 3) {
      b.data()[i] = a.data()[i];
    }
    const plain<bool> y = f(a, b);
    check_elements(y, [&](std::int64_t i) { return twin(at(a, i), at(b, i)); });
    check_same(f(scattered(a), b), y);
    check_output(f, a, b);
  }
}

template <class F, class Twin>
void check_types(const F& f, const Twin& twin) {
  check<float>(f, twin);
  check<std::int64_t>(f, twin);
}

}  // namespace

TEST_CASE("ops/comparison: comparisons equal those of numbers") {
  check_types(al::eq, std::equal_to<>{});
  check_types(al::ne, std::not_equal_to<>{});
  check_types(al::lt, std::less<>{});
  check_types(al::le, std::less_equal<>{});
  check_types(al::gt, std::greater<>{});
  check_types(al::ge, std::greater_equal<>{});
}

TEST_CASE("ops/comparison: NaN is unequal to everything and promotion comes first") {
  const auto x = al::from_values<plain<float>>({2}, {NAN, 1.0f});
  check_elements(al::eq(x, x), [](std::int64_t i) { return i == 1; });
  check_elements(al::ne(x, x), [](std::int64_t i) { return i == 0; });
  check_elements(al::le(x, x), [](std::int64_t i) { return i == 1; });
  const auto n = al::from_values<plain<std::int32_t>>({}, {1});
  check_elements(al::ge(x, n), [](std::int64_t i) { return i == 1; });
}

TEST_CASE("ops/comparison: where chooses, with all three broadcast") {
  const auto c = al::gt(numbers<plain<float>>({5, 1}, 1), numbers<plain<float>>({}, 4));
  const auto a = numbers<plain<float>>({1, 19}, 2);
  const auto b = numbers<plain<double>>({2, 1, 1}, 3);
  const auto y = al::where(c, a, b);
  static_assert(std::is_same_v<decltype(y)::value_type, double>);
  REQUIRE(al::shape(y.shape()) == al::shape{2, 5, 19});
  check_elements(y, [&](std::int64_t i) {
    return at(c, y.shape(), i) ? double{at(a, y.shape(), i)} : at(b, y.shape(), i);
  });
  check_same(al::where(scattered(c), scattered(a), scattered(b)), y);
  check_meta(y, al::where(ghost_of(c), ghost_of(a), ghost_of(b)));
  const auto n = numbers<plain<std::int32_t>>({5, 3}, 2);
  check_elements(al::where(c, n, al::neg(n)),
                 [&](std::int64_t i) { return at(c, n.shape(), i) ? at(n, i) : -at(n, i); });
  CHECK_THROWS_AS(al::where(c, al::zeros<plain<float>>({4, 3}), a), al::shape_error);
}

TEST_CASE("ops/comparison: logical_not tells what is zero") {
  const auto x = al::from_values<plain<float>>({3}, {0.0f, -0.0f, 2.0f});
  check_elements(al::logical_not(x), [](std::int64_t i) { return i < 2; });
  const auto b = al::logical_not(al::logical_not(x));
  check_elements(al::logical_not(b), [](std::int64_t i) { return i < 2; });
  CHECK(al::logical_not(al::zeros<plain<std::int8_t>>({0})).size() == 0);
}
