// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/extra.hpp"
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// Vectors of sixteen to and from places `stride` elements apart, whatever the stored type.
namespace ashlar::chip::host_kernels::detail {

using simd::lanes;

/// The first `n` places, `fill` in the other lanes.
///
/// Requires: 1 <= n <= 16.
template <class C, Scalar S>
ASHLAR_INLINE simd::vec<C> get(const S* p, std::int64_t stride, int n, C fill = C(0)) {
  if (stride == 1) [[likely]] {
    return n == lanes ? simd::load_as<C>(p) : simd::load_as_partial<C>(p, n, fill);
  }
  alignas(64) C buffer[lanes];
  for (int i = 0; i < lanes; ++i) {
    buffer[i] = i < n ? static_cast<C>(p[i * stride]) : fill;
  }
  return simd::load(buffer);
}

template <class C, Scalar S>
ASHLAR_INLINE void put(S* p, std::int64_t stride, int n, const simd::vec<C>& v) {
  if (stride == 1) [[likely]] {
    if (n == lanes) {
      simd::store_as(p, v);
    } else {
      simd::store_as_partial(p, n, v);
    }
    return;
  }
  alignas(64) C buffer[lanes];
  simd::store(buffer, v);
  for (int i = 0; i < n; ++i) {
    p[i * stride] = static_cast<S>(buffer[i]);
  }
}

/// Calls `f(i, m)` for the vectors of a row: `m` places from `i`, sixteen but for the last.
template <class F>
ASHLAR_INLINE void for_each_vector(std::int64_t n, const F& f) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    f(i, lanes);
  }
  if (i < n) {
    f(i, static_cast<int>(n - i));
  }
}

}  // namespace ashlar::chip::host_kernels::detail
