// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>

#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/detail/half.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::simd {

namespace detail {
/// Calls `f(i)` for every native register of a vector.
template <Lane T, class F>
ASHLAR_INLINE void for_parts(const F& f) {
  f(0);
  if constexpr (vec<T>::parts >= 2) {
    f(1);
  }
  if constexpr (vec<T>::parts >= 4) {
    f(2);
    f(3);
  }
  if constexpr (vec<T>::parts >= 8) {
    f(4);
    f(5);
    f(6);
    f(7);
  }
}
/// How many of the first `n` lanes fall into native register `part`.
template <Lane T>
ASHLAR_INLINE int lanes_in(int part, int n) {
  return std::clamp(n - part * vec<T>::width, 0, vec<T>::width);
}
/// Where native register `part` starts; never past the first `n` lanes.
template <Lane T>
ASHLAR_INLINE int lane_of(int part, int n) {
  return std::min(part * vec<T>::width, n);
}
}  // namespace detail

/// Sixteen consecutive values; `p` needs no alignment.
template <Lane T>
ASHLAR_INLINE vec<T> load(const T* p) {
  return detail::by_part<vec<T>>([&](int i) __attribute__((always_inline)) {
    return vec<T>::native::load_unaligned(p + i * vec<T>::width);
  });
}

template <Lane T>
ASHLAR_INLINE void store(T* p, const vec<T>& v) {
  detail::for_parts<T>([&](int i) __attribute__((always_inline)) {
    v.part[i].store_unaligned(p + i * vec<T>::width);
  });
}

/// Writes past the caches where the machine can, for results that no cache holds: the lines are not
/// read first. Other threads see it after `finish_streams` only.
///
/// Requires: `p` is a multiple of 64 bytes.
template <Lane T>
ASHLAR_INLINE void stream(T* p, const vec<T>& v) {
  detail::for_parts<T>([&](int i) __attribute__((always_inline)) {
    detail::native_stream<T>(p + i * vec<T>::width, v.part[i]);
  });
}
/// Orders what the calling thread wrote with `stream` before what it writes next.
ASHLAR_INLINE void finish_streams() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

/// The first `n` values, `fill` in the other lanes; memory from `p + n` on is not touched.
///
/// Requires: 0 <= n <= 16.
template <Lane T>
ASHLAR_INLINE vec<T> load_partial(const T* p, int n, T fill = T(0)) {
  const detail::native<T> rest(fill);
  return detail::by_part<vec<T>>([&](int i) __attribute__((always_inline)) {
    return detail::native_load<T>(p + detail::lane_of<T>(i, n), detail::lanes_in<T>(i, n), rest);
  });
}

/// Stores the first `n` lanes; memory from `p + n` on is not touched.
///
/// Requires: 0 <= n <= 16.
template <Lane T>
ASHLAR_INLINE void store_partial(T* p, int n, const vec<T>& v) {
  detail::for_parts<T>([&](int i) __attribute__((always_inline)) {
    detail::native_store<T>(p + detail::lane_of<T>(i, n), detail::lanes_in<T>(i, n), v.part[i]);
  });
}

/// 0, 1, ... 15.
template <Lane T>
ASHLAR_INLINE vec<T> iota() {
  alignas(64) static constexpr T values[lanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                  8, 9, 10, 11, 12, 13, 14, 15};
  return load(values);
}

/// True in the first `n` lanes.
template <Lane T>
ASHLAR_INLINE vec_mask<T> first_lanes(int n) {
  return iota<T>() < broadcast(static_cast<T>(n));
}

/// Sixteen values stored as `S`, converted to `T`: float16 and bfloat16 to float, or `T` itself.
template <Lane T, Scalar S>
ASHLAR_INLINE vec<T> load_as(const S* p) {
  if constexpr (std::same_as<S, T>) {
    return load(p);
  } else {
    return detail::by_part<vec<T>>([&](int i) __attribute__((always_inline)) {
      return detail::native_load_as<T>(p + i * vec<T>::width);
    });
  }
}

/// As `load_as`, the first `n` lanes only; `fill` in the others.
template <Lane T, Scalar S>
ASHLAR_INLINE vec<T> load_as_partial(const S* p, int n, T fill = T(0)) {
  if constexpr (std::same_as<S, T>) {
    return load_partial(p, n, fill);
  } else {
    S buffer[lanes] = {};
    std::copy_n(p, n, buffer);
    return select(first_lanes<T>(n), load_as<T>(buffer), broadcast(fill));
  }
}

/// Stores sixteen values as `S`, rounded to nearest even.
template <Scalar S, Lane T>
ASHLAR_INLINE void store_as(S* p, const vec<T>& v) {
  if constexpr (std::same_as<S, T>) {
    store(p, v);
  } else {
    detail::for_parts<T>([&](int i) __attribute__((always_inline)) {
      detail::native_store_as<S, T>(p + i * vec<T>::width, v.part[i]);
    });
  }
}

/// As `store_as`, the first `n` lanes only.
template <Scalar S, Lane T>
ASHLAR_INLINE void store_as_partial(S* p, int n, const vec<T>& v) {
  if constexpr (std::same_as<S, T>) {
    store_partial(p, n, v);
  } else {
    S buffer[lanes];
    store_as(buffer, v);
    std::copy_n(buffer, n, p);
  }
}

}  // namespace ashlar::simd
