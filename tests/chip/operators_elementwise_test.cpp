// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using tile_test::exact;
using tile_test::tolerance;
template <class T>
using plain = twins::plain<T>;

struct shapes {
  al::shape a, b;
};
/// None, one, a prime, one over the block, axes that merge and that do not, five of them.
const std::array all_shapes{shapes{{0}, {0}}, shapes{{1}, {}}, shapes{{127}, {127}},
                            shapes{{2, 3, 17}, {3, 1}}, shapes{{2, 1, 2, 1, 5}, {3, 1, 4, 5}}};

template <class Op, class T = float, class... A>
void unary(const tolerance& allowed, double least, A... attributes) {
  for (const shapes& s : all_shapes) {
    auto x = twins::numbers<plain<T>>(s.a, 1);
    if constexpr (std::is_floating_point_v<T>) {
      for (std::int64_t i = 0; least > 0 && i < x.size(); ++i) {
        x.data()[i] = std::abs(x.data()[i]) + static_cast<T>(least);
      }
    }
    check<Op>(
        allowed, [&](const auto& v) { return al::call<Op>(v, attributes...); }, x);
  }
}

template <class Op, class T = float, class U = T>
void binary(const tolerance& allowed) {
  for (const shapes& s : all_shapes) {
    const auto a = twins::numbers<plain<T>>(s.a, 1);
    const auto b = twins::numbers<plain<U>>(s.b, 2);
    check<Op>(
        allowed, [](const auto& u, const auto& v) { return al::call<Op>(u, v); }, a, b);
  }
}

template <class... Op>
void comparisons() {
  (binary<Op>(exact), ...);
}

constexpr double any = 0;
constexpr double positive = 0.125;

}  // namespace

// Terms: an operation is one, a function two places. Magnitudes: inputs are within 2.
TEST_CASE("chip/operators: arithmetic is the same on every chip") {
  binary<ops::add>({1, 4});
  binary<ops::sub>({1, 4});
  binary<ops::mul>({1, 4});
  binary<ops::div>({1, 1});
  binary<ops::maximum>(exact);
  binary<ops::minimum>(exact);
  binary<ops::relu_backward>(exact);
  unary<ops::neg>(exact, any);
  unary<ops::abs>(exact, any);
  unary<ops::sign>(exact, any);
  unary<ops::square>({1, 4}, any);
  unary<ops::relu>(exact, any);
  unary<ops::scale>({2, 8}, any, 3.0, -2.0);
  comparisons<ops::eq, ops::ne, ops::lt, ops::le, ops::gt, ops::ge>();
  unary<ops::logical_not>(exact, any);
  replay::check_on_every_chip();
  replay::check_seen<ops::add, ops::sub, ops::mul, ops::div, ops::maximum, ops::minimum,
                     ops::relu_backward, ops::neg, ops::abs, ops::sign, ops::square, ops::relu,
                     ops::scale, ops::eq, ops::ne, ops::lt, ops::le, ops::gt, ops::ge,
                     ops::logical_not>();
}

TEST_CASE("chip/operators: arithmetic of other types is the same on every chip") {
  binary<ops::add, al::bfloat16>({1, 4});
  binary<ops::div, al::float16>({1, 4});
  binary<ops::mul, double>({1, 4});
  binary<ops::lt, al::bfloat16>(exact);
  binary<ops::sub, std::int32_t, float>({1, 64});
  binary<ops::mul, std::uint8_t, std::int8_t>(exact);
  binary<ops::div, std::int64_t>(exact);
  binary<ops::sub, std::int8_t>(exact);
  binary<ops::maximum, std::uint8_t>(exact);
  binary<ops::add, bool>(exact);
  binary<ops::mul, bool>(exact);
  binary<ops::gt, bool>(exact);
  unary<ops::sign, std::uint8_t>(exact, any);
  unary<ops::abs, std::int8_t>(exact, any);
  replay::check_on_every_chip();
}

TEST_CASE("chip/operators: functions and their gradients are near on every chip") {
  unary<ops::exp>({2, 8}, any);
  unary<ops::log>({2, 3}, positive);
  unary<ops::sqrt>({1, 2}, positive);
  unary<ops::rsqrt>({2, 3}, positive);
  unary<ops::tanh>({2, 1}, any);
  unary<ops::erf>({2, 1}, any);
  unary<ops::sigmoid>({4, 8}, any);
  unary<ops::silu>({4, 8}, any);
  unary<ops::gelu>({6, 4}, any);
  unary<ops::gelu_tanh>({10, 4}, any);
  unary<ops::pow>({5, 32}, any, 5.0);
  unary<ops::pow>({6, 1.7 * 3 * 4}, positive, 1.7);
  unary<ops::exp, al::bfloat16>({2, 8}, any);
  unary<ops::tanh, double>({2, 1}, any);
  binary<ops::tanh_backward>({4, 10});
  binary<ops::sigmoid_backward>({4, 12});
  binary<ops::silu_backward>({8, 12});
  binary<ops::swiglu>({5, 16});
  binary<ops::gelu_backward>({10, 8});
  binary<ops::gelu_tanh_backward>({16, 8});
  replay::check_on_every_chip();
  replay::check_seen<ops::exp, ops::log, ops::sqrt, ops::rsqrt, ops::tanh, ops::erf, ops::sigmoid,
                     ops::silu, ops::swiglu, ops::gelu, ops::gelu_tanh, ops::pow,
                     ops::tanh_backward, ops::sigmoid_backward, ops::silu_backward,
                     ops::gelu_backward, ops::gelu_tanh_backward>();
}

namespace {

template <class From, class To>
void cast() {
  const auto x = twins::numbers<plain<From>>({3, 43}, 1);
  replay::check_against<ops::cast<To>>(
      al::cast<To>(x), exact, [](const auto& v) { return al::cast<To>(v); }, x);
}

template <class T>
void copies() {
  cast<float, T>();
  cast<T, float>();
  cast<std::int32_t, T>();
  cast<T, bool>();
  for (const shapes& s : all_shapes) {
    const auto x = twins::numbers<plain<T>>(s.a, 1);
    replay::check_against<ops::clone>(
        x, exact, [](const auto& v) { return al::clone(v); }, x);
    replay::check_against<ops::fill>(
        al::fill(x, 2.5), exact, [](const auto& v) { return al::fill(v, 2.5); }, x);
  }
  const auto c = twins::numbers<plain<bool>>({3, 1, 65}, 1);
  const auto a = twins::numbers<plain<T>>({2, 1}, 2);
  const auto b = twins::numbers<plain<T>>({65}, 3);
  replay::check_against<ops::where>(
      al::where(c, a, b), exact,
      [](const auto& i, const auto& u, const auto& v) { return al::where(i, u, v); }, c, a, b);
  const auto from = twins::numbers<plain<float>>({43}, 1);
  const auto to = twins::numbers<plain<T>>({3, 43}, 2);
  replay::check_against<ops::copy>(
      al::copy(to, from), exact, [](const auto& u, const auto& v) { return al::copy(u, v); }, to,
      from);
}

}  // namespace

TEST_CASE("chip/operators: what moves and converts is the same on every chip") {
  copies<float>();
  copies<al::bfloat16>();
  copies<al::float16>();
  copies<double>();
  copies<std::int64_t>();
  copies<std::int8_t>();
  copies<std::uint8_t>();
  copies<bool>();
  replay::check_on_every_chip();
  replay::check_seen<ops::cast<float>, ops::clone, ops::fill, ops::where, ops::copy>();
}
