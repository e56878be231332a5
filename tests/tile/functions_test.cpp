// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/functions.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace fn = ashlar::tile::fn;

namespace {

/// A value type of somebody else's, with nothing but what the header asks for.
namespace other {
struct number {
  double value;
};
number operator+(number a, number b) { return {a.value + b.value}; }
number operator-(number a, number b) { return {a.value - b.value}; }
number operator*(number a, number b) { return {a.value * b.value}; }
number operator/(number a, number b) { return {a.value / b.value}; }
number operator-(number a) { return {-a.value}; }
bool operator<(number a, number b) { return a.value < b.value; }
bool operator>(number a, number b) { return a.value > b.value; }
bool operator<=(number a, number b) { return a.value <= b.value; }
bool operator!=(number a, number b) { return a.value != b.value; }
number exp(number a) { return {std::exp(a.value)}; }
number erf(number a) { return {std::erf(a.value)}; }
number tanh(number a) { return {std::tanh(a.value)}; }
number select(bool m, number a, number b) { return m ? a : b; }
number constant_like(const number&, double c) { return {c}; }
}  // namespace other

/// Whether `gradient(x or y, 2)` is twice the slope of `f`, by central differences in double.
template <class F, class Gradient>
bool is_slope(F f, Gradient gradient, bool from_output) {
  bool right = true;
  for (double x = -4.03; x < 4.0; x += 0.21) {
    const double h = 1e-5;
    const double slope = (f(x + h) - f(x - h)) / (2 * h);
    const double found = gradient(from_output ? f(x) : x, 2.0);
    // The difference quotient is right to h^2 and to 2^-52 / h.
    right = right && std::abs(found - 2.0 * slope) < 1e-8;
  }
  return right;
}

}  // namespace

TEST_CASE("tile/functions: gradients are the slopes of their functions") {
  CHECK(is_slope(fn::sigmoid{}, fn::sigmoid_grad{}, true));
  CHECK(is_slope(fn::tanh{}, fn::tanh_grad{}, true));
  CHECK(is_slope(fn::relu{}, fn::relu_grad{}, true));
  CHECK(is_slope(fn::silu{}, fn::silu_grad{}, false));
  CHECK(is_slope(fn::gelu{}, fn::gelu_grad{}, false));
  CHECK(is_slope(fn::gelu_tanh{}, fn::gelu_tanh_grad{}, false));
}

TEST_CASE("tile/functions: any value type with its functions beside it will do") {
  const other::number x{0.7};
  CHECK(fn::gelu{}(x).value == fn::gelu{}(0.7));
  CHECK(fn::gelu_grad{}(x, x).value == fn::gelu_grad{}(0.7, 0.7));
  CHECK(fn::gelu_tanh{}(x).value == fn::gelu_tanh{}(0.7));
  CHECK(fn::silu_grad{}(x, x).value == fn::silu_grad{}(0.7, 0.7));
  CHECK(fn::maximum{}(x, other::number{2.0}).value == 2.0);
  CHECK(fn::relu{}(-x).value == 0.0);
  CHECK(fn::relu_grad{}(x, x).value == 0.7);
  CHECK(fn::affine{2.0, 1.0}(x).value == 2.4);
}

TEST_CASE("tile/functions: NaN passes maximum, minimum and relu") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(fn::maximum{}(nan, 1.0)));
  CHECK(std::isnan(fn::maximum{}(1.0, nan)));
  CHECK(std::isnan(fn::minimum{}(nan, 1.0)));
  CHECK(std::isnan(fn::minimum{}(1.0, nan)));
  CHECK(std::isnan(fn::relu{}(nan)));
  CHECK(std::isnan(fn::relu_grad{}(1.0, nan)));
  CHECK(!fn::equal{}(nan, nan));
  CHECK(fn::not_equal{}(nan, nan));
  CHECK(!fn::greater_equal{}(nan, nan));
}

TEST_CASE("tile/functions: integers wrap, divide towards zero and never trap") {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  constexpr auto least = std::numeric_limits<std::int64_t>::min();
  static_assert(fn::add{}(most, std::int64_t{1}) == least);
  static_assert(fn::neg{}(least) == least);
  static_assert(fn::mul{}(least, std::int64_t{-1}) == least);
  static_assert(fn::div{}(least, std::int64_t{-1}) == least);
  static_assert(fn::div{}(std::int64_t{-7}, std::int64_t{2}) == -3);
  static_assert(fn::div{}(std::int64_t{7}, std::int64_t{0}) == 0);
  static_assert(fn::add{}(std::uint8_t{250}, std::uint8_t{10}) == 4);
  static_assert(fn::square{}(std::int8_t{100}) == 16);
  static_assert(fn::add{}(true, true));
  static_assert(!fn::mul{}(true, false));
  CHECK(fn::abs{}(std::int8_t{-128}) == -128);
  CHECK(fn::scale{3.0}(std::int32_t{5}) == 15);
}
