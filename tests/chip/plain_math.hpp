// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <string_view>

#include "ashlar/tile/scalar.hpp"

/// Functions with the same bits on every machine, to compare machines whose C libraries differ in
/// the last places: near the true ones, and made of sums, products and quotients alone.
namespace plain_math {

// What is in the brackets as code, and as text for a compiler of C.
#define ASHLAR_TEST_CODE_AND_TEXT(...) \
  __VA_ARGS__                          \
  inline constexpr std::string_view text = #__VA_ARGS__;

ASHLAR_TEST_CODE_AND_TEXT(
    static inline double plain_exp(double x) {
      if (x != x) {
        return x;
      }
      if (x > 700.0) {
        return x / (x - x);
      }
      if (x < -700.0) {
        return 0.0;
      }
      double sum = 1.0;
      double term = 1.0;
      for (double n = 1.0; n < 30.0; n = n + 1.0) {
        term = term * (x / 128.0) / n;
        sum = sum + term;
      }
      for (int i = 0; i < 7; ++i) {
        sum = sum * sum;
      }
      return sum;
    }

    static inline double plain_log(double x) {
      if (x != x || x - x != 0.0) {
        return x;
      }
      if (x <= 0.0) {
        return (x - 1.0) * (x < 0.0 ? x - x : 1.0) / (x - x);
      }
      double twos = 0.0;
      while (x > 1.5) {
        x = x * 0.5;
        twos = twos + 1.0;
      }
      while (x < 0.75) {
        x = x * 2.0;
        twos = twos - 1.0;
      }
      const double y = (x - 1.0) / (x + 1.0);
      double power = y;
      double sum = 0.0;
      for (double n = 1.0; n < 60.0; n = n + 2.0) {
        sum = sum + power / n;
        power = power * y * y;
      }
      return 2.0 * sum + twos * 0.69314718055994531;
    }

    static inline double plain_tanh(double x) {
      if (x > 40.0 || x < -40.0) {
        return x > 0.0 ? 1.0 : -1.0;
      }
      const double e = plain_exp(2.0 * x);
      return (e - 1.0) / (e + 1.0);
    }

    static inline double plain_erf(double x) {
      return plain_tanh(1.1283791670955126 * x + 0.1009 * x * x * x);
    })

#undef ASHLAR_TEST_CODE_AND_TEXT

/// What code that LLVM writes with `math_prefix` calls, in C.
inline constexpr std::string_view prefix_text = R"(
#define FUNCTION(name) \
  double test_##name(double x) { return plain_##name(x); } \
  float test_##name##f(float x) { return (float)plain_##name(x); }
FUNCTION(exp) FUNCTION(log) FUNCTION(tanh) FUNCTION(erf)
)";
inline constexpr char math_prefix[] = "test_";

/// The same for the interpreter.
struct functions : ashlar::tile::eval::std_math {
  template <std::floating_point T>
  static T exp(T x) {
    return static_cast<T>(plain_exp(static_cast<double>(x)));
  }
  template <std::floating_point T>
  static T log(T x) {
    return static_cast<T>(plain_log(static_cast<double>(x)));
  }
  template <std::floating_point T>
  static T tanh(T x) {
    return static_cast<T>(plain_tanh(static_cast<double>(x)));
  }
  template <std::floating_point T>
  static T erf(T x) {
    return static_cast<T>(plain_erf(static_cast<double>(x)));
  }
};

}  // namespace plain_math
