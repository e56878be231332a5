// SPDX-License-Identifier: Apache-2.0
#include "ashlar/simd/math.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

namespace simd = ashlar::simd;

/// Values in [low, high], evenly spread and a little noisy, a multiple of sixteen of them.
template <class T>
std::vector<T> spread(double low, double high, int count = 64000) {
  std::vector<T> values;
  std::uint32_t state = 3;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    const double t = (i + (state >> 8) / 16777216.0) / count;
    values.push_back(static_cast<T>(low + (high - low) * t));
  }
  return values;
}

/// Largest error of `f` against `exact` (long double) in units in the last place of the result,
/// which for results below `floor` counts as that of `floor`.
template <class T, class F, class G>
double worst_ulp(const std::vector<T>& values, F f, G exact, double floor) {
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); i += 16) {
    T out[16];
    simd::store(out, f(simd::load(values.data() + i)));
    for (std::size_t j = 0; j < 16; ++j) {
      const long double want = exact(static_cast<long double>(values[i + j]));
      const T near = std::max(static_cast<T>(std::fabs(want)), static_cast<T>(floor));
      const long double unit = std::nextafter(near, std::numeric_limits<T>::infinity()) - near;
      worst = std::max(worst, static_cast<double>(std::fabs(out[j] - want) / unit));
    }
  }
  return worst;
}

template <class T>
constexpr double tiny = static_cast<double>(std::numeric_limits<T>::min());

template <class T, class F>
T one(F f, T x) {
  T out[16];
  simd::store(out, f(simd::broadcast(x)));
  for (const T y : out) {
    CHECK(std::memcmp(&y, out, sizeof(T)) == 0);
  }
  return out[0];
}

constexpr auto exp_ = [](const auto& v) { return exp(v); };
constexpr auto log_ = [](const auto& v) { return log(v); };
constexpr auto tanh_ = [](const auto& v) { return tanh(v); };
constexpr auto erf_ = [](const auto& v) { return erf(v); };
constexpr auto sin_ = [](const auto& v) { return sin(v); };
constexpr auto cos_ = [](const auto& v) { return cos(v); };
constexpr auto sigmoid_ = [](const auto& v) { return sigmoid(v); };
constexpr auto sqrt_ = [](const auto& v) { return sqrt(v); };
constexpr auto rsqrt_ = [](const auto& v) { return rsqrt(v); };
constexpr auto floor_ = [](const auto& v) { return floor(v); };
constexpr auto abs_ = [](const auto& v) { return abs(v); };

}  // namespace

// Bounds in ULP: somewhat above what was measured with both versions of xsimd on SSE2, AVX2 and
// AVX-512, since polynomials round differently with and without fused multiply-add. Its erf in
// double is the coarse one: 68 ULP around 2.
TEST_CASE_TEMPLATE("simd/math: functions stay within their bounds of the exact value", T, float,
                   double) {
  const double range = sizeof(T) == 4 ? 87.0 : 700.0;
  CHECK(worst_ulp(
            spread<T>(-range, range), exp_, [](auto x) { return std::exp(x); }, tiny<T>) <= 2);
  CHECK(worst_ulp(
            spread<T>(1e-30, 1e-3), log_, [](auto x) { return std::log(x); }, 1e-2) <= 2);
  CHECK(worst_ulp(
            spread<T>(1e-3, 40), log_, [](auto x) { return std::log(x); }, 1e-2) <= 2);
  CHECK(worst_ulp(
            spread<T>(-12, 12), tanh_, [](auto x) { return std::tanh(x); }, tiny<T>) <= 3);
  CHECK(worst_ulp(
            spread<T>(-1e-3, 1e-3), tanh_, [](auto x) { return std::tanh(x); }, tiny<T>) <= 3);
  CHECK(worst_ulp(
            spread<T>(-6, 6), erf_, [](auto x) { return std::erf(x); }, 1e-6) <=
        (sizeof(T) == 4 ? 4 : 80));
  CHECK(worst_ulp(
            spread<T>(-100, 100), sin_, [](auto x) { return std::sin(x); }, 1e-2) <= 3);
  CHECK(worst_ulp(
            spread<T>(-100, 100), cos_, [](auto x) { return std::cos(x); }, 1e-2) <= 3);
  CHECK(worst_ulp(
            spread<T>(-50, 50), sigmoid_, [](auto x) { return 1 / (1 + std::exp(-x)); }, tiny<T>) <=
        4);
}

TEST_CASE_TEMPLATE("simd/math: sqrt, floor and abs are exact, rsqrt is 1 / sqrt", T, float,
                   double) {
  std::vector<T> values = spread<T>(-5, 1e6, 16000);
  const T more[] = {T(0),
                    -T(0),
                    std::numeric_limits<T>::infinity(),
                    std::numeric_limits<T>::quiet_NaN(),
                    std::numeric_limits<T>::denorm_min(),
                    std::numeric_limits<T>::max(),
                    T(-0.5),
                    T(0.5)};
  values.insert(values.end(), more, more + 8);
  values.insert(values.end(), more, more + 8);
  for (std::size_t i = 0; i < values.size(); i += 16) {
    const auto v = simd::load(values.data() + i);
    T root[16];
    T inverse[16];
    T down[16];
    T size[16];
    simd::store(root, sqrt_(v));
    simd::store(inverse, rsqrt_(v));
    simd::store(down, floor_(v));
    simd::store(size, abs_(v));
    for (std::size_t j = 0; j < 16; ++j) {
      const T x = values[i + j];
      const auto same = [](T a, T b) { return a == b || (std::isnan(a) && std::isnan(b)); };
      CHECK(same(root[j], std::sqrt(x)));
      CHECK(same(inverse[j], T(1) / std::sqrt(x)));
      CHECK(same(down[j], std::floor(x)));
      CHECK(same(size[j], std::fabs(x)));
    }
  }
}

TEST_CASE_TEMPLATE("simd/math: special values give what IEEE functions give", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(one(exp_, T(0)) == T(1));
  CHECK(one(exp_, inf) == inf);
  CHECK(one(exp_, -inf) == T(0));
  CHECK(one(exp_, T(1e4)) == inf);
  CHECK(one(exp_, T(-1e4)) == T(0));
  CHECK(one(log_, T(1)) == T(0));
  CHECK(one(log_, T(0)) == -inf);
  CHECK(one(log_, inf) == inf);
  CHECK(std::isnan(one(log_, T(-1))));
  CHECK(one(tanh_, T(0)) == T(0));
  CHECK(one(tanh_, inf) == T(1));
  CHECK(one(tanh_, -inf) == T(-1));
  CHECK(one(erf_, T(0)) == T(0));
  CHECK(one(erf_, inf) == T(1));
  CHECK(one(erf_, -inf) == T(-1));
  CHECK(one(sigmoid_, T(0)) == T(0.5));
  CHECK(one(sigmoid_, inf) == T(1));
  CHECK(one(sigmoid_, -inf) == T(0));
  CHECK(one(sin_, T(0)) == T(0));
  CHECK(one(cos_, T(0)) == T(1));
  CHECK(std::isnan(one(exp_, nan)));
  CHECK(std::isnan(one(log_, nan)));
  CHECK(std::isnan(one(tanh_, nan)));
  CHECK(std::isnan(one(erf_, nan)));
  CHECK(std::isnan(one(sigmoid_, nan)));
  CHECK(std::isnan(one(sin_, nan)));
  CHECK(std::isnan(one(cos_, inf)));
}

TEST_CASE_TEMPLATE("simd/math: a value alone has the bits that it has in a vector", T, float,
                   double) {
  const std::vector<T> values = spread<T>(-9, 9, 1600);
  for (std::size_t i = 0; i < values.size(); i += 16) {
    T out[16];
    const auto v = simd::load(values.data() + i);
    const auto check = [&](const simd::vec<T>& many, auto f) {
      simd::store(out, many);
      bool equal = true;
      for (std::size_t j = 0; j < 16; ++j) {
        const T single = f(values[i + j]);
        equal = equal && (std::memcmp(&single, &out[j], sizeof(T)) == 0 ||
                          (std::isnan(single) && std::isnan(out[j])));
      }
      CHECK(equal);
    };
    check(exp(v), [](T x) { return simd::exp(x); });
    check(log(v), [](T x) { return simd::log(x); });
    check(tanh(v), [](T x) { return simd::tanh(x); });
    check(erf(v), [](T x) { return simd::erf(x); });
    check(sin(v), [](T x) { return simd::sin(x); });
    check(cos(v), [](T x) { return simd::cos(x); });
    check(sigmoid(v), [](T x) { return simd::sigmoid(x); });
    check(rsqrt(v), [](T x) { return simd::rsqrt(x); });
    check(floor(v), [](T x) { return simd::floor(x); });
  }
}
