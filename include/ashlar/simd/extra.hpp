// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <type_traits>

#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::simd {

/// The same number in every lane; found by generic code that knows its value type only.
template <Lane T>
ASHLAR_INLINE vec<T> constant_like(const vec<T>&, double value) {
  return broadcast(static_cast<T>(value));
}

/// The first `n` of sixteen truth values, false in the other lanes.
template <Lane T>
ASHLAR_INLINE vec_mask<T> load_mask(const bool* p, int n = lanes) {
  alignas(64) T buffer[lanes];
  if (n == lanes) {
    for (int i = 0; i < lanes; ++i) {
      buffer[i] = static_cast<T>(p[i]);
    }
  } else {
    for (int i = 0; i < lanes; ++i) {
      buffer[i] = i < n && p[i] ? T(1) : T(0);
    }
  }
  return load(buffer) != broadcast(T(0));
}

/// Stores the first `n` lanes as `bool`.
template <Lane T>
ASHLAR_INLINE void store_mask(bool* p, const vec_mask<T>& m, int n = lanes) {
  alignas(64) T buffer[lanes];
  store(buffer, select(m, broadcast(T(1)), broadcast(T(0))));
  for (int i = 0; i < n; ++i) {
    p[i] = buffer[i] != T(0);
  }
}

/// The same truth values, for lanes of another type.
template <Lane To, Lane From>
ASHLAR_INLINE vec_mask<To> mask_cast(const vec_mask<From>& m) {
  if constexpr (std::is_same_v<To, From>) {
    return m;
  } else if constexpr (sizeof(To) == sizeof(From)) {
    return detail::each<vec_mask<To>>(
        [](const auto& part)
            __attribute__((always_inline)) { return detail::native_mask_cast<To>(part); },
        m);
  } else {
    bool buffer[lanes];
    store_mask(buffer, m);
    return load_mask<To>(buffer);
  }
}

}  // namespace ashlar::simd
