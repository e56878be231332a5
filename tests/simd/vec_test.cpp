// SPDX-License-Identifier: Apache-2.0
#include "ashlar/simd/vec.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"

namespace {

namespace simd = ashlar::simd;

template <class T>
using block = std::array<T, 16>;

template <class T>
std::vector<T> specials() {
  using limits = std::numeric_limits<T>;
  return {T(0),
          -T(0),
          T(1),
          -T(1),
          T(0.5),
          T(-2.5),
          T(3),
          limits::infinity(),
          -limits::infinity(),
          limits::quiet_NaN(),
          limits::max(),
          limits::lowest(),
          limits::min(),
          limits::denorm_min(),
          limits::epsilon(),
          T(1e10)};
}

/// Every pair of special values, sixteen at a time.
template <class T, class F>
void for_pairs(F check) {
  const std::vector<T> values = specials<T>();
  for (std::size_t turn = 0; turn < values.size(); ++turn) {
    block<T> a{};
    block<T> b{};
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] = values[i];
      b[i] = values[(i + turn) % values.size()];
    }
    check(a, b);
  }
}

template <class T>
bool same(T a, T b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <class T>
bool same(const block<T>& a, const block<T>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!same(a[i], b[i])) {
      return false;
    }
  }
  return true;
}

template <class T>
block<T> values_of(const simd::vec<T>& v) {
  block<T> out{};
  simd::store(out.data(), v);
  return out;
}

template <class T, class F>
block<T> twin(const block<T>& a, const block<T>& b, F f) {
  block<T> out{};
  for (std::size_t i = 0; i < a.size(); ++i) {
    out[i] = f(a[i], b[i]);
  }
  return out;
}

template <class T>
T twin_max(T a, T b) {
  return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : (a > b ? a : b);
}
template <class T>
T twin_min(T a, T b) {
  return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : (a < b ? a : b);
}

}  // namespace

TEST_CASE_TEMPLATE("simd/vec: arithmetic is that of the element type", T, float, double) {
  for_pairs<T>([](const block<T>& x, const block<T>& y) {
    const auto a = simd::load(x.data());
    const auto b = simd::load(y.data());
    CHECK(same(values_of(a + b), twin(x, y, [](T p, T q) { return p + q; })));
    CHECK(same(values_of(a - b), twin(x, y, [](T p, T q) { return p - q; })));
    CHECK(same(values_of(a * b), twin(x, y, [](T p, T q) { return p * q; })));
    CHECK(same(values_of(a / b), twin(x, y, [](T p, T q) { return p / q; })));
    CHECK(same(values_of(-a), twin(x, y, [](T p, T) { return -p; })));
    auto c = a;
    c += b;
    CHECK(same(values_of(c), values_of(a + b)));
    c = a;
    c -= b;
    CHECK(same(values_of(c), values_of(a - b)));
    c = a;
    c *= b;
    CHECK(same(values_of(c), values_of(a * b)));
  });
}

TEST_CASE_TEMPLATE("simd/vec: comparisons are IEEE comparisons, and select follows them", T, float,
                   double) {
  for_pairs<T>([](const block<T>& x, const block<T>& y) {
    const auto a = simd::load(x.data());
    const auto b = simd::load(y.data());
    const auto one = simd::broadcast(T(1));
    const auto zero = simd::broadcast(T(0));
    const auto bits = [&](const simd::vec_mask<T>& m) { return values_of(select(m, one, zero)); };
    CHECK(same(bits(a == b), twin(x, y, [](T p, T q) { return T(p == q); })));
    CHECK(same(bits(a != b), twin(x, y, [](T p, T q) { return T(p != q); })));
    CHECK(same(bits(a < b), twin(x, y, [](T p, T q) { return T(p < q); })));
    CHECK(same(bits(a <= b), twin(x, y, [](T p, T q) { return T(p <= q); })));
    CHECK(same(bits(a > b), twin(x, y, [](T p, T q) { return T(p > q); })));
    CHECK(same(bits(a >= b), twin(x, y, [](T p, T q) { return T(p >= q); })));
    CHECK(same(bits(isnan(a)), twin(x, y, [](T p, T) { return T(std::isnan(p)); })));
    CHECK(same(bits(!(a < b)), twin(x, y, [](T p, T q) { return T(!(p < q)); })));
    CHECK(same(bits((a < b) & (a == a)), twin(x, y, [](T p, T q) { return T(p < q); })));
    CHECK(same(bits((a < b) | isnan(a)),
               twin(x, y, [](T p, T q) { return T(p < q || std::isnan(p)); })));
  });
}

TEST_CASE_TEMPLATE("simd/vec: any and all see every lane", T, float, double, std::int32_t) {
  const auto zero = simd::broadcast(T(0));
  CHECK_FALSE(any_of(zero != zero));
  CHECK(all_of(zero == zero));
  for (std::size_t i = 0; i < 16; ++i) {
    block<T> x{};
    x[i] = T(1);
    const auto v = simd::load(x.data());
    CHECK(any_of(v != zero));
    CHECK_FALSE(all_of(v == zero));
  }
}

TEST_CASE_TEMPLATE("simd/vec: max and min give NaN where either side is NaN", T, float, double) {
  for_pairs<T>([](const block<T>& x, const block<T>& y) {
    const auto a = simd::load(x.data());
    const auto b = simd::load(y.data());
    const auto larger = values_of(max(a, b));
    const auto smaller = values_of(min(a, b));
    for (std::size_t i = 0; i < 16; ++i) {
      // Which zero comes out of +0 and -0 is not promised.
      const T high = twin_max(x[i], y[i]);
      const T low = twin_min(x[i], y[i]);
      CHECK((std::isnan(high) ? std::isnan(larger[i]) : larger[i] == high));
      CHECK((std::isnan(low) ? std::isnan(smaller[i]) : smaller[i] == low));
    }
  });
}

TEST_CASE_TEMPLATE("simd/vec: madd rounds once exactly where fused_madd says so", T, float,
                   double) {
  const T e = std::numeric_limits<T>::epsilon();
  const T a = T(1) + e;
  const T b = T(1) - e;
  const T c = T(-1);
  volatile T product = a * b;  // 1 - e * e, rounds to 1
  const T expected = simd::fused_madd ? -e * e : product + c;
  CHECK(simd::madd(a, b, c) == expected);
  const auto v = values_of(madd(simd::broadcast(a), simd::broadcast(b), simd::broadcast(c)));
  for (const T x : v) {
    CHECK(x == expected);
  }
}

TEST_CASE("simd/vec: a * b + c is not contracted to one rounding") {
  const float e = std::numeric_limits<float>::epsilon();
  block<float> x{};
  block<float> y{};
  block<float> z{};
  x.fill(1.0f + e);
  y.fill(1.0f - e);
  z.fill(-1.0f);
  const auto v = values_of(simd::load(x.data()) * simd::load(y.data()) + simd::load(z.data()));
  for (const float r : v) {
    CHECK(r == 0.0f);
  }
}

TEST_CASE("simd/vec: integer lanes add, multiply, compare and select") {
  block<std::int32_t> x{};
  block<std::int32_t> y{};
  for (int i = 0; i < 16; ++i) {
    x[static_cast<std::size_t>(i)] = i * 37 - 200;
    y[static_cast<std::size_t>(i)] = 90 - i * i;
  }
  const auto a = simd::load(x.data());
  const auto b = simd::load(y.data());
  using i32 = std::int32_t;
  CHECK(values_of(a + b) == twin(x, y, [](i32 p, i32 q) { return p + q; }));
  CHECK(values_of(a - b) == twin(x, y, [](i32 p, i32 q) { return p - q; }));
  CHECK(values_of(a * b) == twin(x, y, [](i32 p, i32 q) { return p * q; }));
  CHECK(values_of(madd(a, b, a)) == twin(x, y, [](i32 p, i32 q) { return p * q + p; }));
  CHECK(values_of(-a) == twin(x, y, [](i32 p, i32) { return -p; }));
  CHECK(values_of(max(a, b)) == twin(x, y, [](i32 p, i32 q) { return p > q ? p : q; }));
  CHECK(values_of(min(a, b)) == twin(x, y, [](i32 p, i32 q) { return p < q ? p : q; }));
  CHECK(values_of(select(a < b, a, b)) == values_of(min(a, b)));
  CHECK(simd::sum(a) == [&] {
    i32 total = 0;
    for (const i32 v : x) {
      total += v;
    }
    return total;
  }());
}
