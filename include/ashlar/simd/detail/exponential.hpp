// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/config.hpp"
#include "ashlar/simd/detail/native.hpp"

/// exp and tanh on native registers, with `native_madd`, so that the compilers and the versions of
/// xsimd agree on every bit of one machine.
namespace ashlar::simd::detail {

template <class T>
using bits_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
ASHLAR_INLINE native<bits_of<T>> as_bits(const native<T>& x) {
#if XSIMD_VERSION_MAJOR >= 11
  return xsimd::bitwise_cast<bits_of<T>>(x);
#else
  return xsimd::bitwise_cast<native<bits_of<T>>>(x);
#endif
}
template <class T>
ASHLAR_INLINE native<T> from_bits(const native<bits_of<T>>& x) {
#if XSIMD_VERSION_MAJOR >= 11
  return xsimd::bitwise_cast<T>(x);
#else
  return xsimd::bitwise_cast<native<T>>(x);
#endif
}

/// `c[0] + c[1] x + c[2] x^2 + ...` by Horner's rule.
template <class T, int N>
ASHLAR_INLINE native<T> polynomial(const native<T>& x, const T (&c)[N]) {
  native<T> sum(c[N - 1]);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
  for (int i = N - 2; i >= 0; --i) {
    sum = native_madd(sum, x, native<T>(c[i]));
  }
  return sum;
}

/// exp(x) = 2^n exp(r), n the integer nearest to x / ln 2. Results below the smallest normal number
/// are 0.
template <class T>
ASHLAR_INLINE native<T> native_exp(const native<T>& x) {
  constexpr bool single = sizeof(T) == 4;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  // Adding it leaves the nearest integer in the low bits of the sum.
  constexpr T shifter = T(1.5) * static_cast<T>(std::int64_t{1} << mantissa);
  const native<T> t = native_madd(x, native<T>(T(1.44269504088896340736)), native<T>(shifter));
  const native<T> n = t - native<T>(shifter);
  // ln 2 in two parts, the first with so few digits that n times it is exact.
  const native<T> r0 =
      native_madd(n, native<T>(single ? T(-0.693359375) : T(-6.93145751953125e-1)), x);
  const native<T> r =
      native_madd(n, native<T>(single ? T(2.12194440e-4) : T(-1.42860682030941723212e-6)), r0);
  native<T> p;
  if constexpr (single) {
    static constexpr float c[] = {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                                  8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f};
    p = native_madd(polynomial<float>(r, c), r * r, r) + native<T>(T(1));
  } else {
    static constexpr double c[] = {1.0 / 2,          1.0 / 6,           1.0 / 24,
                                   1.0 / 120,        1.0 / 720,         1.0 / 5040,
                                   1.0 / 40320,      1.0 / 362880,      1.0 / 3628800.0,
                                   1.0 / 39916800.0, 1.0 / 479001600.0, 1.0 / 6227020800.0};
    p = native_madd(polynomial<double>(r, c), r * r, r) + native<T>(T(1));
  }
  // p is between 0.7 and 1.5: n goes to its exponent.
  const native<T> y = from_bits<T>(as_bits<T>(p) + (as_bits<T>(t) << mantissa));
  constexpr T low = single ? T(-87.33654) : T(-708.396418532264);
  constexpr T high = single ? T(88.72283) : T(709.782712893384);
  const native<T> above =
      xsimd::select(x > native<T>(high), native<T>(std::numeric_limits<T>::infinity()), y);
  const native<T> below = xsimd::select(x < native<T>(low), native<T>(T(0)), above);
  return xsimd::select(x == x, below, x);
}

/// Near 0 a rational function, else `1 - 2 / (exp(2 |x|) + 1)` with the sign of x.
template <class T>
ASHLAR_INLINE native<T> native_tanh(const native<T>& x) {
  const native<T> sign = x & native<T>(-T(0));
  const native<T> size = x ^ sign;
  const native<T> z = x * x;
  native<T> near;
  if constexpr (sizeof(T) == 4) {
    static constexpr float c[] = {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f,
                                  2.06390887954e-2f, -5.70498872745e-3f};
    near = native_madd(polynomial<float>(z, c) * z, x, x);
  } else {
    static constexpr double p[] = {-1.61468768441708447952e3, -9.92877231001918586564e1,
                                   -9.64399179425052238628e-1};
    static constexpr double q[] = {4.84406305325125486048e3, 2.23548839060100448583e3,
                                   1.12811678491632931402e2, 1.0};
    near = native_madd(polynomial<double>(z, p) / polynomial<double>(z, q) * z, x, x);
  }
  const native<T> one(T(1));
  const native<T> two(T(2));
  const native<T> far = (one - two / (native_exp<T>(size + size) + one)) ^ sign;
  return xsimd::select(size < native<T>(T(0.625)), near, far);
}

}  // namespace ashlar::simd::detail
