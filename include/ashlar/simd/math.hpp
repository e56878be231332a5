// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>

#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// Elementary functions on `vec`.
///
/// The overload for one float or double is the vector function on one lane, so that a value does
/// not depend on whether it was computed in a vector, in a tail or alone.
namespace ashlar::simd {

// clang-format off
template <Lane T>
ASHLAR_INLINE vec<T> abs(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::abs(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> floor(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::floor(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> sqrt(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::sqrt(x); }, a);
}
/// `1 / sqrt(a)`, both correctly rounded.
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> rsqrt(const vec<T>& a) {
  return broadcast(T(1)) / sqrt(a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> exp(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::exp(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> log(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::log(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> tanh(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::tanh(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> erf(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::erf(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> sin(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::sin(x); }, a);
}
template <Lane T> requires std::floating_point<T>
ASHLAR_INLINE vec<T> cos(const vec<T>& a) {
  return detail::each<vec<T>>([](const auto& x) { return xsimd::cos(x); }, a);
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
