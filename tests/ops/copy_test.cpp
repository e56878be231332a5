// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/copy.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "ashlar/ops/cat.hpp"
#include "ops/twins.hpp"

using namespace twins;

TEST_CASE("ops/copy: cast converts every type to every other") {
  const auto x = al::from_values<plain<float>>({6}, {0.0f, 1.5f, -2.5f, 300.0f, 1e20f, NAN});
  check_elements(al::cast<std::int32_t>(x), [](std::int64_t i) {
    constexpr int most = std::numeric_limits<std::int32_t>::max();
    return std::vector<int>{0, 1, -2, 300, most, 0}[static_cast<std::size_t>(i)];
  });
  check_elements(al::cast<bool>(x), [](std::int64_t i) { return i != 0; });
  check_elements(al::cast<std::uint8_t>(x), [](std::int64_t i) {
    return std::vector<int>{0, 1, 0, 255, 255, 0}[static_cast<std::size_t>(i)];
  });
  const auto n = numbers<plain<std::int64_t>>({2, 3, 5}, 1);
  check_elements(al::cast<double>(scattered(n)), [&](std::int64_t i) { return at(n, i); });
  check_elements(al::cast<al::bfloat16>(n),
                 [&](std::int64_t i) { return al::bfloat16(static_cast<float>(at(n, i))); });
  const auto half = al::cast<al::float16>(x);
  check_elements(al::cast<float>(half),
                 [&](std::int64_t i) { return static_cast<float>(al::float16(at(x, i))); });
  check_meta(half, al::cast<al::float16>(ghost_of(x)));
}

TEST_CASE("ops/copy: a cast to the same type, and clone, are copies") {
  const auto x = scattered(numbers<plain<float>>({3, 4}, 1));
  for (const auto& y : {al::cast<float>(x), al::clone(x)}) {
    CHECK(y.contiguous());
    CHECK(&y.body()->root() != &x.body()->root());
    check_same(y, x);
  }
  check_meta(al::clone(x), al::clone(ghost_of(x)));
}

TEST_CASE("ops/copy: copy writes with broadcasting and conversion") {
  auto x = al::zeros<plain<float>>({2, 3});
  const auto row = al::from_values<plain<std::int32_t>>({3}, {1, 2, 3});
  al::copy.in_place(x, row);
  check_elements(x, [](std::int64_t i) { return static_cast<float>(i % 3 + 1); });
  auto spread = scattered(x);
  al::copy.in_place(spread, al::zeros<plain<double>>({}));
  check_elements(spread, [](std::int64_t) { return 0.0f; });
  check_elements(al::copy(x, al::ones<plain<float>>({1, 3})), [](std::int64_t) { return 1.0f; });
  CHECK_THROWS_AS(al::copy.in_place(x, al::zeros<plain<float>>({2})), al::shape_error);
  CHECK_THROWS_AS(al::copy.in_place(x, al::zeros<plain<float>>({4, 2, 3})), al::shape_error);
}

TEST_CASE("ops/copy: contiguous gives back what stands in order") {
  const auto x = numbers<plain<float>>({3, 4}, 1);
  CHECK(al::contiguous(x).body() == x.body());
  CHECK(al::contiguous(al::narrow(x, 0, 1, 2)).body()->base);
  const auto turned = al::transpose(x);
  CHECK(al::contiguous(turned).contiguous());
  check_same(al::contiguous(turned), turned);
}

TEST_CASE("ops/cat: tensors stand one after the other") {
  for (const std::int64_t axis : {0, 1, 2, -1}) {
    const auto part = [&](std::int64_t extent, int salt) {
      al::shape s{2, 3, 4};
      s[static_cast<int>(axis < 0 ? axis + 3 : axis)] = extent;
      return numbers<plain<float>>(s, salt);
    };
    const auto a = part(1, 1);
    const auto b = part(0, 2);
    const auto c = part(5, 3);
    const auto y = al::cat(a, scattered(b), scattered(c), axis);
    check_same(al::narrow(y, axis, 0, 1), a);
    check_same(al::narrow(y, axis, 1, 5), c);
    check_meta(y, al::cat(ghost_of(a), ghost_of(b), ghost_of(c), axis));
    auto given = scattered(al::zeros<plain<float>>(al::shape(y.shape())));
    al::cat.out(given, a, b, c, axis);
    check_same(given, y);
  }
}

TEST_CASE("ops/cat: any number of tensors, in any types") {
  for (const std::size_t count : {1u, 2u, 3u, 4u, 5u, 17u, 40u}) {
    std::vector<plain<float>> parts;
    for (std::size_t i = 0; i < count; ++i) {
      parts.push_back(
          al::full<plain<float>>({2, static_cast<std::int64_t>(i % 3)}, static_cast<double>(i)));
    }
    const auto y = al::cat(parts, 1);
    std::int64_t at_column = 0;
    for (std::size_t i = 0; i < count; ++i) {
      check_same(al::narrow(y, 1, at_column, static_cast<std::int64_t>(i % 3)), parts[i]);
      at_column += static_cast<std::int64_t>(i % 3);
    }
    CHECK(y.extent(1) == at_column);
  }
  const auto mixed = al::cat(al::ones<plain<std::int32_t>>({1}), al::ones<plain<double>>({2}), 0);
  static_assert(std::is_same_v<decltype(mixed)::value_type, double>);
  check_elements(mixed, [](std::int64_t) { return 1.0; });
}

TEST_CASE("ops/cat: what does not fit is refused") {
  const auto a = al::zeros<plain<float>>({2, 3});
  CHECK_THROWS_AS(al::cat(a, al::zeros<plain<float>>({2, 4}), 0), al::shape_error);
  CHECK_THROWS_AS(al::cat(a, al::zeros<plain<float>>({2}), 0), al::shape_error);
  CHECK_THROWS_AS(al::cat(a, a, 2), al::argument_error);
  CHECK_THROWS_AS(al::cat(std::vector<plain<float>>{}, 0), al::argument_error);
}
