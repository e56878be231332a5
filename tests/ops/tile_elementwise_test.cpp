// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;
namespace ops = ashlar::ops;

namespace {

template <class T>
using plain = twins::plain<T>;

/// Shapes that broadcast to one another: none and one of everything, primes, one under and over a
/// block of any size, axes that merge and axes that do not, more axes than a program has.
const std::vector<std::pair<al::shape, al::shape>> pairs{{{}, {}},
                                                         {{0}, {0}},
                                                         {{1}, {}},
                                                         {{63}, {63}},
                                                         {{65}, {1}},
                                                         {{1025}, {1025}},
                                                         {{3, 1}, {1, 5}},
                                                         {{2, 0, 3}, {3}},
                                                         {{2, 3, 17}, {3, 1}},
                                                         {{2, 3, 2, 1, 5}, {3, 1, 4, 5}},
                                                         {{2, 1, 3, 1, 2, 7}, {2, 2, 3, 2, 2, 1}}};

/// What an operator's function gives for numbers, as its result's type.
template <class R, class F, class... T>
R twin(const F& f, T... x) {
  return static_cast<R>(f(static_cast<al::compute_type<T>>(x)...));
}

/// Integers and comparisons exactly, floating types to the bit: the interpreter computes with the
/// C library's functions in the same order.
template <class Op, class T, class F = typename Op::function, class... A>
void check_unary(A... attributes) {
  const F f{attributes...};
  const al::op_function<Op> op;
  for (const auto& [s, other] : pairs) {
    const auto x = twins::numbers<plain<T>>(s, 1);
    const auto y = op(moved(x), attributes...);
    using R = typename decltype(y)::value_type;
    twins::check_elements(y, [&](std::int64_t i) { return twin<R>(f, twins::at(x, i)); });
    twins::check_same(op(moved(twins::scattered(x)), attributes...), y);
    auto given = moved(twins::scattered(twins::numbers<plain<R>>(s, 2)));
    op.out(given, moved(x), attributes...);
    twins::check_same(given, y);
    if constexpr (std::is_same_v<R, T>) {
      auto self = moved(twins::scattered(x));
      op.in_place(self, attributes...);
      twins::check_same(self, y);
    }
  }
}

template <class Op, class T, class U = T, class F = typename Op::function>
void check_binary() {
  const F f{};
  const al::op_function<Op> op;
  using S = al::scalar_of<al::promote(al::dtype_of<T>, al::dtype_of<U>)>;
  for (const auto& [sa, sb] : pairs) {
    const auto a = twins::numbers<plain<T>>(sa, 1);
    auto b = twins::numbers<plain<U>>(sb, 2);
    for (std::int64_t i = 0; i < b.size() && i < a.size(); i += 3) {  // some are equal
      b.data()[i] = static_cast<U>(static_cast<al::compute_type<U>>(a.data()[i]));
    }
    const auto y = op(moved(a), moved(b));
    using R = typename decltype(y)::value_type;
    twins::check_elements(y, [&](std::int64_t i) {
      return twin<R>(f,
                     static_cast<S>(static_cast<al::compute_type<S>>(twins::at(a, y.shape(), i))),
                     static_cast<S>(static_cast<al::compute_type<S>>(twins::at(b, y.shape(), i))));
    });
    twins::check_same(op(moved(twins::scattered(a)), moved(b)), y);
    twins::check_same(op(moved(a), moved(twins::scattered(b))), y);
    auto given = moved(twins::scattered(twins::numbers<plain<R>>(al::shape(y.shape()), 2)));
    op.out(given, moved(a), moved(b));
    twins::check_same(given, y);
    if constexpr (std::is_same_v<R, T>) {
      if (al::same_shape(y.spec(), a.spec())) {
        auto self = moved(twins::scattered(a));
        op.in_place(self, moved(b));
        twins::check_same(self, y);
      }
    }
  }
}

template <class T>
void check_arithmetic() {
  check_binary<ops::add, T>();
  check_binary<ops::sub, T>();
  check_binary<ops::mul, T>();
  check_binary<ops::div, T>();
  check_binary<ops::maximum, T>();
  check_binary<ops::minimum, T>();
  check_unary<ops::neg, T>();
  check_unary<ops::abs, T>();
  check_unary<ops::sign, T>();
  check_unary<ops::square, T>();
  check_unary<ops::relu, T>();
  check_unary<ops::scale, T>(3.0, -2.0);
}

template <class T>
void check_comparisons() {
  check_binary<ops::eq, T>();
  check_binary<ops::ne, T>();
  check_binary<ops::lt, T>();
  check_binary<ops::le, T>();
  check_binary<ops::gt, T>();
  check_binary<ops::ge, T>();
  check_unary<ops::logical_not, T>();
}

}  // namespace

TEST_CASE_TEMPLATE("ops/tile_elementwise: arithmetic of floating types", T, float, double,
                   al::bfloat16) {
  check_arithmetic<T>();
}

TEST_CASE_TEMPLATE("ops/tile_elementwise: arithmetic of integers wraps and divides as numbers do",
                   T, std::int64_t, std::int8_t, std::uint8_t) {
  check_arithmetic<T>();
}

TEST_CASE("ops/tile_elementwise: arithmetic of booleans is that of 0 and 1") {
  check_arithmetic<bool>();
}

TEST_CASE_TEMPLATE("ops/tile_elementwise: comparisons", T, float, std::int64_t, std::uint8_t,
                   bool) {
  check_comparisons<T>();
}

namespace {

/// A function of floating numbers: the bits of the same steps one by one, and within `steps`
/// roundings of the double result, of values that are at most `size` on the way.
template <class Op, class F = typename Op::function, class Prepare, class... A>
void check_function(double steps, double size, const Prepare& prepare, A... attributes) {
  const F f{attributes...};
  const al::op_function<Op> op;
  check_unary<Op, float>(attributes...);
  for (const std::int64_t n : {0, 1, 67, 1031}) {
    const auto x = prepare(twins::numbers<plain<float>>({n}, 3));
    const auto exact = [&](std::int64_t i) { return f(double{twins::at(x, i)}); };
    twins::check_elements(op(moved(x), attributes...), exact, 0x1p-23, steps * 0x1p-24 * size);
    // The host's functions are vectors of their own.
    twins::check_elements(op(x, attributes...), exact, 0x1p-23, steps * 0x1p-24 * size);
  }
  const auto narrow = al::cast<al::bfloat16>(prepare(twins::numbers<plain<float>>({67}, 3)));
  twins::check_elements(op(moved(narrow), attributes...), [&](std::int64_t i) {
    return twin<al::bfloat16>(f, twins::at(narrow, i));
  });
}

template <class Op, class F = typename Op::function>
void check_function_of_two(double steps, double size) {
  const F f{};
  const al::op_function<Op> op;
  check_binary<Op, float>();
  check_binary<Op, al::float16>();
  for (const std::int64_t n : {1, 67}) {
    const auto x = twins::numbers<plain<float>>({n}, 3);
    const auto g = twins::numbers<plain<float>>({n}, 4);
    const auto exact = [&](std::int64_t i) {
      return f(double{twins::at(x, i)}, double{twins::at(g, i)});
    };
    twins::check_elements(op(moved(x), moved(g)), exact, 0x1p-23, steps * 0x1p-24 * size);
    twins::check_elements(op(x, g), exact, 0x1p-23, steps * 0x1p-24 * size);
  }
}

const auto as_is = [](const plain<float>& x) { return x; };
const auto positive = [](const plain<float>& x) {
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = std::abs(x.data()[i]) + 0.125F;
  }
  return x;
};

}  // namespace

// Steps: an operation is one, a function two places; sizes: inputs are within 2.
TEST_CASE("ops/tile_elementwise: functions of one variable") {
  check_function<ops::exp>(2, 8, as_is);
  check_function<ops::log>(2, 3, positive);
  check_function<ops::sqrt>(1, 2, positive);
  check_function<ops::rsqrt>(2, 3, positive);
  check_function<ops::tanh>(2, 1, as_is);
  check_function<ops::sigmoid>(4, 8, as_is);
  check_function<ops::silu>(4, 8, as_is);
  check_function<ops::gelu>(6, 4, as_is);
  check_function<ops::gelu_tanh>(10, 4, as_is);
  check_function<ops::pow>(5, 32, as_is, 5.0);
  check_function<ops::pow>(4, 1 << 12, positive, -4.0);
  check_function<ops::pow>(2, 2, positive, 0.5);
  // The logarithm's error counts times the result and the exponent.
  check_function<ops::pow>(6, 1.7 * 3 * 4, positive, 1.7);
}

TEST_CASE("ops/tile_elementwise: functions of two variables") {
  check_function_of_two<ops::tanh_backward>(4, 10);
  check_function_of_two<ops::sigmoid_backward>(4, 12);
  check_function_of_two<ops::relu_backward>(0, 0);
  check_function_of_two<ops::silu_backward>(8, 12);
  check_function_of_two<ops::swiglu>(5, 16);
  check_function_of_two<ops::gelu_backward>(10, 8);
  check_function_of_two<ops::gelu_tanh_backward>(16, 8);
}

TEST_CASE("ops/tile_elementwise: NaN, infinities and signed zeros go the way of the host") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::array values{NAN, inf, -inf, 0.0F, -0.0F, 1.0F, -1.0F, 1e-42F};
  const auto n = static_cast<std::int64_t>(values.size());
  const auto x = al::from_values<plain<float>>({n, 1}, values);
  const auto y = al::from_values<plain<float>>({n}, values);
  const auto check = [&](const auto& op) { check_both(exact, op, x, y); };
  check([](const auto& a, const auto& b) { return al::add(a, b); });
  check([](const auto& a, const auto& b) { return al::mul(a, b); });
  check([](const auto& a, const auto& b) { return al::div(a, b); });
  check([](const auto& a, const auto& b) { return al::maximum(a, b); });
  check([](const auto& a, const auto& b) { return al::minimum(a, b); });
  check([](const auto& a, const auto& b) { return al::eq(a, b); });
  check([](const auto& a, const auto& b) { return al::ne(a, b); });
  check([](const auto& a, const auto& b) { return al::le(a, b); });
  check([](const auto& a, const auto&) { return al::sign(a); });
  check([](const auto& a, const auto&) { return al::relu(a); });
  check([](const auto& a, const auto&) { return al::logical_not(a); });
  check([](const auto& a, const auto&) { return al::cast<std::int32_t>(a); });
  check([](const auto& a, const auto&) { return al::cast<bool>(a); });
}

TEST_CASE("ops/tile_elementwise: the wider type wins") {
  check_binary<ops::add, std::int32_t, float>();
  check_binary<ops::mul, std::uint8_t, std::int8_t>();
  check_binary<ops::lt, al::float16, al::bfloat16>();
  check_binary<ops::sub, bool, std::int64_t>();
}

TEST_CASE_TEMPLATE("ops/tile_elementwise: where, with all three broadcast", T, float, al::bfloat16,
                   std::int64_t, bool) {
  const auto choose = [](const auto& c, const auto& a, const auto& b) {
    return al::where(c, a, b);
  };
  for (const std::int64_t n : {0, 1, 65}) {
    const auto c = twins::numbers<plain<bool>>({3, 1, n}, 1);
    const auto a = twins::numbers<plain<T>>({2, 1}, 2);
    const auto b = twins::numbers<plain<T>>({n}, 3);
    check_both(exact, choose, c, a, b);
  }
}

namespace {

template <class From, class To>
void check_cast() {
  auto x = twins::numbers<plain<From>>({3, 43}, 1);
  if constexpr (al::Floating<From>) {  // what does not fit is clamped
    using C = al::compute_type<From>;
    x.data()[0] = static_cast<From>(C(1e9F));
    x.data()[1] = static_cast<From>(C(-1e9F));
    x.data()[2] = static_cast<From>(C(NAN));
    x.data()[3] = static_cast<From>(C(-0.75F));
  }
  const auto want = [&](std::int64_t i) {
    return al::chip::host_kernels::convert<To>(twins::at(x, i));
  };
  twins::check_elements(al::cast<To>(moved(x)), want);
  twins::check_elements(al::cast<To>(moved(twins::scattered(x))), want);
}

/// Into elements that lie apart, with broadcasting.
template <class From, class To>
void check_copy() {
  const auto x = twins::numbers<plain<From>>({3, 43}, 1);
  auto to = moved(twins::scattered(twins::numbers<plain<To>>({2, 3, 43}, 2)));
  al::copy.in_place(to, moved(twins::scattered(x)));
  twins::check_elements(to, [&](std::int64_t i) {
    return al::chip::host_kernels::convert<To>(twins::at(x, i % x.size()));
  });
}

}  // namespace

TEST_CASE_TEMPLATE("ops/tile_elementwise: cast and copy between all types", T, float, double,
                   al::bfloat16, al::float16, std::int64_t, std::int32_t, std::int8_t, std::uint8_t,
                   bool) {
  check_cast<T, float>();
  check_cast<T, std::int64_t>();
  check_cast<T, bool>();
  check_cast<float, T>();
  check_cast<std::int32_t, T>();
  check_copy<T, float>();
  check_copy<std::int32_t, T>();
}

TEST_CASE_TEMPLATE("ops/tile_elementwise: clone and fill", T, float, al::bfloat16, std::int32_t,
                   bool) {
  for (const auto& [s, other] : pairs) {
    const auto x = twins::numbers<plain<T>>(s, 1);
    check_both(
        exact, [](const auto& v) { return al::clone(v); }, x);
    for (const double value : {2.75, -1.0, 1e12}) {
      check_both(
          exact, [&](const auto& v) { return al::fill(v, value); }, x);
    }
    auto apart = moved(twins::scattered(x));
    al::fill.in_place(apart, 1.0);
    twins::check_elements(apart, [](std::int64_t) { return T(1.0F); });
  }
}
