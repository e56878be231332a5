// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/ops/operators.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

const std::vector<std::pair<al::shape, al::shape>> pairs{
    {{}, {}},      {{0}, {0}},       {{1}, {1}},           {{7}, {7}},       {{33}, {}},
    {{3, 5}, {5}}, {{3, 1}, {1, 5}}, {{2, 3, 17}, {3, 1}}, {{2, 0, 3}, {3}}, {{1, 4}, {6, 1, 4}}};

/// Values against `twin`, in all layouts and forms, on the host and on the meta chip.
template <class T, class F, class Twin>
void check_binary(const F& f, const Twin& twin) {
  for (const auto& [sa, sb] : pairs) {
    const auto a = numbers<plain<T>>(sa, 1);
    const auto b = numbers<plain<T>>(sb, 2);
    const plain<T> y = f(a, b);
    // One rounding each, or exact: nothing is allowed to differ.
    check_elements(y,
                   [&](std::int64_t i) { return twin(at(a, y.shape(), i), at(b, y.shape(), i)); });
    check_same(f(scattered(a), b), y);
    check_same(f(a, scattered(b)), y);
    check_forms(f, a, b);
  }
}

template <class T, class F, class Twin>
void check_unary(const F& f, const Twin& twin) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {7}, {2, 3, 17}, {5, 0}}) {
    const auto x = numbers<plain<T>>(s, 3);
    const plain<T> y = f(x);
    check_elements(y, [&](std::int64_t i) { return twin(at(x, i)); });
    check_forms(f, x);
  }
}

}  // namespace

TEST_CASE("ops/arithmetic: sums, differences, products and quotients equal their naive twins") {
  check_binary<float>(al::add, [](float a, float b) { return a + b; });
  check_binary<float>(al::sub, [](float a, float b) { return a - b; });
  check_binary<float>(al::mul, [](float a, float b) { return a * b; });
  check_binary<float>(al::div, [](float a, float b) { return a / b; });
  check_binary<std::int32_t>(al::add, [](int a, int b) { return a + b; });
  check_binary<std::int32_t>(al::op_function<al::ops::div>{},
                             [](int a, int b) { return b == 0 ? 0 : a / b; });
  check_binary<al::bfloat16>(al::mul, [](float a, float b) { return al::bfloat16(a * b); });
}

TEST_CASE("ops/arithmetic: quotients of integers are floating, or rounded as asked for") {
  using ids = plain<std::int32_t>;
  const auto a = al::from_values<ids>({8}, {7, -7, 7, -7, 0, 9, 6, -6});
  const auto b = al::from_values<ids>({8}, {2, 2, -2, -2, 3, 3, -3, 3});
  check_elements(al::div(a, b), [&](std::int64_t i) {
    return static_cast<float>(at(a, i)) / static_cast<float>(at(b, i));
  });
  static_assert(std::is_same_v<decltype(a / b)::value_type, float>);
  const auto floor = [](int x, int y) {
    return static_cast<int>(std::floor(static_cast<double>(x) / static_cast<double>(y)));
  };
  check_elements(al::div(a, b, al::rounding::trunc{}),
                 [&](std::int64_t i) { return at(a, i) / at(b, i); });
  check_elements(al::div(a, b, al::rounding::floor{}),
                 [&](std::int64_t i) { return floor(at(a, i), at(b, i)); });
  check_elements(al::div(a, 2, al::rounding::floor{}),
                 [&](std::int64_t i) { return floor(at(a, i), 2); });
  CHECK(at(al::div(a, al::full<plain<float>>({}, 2.0), al::rounding::floor{}), 1) == -4.0F);
  CHECK(at(al::div(al::ones<plain<bool>>({}), true, al::rounding::floor{}), 0));
  CHECK_THROWS_AS(static_cast<void>(al::div(b, a, al::rounding::trunc{})), al::argument_error);
  CHECK_THROWS_AS(static_cast<void>(al::div(b, a, al::rounding::floor{})), al::argument_error);
  CHECK_THROWS_AS(static_cast<void>(al::div(a, 0, al::rounding::trunc{})), al::argument_error);
  const auto bytes = al::ones<plain<std::uint8_t>>({2});
  CHECK_THROWS_AS(static_cast<void>(al::div(bytes, 256, al::rounding::floor{})),
                  al::argument_error);  // 256 is 0 there
  check_meta(al::div(a, b, al::rounding::floor{}),
             al::div(ghost_of(a), ghost_of(b), al::rounding::floor{}));
}

namespace {

/// PyTorch's definition of a quotient rounded down (`div_floor_floating`).
template <class T>
T floored(T a, T b) {
  if (b == 0) {
    return a / b;
  }
  const T rest = std::fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) {
    quotient -= 1;
  }
  if (quotient == 0) {
    return std::copysign(T{0}, a / b);
  }
  const T below = std::floor(quotient);
  return quotient - below > T{0.5} ? below + 1 : below;
}

template <class T>
void check_floored() {
  const T big = std::numeric_limits<T>::max();
  const T tiny = std::numeric_limits<T>::min();
  const T inf = std::numeric_limits<T>::infinity();
  std::vector<T> all{0,    T(0.1), T(0.25), T(0.3), T(0.7), 1,       T(1.1),   3,   T(7.5),
                     1000, T(3e9), tiny,    big,    inf,    big / 3, tiny * 5, NAN, big / T(1.5)};
  for (std::size_t i = all.size(); i-- > 0;) {
    all.push_back(-all[i]);
  }
  const auto n = static_cast<std::int64_t>(all.size());
  const auto x = al::from_values<plain<T>>({n, 1}, std::span<const T>(all));
  const auto y = al::from_values<plain<T>>({n}, std::span<const T>(all));
  // Rounded twice there: a quotient beyond what counts every whole number is off by a rounding.
  check_elements(
      al::div(x, y, al::rounding::floor{}),
      [&](std::int64_t i) { return floored(at(x, i / n), at(y, i % n)); },
      2 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  check_elements(al::div(x, y, al::rounding::trunc{}),
                 [&](std::int64_t i) { return std::trunc(at(x, i / n) / at(y, i % n)); });
}

}  // namespace

TEST_CASE("ops/arithmetic: floating quotients are rounded as in PyTorch") {
  check_floored<float>();
  check_floored<double>();
  CHECK(at(al::div(al::ones<plain<double>>({}), 0.1, al::rounding::floor{}), 0) == 9.0);
  CHECK(at(al::div(al::ones<plain<float>>({}), 0.1, al::rounding::floor{}), 0) == 9.0F);
  // Quotients of 12 bits by 12 bits that are whole, and their neighbours.
  std::vector<float> upper;
  std::vector<float> lower;
  for (int i = 1; i < 2000; i += 7) {
    const float b = static_cast<float>(i) * 0.1F;
    for (const float q : {1.0F, 3.0F, 10.0F, 999.0F, 4095.0F}) {
      for (const float a : {q * b, std::nextafter(q * b, 0.0F), std::nextafter(q * b, INFINITY)}) {
        upper.insert(upper.end(), {a, -a, a, -a});
        lower.insert(lower.end(), {b, b, -b, -b});
      }
    }
  }
  const al::shape s{static_cast<std::int64_t>(upper.size())};
  const auto x = al::from_values<plain<float>>(s, std::span<const float>(upper));
  const auto y = al::from_values<plain<float>>(s, std::span<const float>(lower));
  check_elements(al::div(x, y, al::rounding::floor{}),
                 [&](std::int64_t i) { return floored(at(x, i), at(y, i)); });
}

TEST_CASE("ops/arithmetic: integers to the power of an integer stay integers") {
  const auto a = al::from_values<plain<std::int32_t>>({4}, {-3, 0, 2, 5});
  for (const int n : {0, 1, 2, 3, 7, 10}) {
    check_elements(al::pow(a, n), [&](std::int64_t i) {
      std::int32_t power = 1;
      for (int k = 0; k < n; ++k) {
        power *= at(a, i);
      }
      return power;
    });
  }
  static_assert(std::is_same_v<decltype(al::pow(a, 2.0))::value_type, float>);
  CHECK(at(al::pow(a, 0.5), 3) == std::sqrt(5.0F));
  CHECK_THROWS_AS(static_cast<void>(al::pow(a, -1)), al::argument_error);
}

TEST_CASE("ops/arithmetic: the larger and the smaller of two equal their naive twins") {
  check_binary<float>(al::maximum, [](float a, float b) { return std::max(a, b); });
  check_binary<std::uint8_t>(al::minimum, [](auto a, auto b) { return std::min(a, b); });
  const auto a = al::from_values<plain<float>>({2}, {NAN, 1.0f});
  const auto b = al::from_values<plain<float>>({2}, {1.0f, NAN});
  check_elements(al::maximum(a, b), [](std::int64_t) { return NAN; });
  check_elements(al::minimum(a, b), [](std::int64_t) { return NAN; });
}

TEST_CASE("ops/arithmetic: functions of one variable equal their naive twins") {
  check_unary<float>(al::neg, [](float x) { return -x; });
  check_unary<float>(al::abs, [](float x) { return std::abs(x); });
  check_unary<std::int32_t>(al::abs, [](int x) { return std::abs(x); });
  check_unary<float>(al::sign, [](float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; });
  check_unary<float>(al::square, [](float x) { return x * x; });
}

TEST_CASE("ops/arithmetic: scale and pow take numbers") {
  const auto x = numbers<plain<double>>({23}, 4);
  check_elements(al::scale(x, 3.0, 0.5), [&](std::int64_t i) { return at(x, i) * 3.0 + 0.5; });
  // Whole exponents: a few products, each within half a rounding.
  for (const double p : {0.0, 1.0, 2.0, 3.0, 7.0, -1.0, -4.0}) {
    check_elements(
        al::pow(x, p), [&](std::int64_t i) { return std::pow(at(x, i), p); }, 1e-15);
  }
  const auto positive = al::abs(x);
  for (const double p : {0.5, -0.5, 1.7, -2.3}) {
    check_elements(
        al::pow(positive, p), [&](std::int64_t i) { return std::pow(at(positive, i), p); }, 1e-14);
  }
  const auto edge = al::from_values<plain<double>>({2}, {0.0, -1.0});
  CHECK(at(al::pow(edge, 1.5), 0) == 0.0);
  CHECK(std::isnan(at(al::pow(edge, 1.5), 1)));
}

TEST_CASE("ops/arithmetic: the wider element type wins") {
  const auto i = numbers<plain<std::int32_t>>({3}, 1);
  const auto f = numbers<plain<float>>({3}, 2);
  const auto d = numbers<plain<double>>({3}, 3);
  const auto h = numbers<plain<al::float16>>({3}, 4);
  const auto b = numbers<plain<al::bfloat16>>({3}, 5);
  const auto u = numbers<plain<std::uint8_t>>({3}, 6);
  const auto s = numbers<plain<std::int8_t>>({3}, 7);
  static_assert(std::is_same_v<decltype(al::add(i, f))::value_type, float>);
  static_assert(std::is_same_v<decltype(al::add(f, d))::value_type, double>);
  static_assert(std::is_same_v<decltype(al::mul(h, b))::value_type, float>);
  static_assert(std::is_same_v<decltype(al::mul(u, s))::value_type, std::int32_t>);
  check_elements(al::add(i, d), [&](std::int64_t k) { return at(i, k) + at(d, k); });
  check_elements(al::mul(u, s), [&](std::int64_t k) { return int{at(u, k)} * int{at(s, k)}; });
  auto self = al::clone(d);
  al::add.in_place(self, i);
  check_same(self, al::add(d, i));
}

TEST_CASE("ops/operators: signs mean what they mean for numbers") {
  const auto a = numbers<plain<float>>({4}, 1);
  const auto b = numbers<plain<float>>({4}, 2);
  const auto element = [&](std::int64_t i) { return at(a, i); };
  check_elements(a + b - a * b / a, [&](std::int64_t i) {
    return at(a, i) + at(b, i) - at(a, i) * at(b, i) / at(a, i);
  });
  check_elements(2 + a * 3.0 - 1, [&](std::int64_t i) { return 2 + element(i) * 3.0f - 1; });
  check_elements(1.0f / a, [&](std::int64_t i) { return 1.0f / element(i); });
  check_elements(
      5 - a / 3, [&](std::int64_t i) { return 5 - element(i) / 3.0f; }, 1e-6);
  check_elements(-a, [&](std::int64_t i) { return -element(i); });
  auto c = al::clone(a);
  c += b;
  c *= 2;
  c -= a;
  c /= 4;
  check_elements(c, [&](std::int64_t i) { return ((at(a, i) + at(b, i)) * 2 - at(a, i)) / 4; });
  const auto n = al::from_values<plain<std::int64_t>>({2}, {7, -7});
  check_elements(n / 2 + 1, [&](std::int64_t i) { return i == 0 ? 4.5F : -2.5F; });
  check_elements(n * 2 + 1, [&](std::int64_t i) { return at(n, i) * 2 + 1; });
}

TEST_CASE("ops/operators: whole numbers beside integers are exact, modulo 2^bits") {
  using whole = std::int64_t;
  const auto bits = [](whole v) { return static_cast<std::uint64_t>(v); };
  const auto n = al::from_values<plain<whole>>({3}, {1, -3, std::numeric_limits<whole>::max()});
  for (const whole big :
       {(whole{1} << 53) + 1, -(whole{1} << 60) - 7, whole{3}, std::numeric_limits<whole>::min()}) {
    const auto check = [&](const plain<whole>& y, auto twin) {
      check_elements(y,
                     [&](whole i) { return static_cast<whole>(twin(bits(at(n, i)), bits(big))); });
    };
    const auto written = [&](auto write) {
      auto y = al::clone(n);
      const auto* place = y.data();
      write(y);
      CHECK(y.data() == place);
      return y;
    };
    check(n + big, [](auto x, auto b) { return x + b; });
    check(n - big, [](auto x, auto b) { return x - b; });
    check(big - n, [](auto x, auto b) { return b - x; });
    check(big * n, [](auto x, auto b) { return x * b; });
    check(written([&](auto& y) { y += big; }), [](auto x, auto b) { return x + b; });
    check(written([&](auto& y) { y -= big; }), [](auto x, auto b) { return x - b; });
    check(written([&](auto& y) { y *= big; }), [](auto x, auto b) { return x * b; });
    check(al::div(n, big, al::rounding::trunc{}),
          [](auto x, auto b) { return static_cast<whole>(x) / static_cast<whole>(b); });
  }
  const auto s = al::from_values<plain<std::int8_t>>({2}, {1, -100});
  check_elements(s + 300, [&](whole i) { return static_cast<std::int8_t>(at(s, i) + 44); });
  check_elements(s - -128, [&](whole i) { return static_cast<std::int8_t>(at(s, i) + 128); });
  const auto u = al::from_values<plain<std::uint8_t>>({2}, {1, 200});
  check_elements(u - 2, [&](whole i) { return static_cast<std::uint8_t>(at(u, i) - 2); });
  check_elements(1 - u, [&](whole i) { return static_cast<std::uint8_t>(1 - at(u, i)); });
  // A quotient is floating, and so is the number, whole as it was given.
  check_elements(s / 300, [&](whole i) { return static_cast<float>(at(s, i)) / 300.0F; });
  check_elements(-1 / u, [&](whole i) { return -1.0F / static_cast<float>(at(u, i)); });
  // Rounded once: as a double first it would be a tie, and go down.
  const whole above_tie = (whole{1} << 54) + (whole{1} << 30) + 1;
  const auto zero = al::zeros<plain<float>>({1});
  CHECK(at(zero + above_tie, 0) == static_cast<float>(above_tie));
  CHECK(at(above_tie / al::ones<plain<whole>>({1}), 0) == static_cast<float>(above_tie));
}

TEST_CASE("ops/arithmetic: bad arguments are refused and leave the tensors usable") {
  const auto a = numbers<plain<float>>({2, 3}, 1);
  const auto b = numbers<plain<float>>({4}, 2);
  try {
    static_cast<void>(al::add(a, b));
    CHECK(false);
  } catch (const al::shape_error& e) {
    CHECK(e.op == "add");
    CHECK(e.left == al::shape{2, 3});
    CHECK(e.right == al::shape{4});
  }
  plain<float> self = al::zeros<plain<float>>({3});
  CHECK_THROWS_AS(al::mul.in_place(self, a), al::output_error);
  CHECK_THROWS_AS(al::add(a, plain<float>{}), al::undefined_tensor);
  plain<float> repeated = al::expand(al::zeros<plain<float>>({1}), {3});
  CHECK_THROWS_AS(al::neg.in_place(repeated), al::overlap_error);
  plain<float> line = numbers<plain<float>>({8}, 1);
  plain<float> head = al::narrow(line, 0, 0, 4);
  CHECK_THROWS_AS(al::neg.out(head, al::narrow(line, 0, 2, 4)), al::overlap_error);
  check_same(al::neg.out(head, al::narrow(line, 0, 4, 4)), al::neg(al::narrow(line, 0, 4, 4)));
}
