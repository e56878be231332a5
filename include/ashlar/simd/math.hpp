// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <limits>

#include "ashlar/simd/detail/exponential.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// Elementary functions on `vec`.
///
/// The overload for one float or double is the vector function on one lane, so that a value does
/// not depend on whether it was computed in a vector, in a tail or alone.
namespace ashlar::simd {

namespace detail {
/// `a`, and 0 in place of infinity and NaN.
template <Lane T>
ASHLAR_INLINE vec<T> finite(const vec<T>& a) {
  return select(a - a == broadcast(T(0)), a, broadcast(T(0)));
}
/// Minus zero, which adds nothing, and NaN where `a` is infinity or NaN.
template <Lane T>
ASHLAR_INLINE vec<T> undefined(const vec<T>& a) {
  return -abs(a - a);
}
}  // namespace detail

// clang-format off
template <Lane T>
ASHLAR_INLINE vec<T> abs(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::abs(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> floor(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return detail::native_floor(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> sqrt(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::sqrt(x); }, a);
}
/// `1 / sqrt(a)`, both correctly rounded.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> rsqrt(const vec<T>& a) {
  return broadcast(T(1)) / sqrt(a);
}
/// Within 2 ULP; 0 below the smallest normal number.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> exp(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return detail::native_exp<T>(x); }, a);
}
/// Within 2 ULP.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> log(const vec<T>& a) {
  // xsimd converts to integers on the way, which infinity and NaN must not reach.
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto usual = (a > broadcast(T(0))) & (a < broadcast(infinity));
  const vec<T> r = detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::log(x); },
                                        select(usual, a, broadcast(T(1))));
  const vec<T> other = select(a == broadcast(T(0)), broadcast(-infinity),
                              select(a < broadcast(T(0)),
                                     broadcast(std::numeric_limits<T>::quiet_NaN()), a));
  return select(usual, r, other);
}
/// Within 3 ULP.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> tanh(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return detail::native_tanh<T>(x); }, a);
}
namespace detail {
/// `first + x (next + x (...))`
template <class... C>
ASHLAR_INLINE vec<float> polynomial(const vec<float>& x, float first, C... next) {
  if constexpr (sizeof...(next) == 0) {
    return broadcast(first);
  } else {
    return madd(polynomial(x, next...), x, broadcast(first));
  }
}
/// Without a division and with one exponential: `x + x q(x^2)` near 0, else `1 - exp(p(|x|))`, both
/// polynomials fitted to the error in the last place.
ASHLAR_INLINE vec<float> erf_of_float(const vec<float>& x) {
  const vec<float> a = abs(x);
  const vec<float> q = polynomial(x * x, 1.2837915e-1f, -3.7612525e-1f, 1.12821415e-1f,
                                  -2.6778933e-2f, 5.0119907e-3f, -6.0904847e-4f);
  const vec<float> small = madd(q, x, x);
  const vec<float> p = polynomial(min(a, broadcast(4.0f)),  // from 4 on the result is 1
                                  -1.6643877e-4f, -1.1277972f, -6.36976e-1f, -1.0411375e-1f,
                                  2.2315249e-2f, -3.0655002e-3f, 1.9822075e-4f);
  const vec<float> rest = exp(p);
  const vec<float> large = broadcast(1.0f) - rest;
  return select(a < broadcast(0.9f), small, select(x < broadcast(0.0f), -large, large));
}
}  // namespace detail

/// Within 4 ULP in float, 80 in double.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> erf(const vec<T>& a) {
  if constexpr (std::same_as<T, float>) {
    return detail::erf_of_float(a);
  } else {
    const auto usual = abs(a) < broadcast(T(8));  // beyond, the result is 1
    const vec<T> one = select(a > broadcast(T(0)), broadcast(T(1)), broadcast(T(-1)));
    const vec<T> r = detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::erf(x); },
                                          select(usual, a, broadcast(T(1))));
    return select(usual, r, select(a == a, one, a));
  }
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> sin(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::sin(x); }, detail::finite(a)) +
         detail::undefined(a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> cos(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) __attribute__((always_inline)) { return xsimd::cos(x); }, detail::finite(a)) +
         detail::undefined(a);
}
/// `1 / (1 + exp(-a))`.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> sigmoid(const vec<T>& a) {
  return broadcast(T(1)) / (broadcast(T(1)) + exp(-a));
}

template <std::floating_point T> ASHLAR_INLINE T abs(T x) { return first(abs(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T floor(T x) { return first(floor(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T sqrt(T x) { return first(sqrt(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T rsqrt(T x) { return first(rsqrt(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T exp(T x) { return first(exp(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T log(T x) { return first(log(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T tanh(T x) { return first(tanh(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T erf(T x) { return first(erf(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T sin(T x) { return first(sin(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T cos(T x) { return first(cos(broadcast(x))); }
template <std::floating_point T> ASHLAR_INLINE T sigmoid(T x) { return first(sigmoid(broadcast(x))); }
/// As `max` of `vec`: NaN where either is NaN.
template <std::floating_point T> ASHLAR_INLINE T max(T a, T b) { return a > b || a != a ? a : b; }
template <std::floating_point T> ASHLAR_INLINE T min(T a, T b) { return a < b || a != a ? a : b; }
template <std::floating_point T> ASHLAR_INLINE bool isnan(T a) { return a != a; }
template <std::floating_point T> ASHLAR_INLINE T select(bool m, T a, T b) { return m ? a : b; }
// clang-format on

}  // namespace ashlar::simd
