// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <type_traits>

#include "ashlar/simd/detail/fold.hpp"
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

#if defined(__SSE2__)
/// `tree` in registers.
template <std::floating_point T, class F>
ASHLAR_INLINE T folded(const vec<T>& v, const F& f) {
  constexpr int parts = vec<T>::parts;
  if constexpr (parts == 1) {
    return fold(v.part[0].data, f);
  } else if constexpr (parts == 2) {
    return fold(f.across(v.part[0], v.part[1]).data, f);
  } else if constexpr (parts == 4) {
    const auto even = f.across(v.part[0], v.part[2]);
    const auto odd = f.across(v.part[1], v.part[3]);
    return fold(f.across(even, odd).data, f);
  } else {
    const auto a = f.across(v.part[0], v.part[4]);
    const auto b = f.across(v.part[1], v.part[5]);
    const auto c = f.across(v.part[2], v.part[6]);
    const auto d = f.across(v.part[3], v.part[7]);
    return fold(f.across(f.across(a, c), f.across(b, d)).data, f);
  }
}
#endif

}  // namespace detail

/// Sum of the lanes by a fixed tree: i + (i + 8), then 4, 2, 1 apart.
template <Lane T>
ASHLAR_INLINE T sum(const vec<T>& v) {
#if defined(__SSE2__)
  if constexpr (std::is_floating_point_v<T>) {
    return detail::folded(v, detail::folded_sum{});
  }
#endif
  return detail::tree(v, [](T a, T b) { return a + b; });
}

/// Largest lane; NaN when any lane is NaN.
template <Lane T>
ASHLAR_INLINE T max(const vec<T>& v) {
#if defined(__SSE2__)
  if constexpr (std::is_floating_point_v<T>) {
    return detail::folded(v, detail::folded_max{});
  }
#endif
  return detail::tree(v, [](T a, T b) { return a > b || a != a ? a : b; });
}

/// Smallest lane; NaN when any lane is NaN.
template <Lane T>
ASHLAR_INLINE T min(const vec<T>& v) {
#if defined(__SSE2__)
  if constexpr (std::is_floating_point_v<T>) {
    return detail::folded(v, detail::folded_min{});
  }
#endif
  return detail::tree(v, [](T a, T b) { return a < b || a != a ? a : b; });
}

/// Lane 0.
template <Lane T>
ASHLAR_INLINE T first(const vec<T>& v) {
#if defined(__SSE2__)
  if constexpr (std::is_floating_point_v<T>) {
    return detail::lowest(v.part[0].data);
  }
#endif
  alignas(64) T buffer[vec<T>::width];
  v.part[0].store_aligned(buffer);
  return buffer[0];
}

}  // namespace ashlar::simd
