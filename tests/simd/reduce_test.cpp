// SPDX-License-Identifier: Apache-2.0
#include "ashlar/simd/reduce.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace {

namespace simd = ashlar::simd;

template <class T>
T twin_sum(const T* x) {
  T level[16];
  std::copy(x, x + 16, level);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      level[i] = level[i] + level[i + half];
    }
  }
  return level[0];
}

template <class T, class F>
void for_random(F check) {
  std::uint32_t state = 7;
  for (int round = 0; round < 500; ++round) {
    T x[16];
    for (T& value : x) {
      state = state * 1664525u + 1013904223u;
      // Magnitudes far apart, so that another order of the sum shows.
      value = static_cast<T>(static_cast<std::int32_t>(state)) *
              std::pow(T(2), static_cast<T>((state >> 8) % 24));
    }
    check(x);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("simd/reduce: sum is the tree 8, 4, 2, 1 bit for bit", T, float, double) {
  for_random<T>([](const T* x) {
    const T actual = simd::sum(simd::load(x));
    const T expected = twin_sum(x);
    CHECK(std::memcmp(&actual, &expected, sizeof(T)) == 0);
  });
}

TEST_CASE_TEMPLATE("simd/reduce: max and min find the extreme lane wherever it is", T, float,
                   double) {
  for_random<T>([](const T* x) {
    CHECK(simd::max(simd::load(x)) == *std::max_element(x, x + 16));
    CHECK(simd::min(simd::load(x)) == *std::min_element(x, x + 16));
  });
  for (int i = 0; i < 16; ++i) {
    T x[16] = {};
    x[i] = T(3);
    CHECK(simd::max(simd::load(x)) == T(3));
    x[i] = -T(3);
    CHECK(simd::min(simd::load(x)) == -T(3));
    x[i] = std::numeric_limits<T>::quiet_NaN();
    CHECK(std::isnan(simd::max(simd::load(x))));
    CHECK(std::isnan(simd::min(simd::load(x))));
    CHECK(std::isnan(simd::sum(simd::load(x))));
  }
}

TEST_CASE_TEMPLATE("simd/reduce: first is lane 0", T, float, double, std::int32_t) {
  CHECK(simd::first(simd::iota<T>()) == T(0));
  CHECK(simd::first(simd::broadcast(T(5))) == T(5));
}
