// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::simd {

namespace detail {
/// Combines lane i with lane i + 8, then i + 4, i + 2, i + 1: the same tree on every machine.
template <Lane T, class F>
ASHLAR_INLINE T tree(const vec<T>& v, const F& f) {
  alignas(64) T buffer[lanes];
  store(buffer, v);
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      buffer[i] = f(buffer[i], buffer[i + half]);
    }
  }
  return buffer[0];
}
}  // namespace detail

/// Sum of the lanes by a fixed tree: i + (i + 8), then 4, 2, 1 apart.
template <Lane T>
ASHLAR_INLINE T sum(const vec<T>& v) {
  return detail::tree(v, [](T a, T b) { return a + b; });
}

/// Largest lane; NaN when any lane is NaN.
template <Lane T>
ASHLAR_INLINE T max(const vec<T>& v) {
  return detail::tree(v, [](T a, T b) { return a > b || a != a ? a : b; });
}

/// Smallest lane; NaN when any lane is NaN.
template <Lane T>
ASHLAR_INLINE T min(const vec<T>& v) {
  return detail::tree(v, [](T a, T b) { return a < b || a != a ? a : b; });
}

/// Lane 0.
template <Lane T>
ASHLAR_INLINE T first(const vec<T>& v) {
  alignas(64) T buffer[vec<T>::width];
  v.part[0].store_aligned(buffer);
  return buffer[0];
}

}  // namespace ashlar::simd
