// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv/precision.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace kv = ashlar::kv;

static_assert(kv::Precision<kv::as<float>> && kv::Precision<kv::as<ashlar::float16>> &&
              kv::Precision<kv::as<ashlar::float8_e4m3, 500>> && kv::Precision<kv::int8_per_head>);
static_assert(kv::as<ashlar::bfloat16>::bytes(64) == 128 && kv::int8_per_head::bytes(64) == 68);

namespace {

template <class P>
std::vector<float> through(const std::vector<float>& numbers) {
  std::vector<std::byte> kept(P::bytes(numbers.size()));
  P::write(numbers, kept);
  std::vector<float> back(numbers.size());
  P::read(kept, back);
  return back;
}

std::vector<float> head(std::size_t n, float scale) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> numbers(n);
  std::ranges::generate(numbers, [&] { return normal(random); });
  return numbers;
}

/// Rounding to the nearest is at most `relative` of a number away, or `absolute` near zero.
template <class P>
void check_rounds(double relative, double absolute) {
  for (const std::size_t n : {0U, 1U, 7U, 64U, 129U}) {
    const auto numbers = head(n, 3);
    const auto back = through<P>(numbers);
    for (std::size_t i = 0; i < n; ++i) {
      const double error = std::abs(double{back[i]} - double{numbers[i]});
      CHECK(error <= std::max(relative * std::abs(double{numbers[i]}), absolute));
    }
    CHECK(through<P>(back) == back);  // what is kept once is kept as it is
  }
}

}  // namespace

TEST_CASE("kv/precision: numbers come back within half a unit of their format") {
  check_rounds<kv::as<float>>(0, 0);
  check_rounds<kv::as<ashlar::float16>>(0x1p-11, 0x1p-25);
  check_rounds<kv::as<ashlar::bfloat16>>(0x1p-8, 0);
  check_rounds<kv::as<ashlar::float8_e4m3>>(0x1p-4, 0x1p-10);
  check_rounds<kv::as<ashlar::float8_e4m3, 4000>>(0x1p-4, 4 * 0x1p-10);
}

TEST_CASE("kv/precision: 8-bit floats are cut at their largest number, scaled where asked") {
  const float huge = std::numeric_limits<float>::infinity();
  const std::vector<float> numbers{500, -1e9F, huge, 440, 1};
  CHECK(through<kv::as<ashlar::float8_e4m3>>(numbers) ==
        std::vector<float>{448, -448, 448, 448, 1});
  CHECK(through<kv::as<ashlar::float8_e4m3, 2000>>(numbers) ==
        std::vector<float>{512, -896, 896, 448, 1});
  CHECK(through<kv::as<ashlar::float8_e5m2>>({1e6F})[0] == 57344);
  CHECK(std::isnan(through<kv::as<ashlar::float8_e4m3>>({std::nanf("")})[0]));
}

TEST_CASE("kv/precision: int8 has one scale per head, and equals its twin in double") {
  for (const std::size_t n : {0U, 1U, 7U, 64U, 129U}) {
    for (const float spread : {1e-3F, 1.0F, 1e4F}) {
      const auto numbers = head(n, spread);
      const auto back = through<kv::int8_per_head>(numbers);
      double largest = 0;
      for (const float x : numbers) {
        largest = std::max(largest, std::abs(double{x}));
      }
      for (std::size_t i = 0; i < n; ++i) {
        // Half a step, and 1e-6 of the largest: the scale, the quotient and the product are floats.
        const double error = std::abs(double{back[i]} - double{numbers[i]});
        CHECK(error <= largest / 127 / 2 + 1e-6 * largest);
      }
    }
  }
  CHECK(through<kv::int8_per_head>({-127, 63.5F, 62.5F, 1}) ==
        std::vector<float>{-127, 64, 62, 1});  // ties to even
  CHECK(through<kv::int8_per_head>({0, 0}) == std::vector<float>{0, 0});
  CHECK(through<kv::int8_per_head>({1e-44F})[0] <= 1e-43F);  // the scale underflows
  for (const float x : through<kv::int8_per_head>({1, std::numeric_limits<float>::infinity()})) {
    CHECK(std::isnan(x));
  }
}

TEST_CASE("kv/precision: bytes of a wrong number are refused with both numbers") {
  std::vector<std::byte> bytes(7);
  std::vector<float> numbers(4);
  try {
    kv::int8_per_head::write(numbers, bytes);
    FAIL("four numbers in seven bytes");
  } catch (const ashlar::argument_error& e) {
    CHECK(e.reason == "7 bytes are given; the numbers take 8");
  }
  CHECK_THROWS_AS(kv::int8_per_head::read(bytes, numbers), ashlar::argument_error);
  CHECK_THROWS_AS(kv::as<float>::write(numbers, bytes), ashlar::argument_error);
  CHECK_THROWS_AS(kv::as<float>::read(bytes, numbers), ashlar::argument_error);
}
