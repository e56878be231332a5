// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <type_traits>

#include "ashlar/simd/vec.hpp"

namespace ashlar::simd {

/// One native register of `T`, for inner kernels that are written around the register file.
///
/// Its width differs between machines, so only lane-by-lane work may use it: anything that adds up
/// across lanes belongs in `vec`.
template <Lane T>
struct reg {
  static constexpr int width = vec<T>::width;
  detail::native<T> value;
};

/// Vector registers that the instruction set names.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int register_count = 32;
#else
inline constexpr int register_count = 16;
#endif

template <Lane T>
ASHLAR_INLINE reg<T> reg_load(const T* p) {
  return {detail::native<T>::load_unaligned(p)};
}
template <Lane T>
ASHLAR_INLINE void reg_store(T* p, const reg<T>& x) {
  x.value.store_unaligned(p);
}
template <Lane T>
ASHLAR_INLINE reg<T> reg_broadcast(T x) {
  return {detail::native<T>(x)};
}
/// Keeps a loaded value in its register: g++ otherwise loads it again for every use.
template <Lane T>
ASHLAR_INLINE void reg_pin([[maybe_unused]] reg<T>& x) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
  asm("" : "+v"(x.value.data));
#elif defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
  asm("" : "+x"(x.value.data));
#endif
}
/// `a * b + c`, rounded as `madd` rounds.
template <Lane T>
ASHLAR_INLINE reg<T> reg_madd(const reg<T>& a, const reg<T>& b, const reg<T>& c) {
  return {detail::native_madd(a.value, b.value, c.value)};
}

namespace detail {

#if defined(__SSE2__)
// One 128-bit column group of several rows: row r, then r + step, r + 2 * step ...
#if defined(__AVX512F__)
ASHLAR_INLINE __m512 gather_rows(const float* p, std::ptrdiff_t ld) {
  __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(p));
  x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(p + 4 * ld));
  x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(p + 8 * ld));
  return _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(p + 12 * ld));
}
ASHLAR_INLINE __m512d gather_rows(const double* p, std::ptrdiff_t ld) {
  __m512d x = _mm512_castpd128_pd512(_mm_loadu_pd(p));
  x = _mm512_insertf64x2(x, _mm_loadu_pd(p + 2 * ld), 1);
  x = _mm512_insertf64x2(x, _mm_loadu_pd(p + 4 * ld), 2);
  return _mm512_insertf64x2(x, _mm_loadu_pd(p + 6 * ld), 3);
}
ASHLAR_INLINE __m512 low(__m512 a, __m512 b) { return _mm512_unpacklo_ps(a, b); }
ASHLAR_INLINE __m512 high(__m512 a, __m512 b) { return _mm512_unpackhi_ps(a, b); }
ASHLAR_INLINE __m512d low(__m512d a, __m512d b) { return _mm512_unpacklo_pd(a, b); }
ASHLAR_INLINE __m512d high(__m512d a, __m512d b) { return _mm512_unpackhi_pd(a, b); }
ASHLAR_INLINE __m512 low_pair(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
ASHLAR_INLINE __m512 high_pair(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
#elif defined(__AVX__)
ASHLAR_INLINE __m256 gather_rows(const float* p, std::ptrdiff_t ld) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * ld), 1);
}
ASHLAR_INLINE __m256d gather_rows(const double* p, std::ptrdiff_t ld) {
  return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)), _mm_loadu_pd(p + 2 * ld), 1);
}
ASHLAR_INLINE __m256 low(__m256 a, __m256 b) { return _mm256_unpacklo_ps(a, b); }
ASHLAR_INLINE __m256 high(__m256 a, __m256 b) { return _mm256_unpackhi_ps(a, b); }
ASHLAR_INLINE __m256d low(__m256d a, __m256d b) { return _mm256_unpacklo_pd(a, b); }
ASHLAR_INLINE __m256d high(__m256d a, __m256d b) { return _mm256_unpackhi_pd(a, b); }
ASHLAR_INLINE __m256 low_pair(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
ASHLAR_INLINE __m256 high_pair(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
#else
ASHLAR_INLINE __m128 gather_rows(const float* p, std::ptrdiff_t) { return _mm_loadu_ps(p); }
ASHLAR_INLINE __m128d gather_rows(const double* p, std::ptrdiff_t) { return _mm_loadu_pd(p); }
ASHLAR_INLINE __m128 low(__m128 a, __m128 b) { return _mm_unpacklo_ps(a, b); }
ASHLAR_INLINE __m128 high(__m128 a, __m128 b) { return _mm_unpackhi_ps(a, b); }
ASHLAR_INLINE __m128d low(__m128d a, __m128d b) { return _mm_unpacklo_pd(a, b); }
ASHLAR_INLINE __m128d high(__m128d a, __m128d b) { return _mm_unpackhi_pd(a, b); }
ASHLAR_INLINE __m128 low_pair(__m128 a, __m128 b) { return _mm_movelh_ps(a, b); }
ASHLAR_INLINE __m128 high_pair(__m128 a, __m128 b) { return _mm_movehl_ps(b, a); }
#endif
#endif

}  // namespace detail

/// One value of each of `reg<T>::width` rows.
template <Lane T>
ASHLAR_INLINE reg<T> reg_load_column(const T* p, std::ptrdiff_t row) {
  T column[reg<T>::width];
  for (int r = 0; r < reg<T>::width; ++r) {
    column[r] = p[r * row];
  }
  return reg_load(column);
}

/// Columns that `reg_load_turned` takes at once: as many as fit into 128 bits.
template <Lane T>
inline constexpr int turned_columns = static_cast<int>(16 / sizeof(T));

/// Reads `turned_columns` consecutive values of `reg<T>::width` rows, turned: `to[q]` is column q.
template <Lane T>
  requires std::is_floating_point_v<T>
ASHLAR_INLINE void reg_load_turned(const T* p, std::ptrdiff_t row,
                                   reg<T> (&to)[turned_columns<T>]) {
#if defined(__SSE2__)
  // Registers are groups of 128 bits: group g of x[r] holds row 4 * g + r (2 * g + r for double),
  // so that shuffles within the groups finish the job.
  using native = detail::native<T>;
  const auto x0 = detail::gather_rows(p, row);
  const auto x1 = detail::gather_rows(p + row, row);
  if constexpr (sizeof(T) == 4) {
    const auto x2 = detail::gather_rows(p + 2 * row, row);
    const auto x3 = detail::gather_rows(p + 3 * row, row);
    const auto low01 = detail::low(x0, x1);
    const auto low23 = detail::low(x2, x3);
    const auto high01 = detail::high(x0, x1);
    const auto high23 = detail::high(x2, x3);
    to[0].value = native(detail::low_pair(low01, low23));
    to[1].value = native(detail::high_pair(low01, low23));
    to[2].value = native(detail::low_pair(high01, high23));
    to[3].value = native(detail::high_pair(high01, high23));
  } else {
    to[0].value = native(detail::low(x0, x1));
    to[1].value = native(detail::high(x0, x1));
  }
#else
  for (int q = 0; q < turned_columns<T>; ++q) {
    to[q] = reg_load_column(p + q, row);
  }
#endif
}

/// Whether `reg_turn` is there, for as many rows as a register has lanes: each a cache line.
template <Lane T>
inline constexpr bool turns_lines =
#ifdef __AVX512F__
    std::is_same_v<T, float>;
#else
    false;
#endif

/// Turns a square: lane r of `x[q]` becomes what lane q of `x[r]` was.
template <Lane T>
  requires turns_lines<T>
ASHLAR_INLINE void reg_turn([[maybe_unused]] reg<T> (&x)[reg<T>::width]) {
#ifdef __AVX512F__
  // Squares of four within groups of 128 bits first, then the groups.
  __m512 y[16];
  const auto turn_squares = [&](int g) __attribute__((always_inline)) {
    const __m512 low01 = detail::low(x[g].value, x[g + 1].value);
    const __m512 low23 = detail::low(x[g + 2].value, x[g + 3].value);
    const __m512 high01 = detail::high(x[g].value, x[g + 1].value);
    const __m512 high23 = detail::high(x[g + 2].value, x[g + 3].value);
    y[g] = detail::low_pair(low01, low23);
    y[g + 1] = detail::high_pair(low01, low23);
    y[g + 2] = detail::low_pair(high01, high23);
    y[g + 3] = detail::high_pair(high01, high23);
  };
  const auto turn_groups = [&](int q) __attribute__((always_inline)) {
    using native = detail::native<T>;
    const __m512 even0 = _mm512_shuffle_f32x4(y[q], y[4 + q], 0x88);
    const __m512 odd0 = _mm512_shuffle_f32x4(y[q], y[4 + q], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4(y[8 + q], y[12 + q], 0x88);
    const __m512 odd1 = _mm512_shuffle_f32x4(y[8 + q], y[12 + q], 0xdd);
    x[q].value = native(_mm512_shuffle_f32x4(even0, even1, 0x88));
    x[4 + q].value = native(_mm512_shuffle_f32x4(odd0, odd1, 0x88));
    x[8 + q].value = native(_mm512_shuffle_f32x4(even0, even1, 0xdd));
    x[12 + q].value = native(_mm512_shuffle_f32x4(odd0, odd1, 0xdd));
  };
  turn_squares(0);
  turn_squares(4);
  turn_squares(8);
  turn_squares(12);
  turn_groups(0);
  turn_groups(1);
  turn_groups(2);
  turn_groups(3);
#endif
}

/// Transposes `reg<T>::width` rows of `k` values: `to[j * to_row + r] = from[r * from_row + j]`.
template <Lane T>
  requires std::is_floating_point_v<T>
inline void transpose_rows(const T* from, std::ptrdiff_t from_row, std::ptrdiff_t k, T* to,
                           std::ptrdiff_t to_row) {
  std::ptrdiff_t j = 0;
  for (; j + turned_columns<T> <= k; j += turned_columns<T>) {
    reg<T> x[turned_columns<T>];
    reg_load_turned(from + j, from_row, x);
    for (int q = 0; q < turned_columns<T>; ++q) {
      reg_store(to + (j + q) * to_row, x[q]);
    }
  }
  for (; j < k; ++j) {
    reg_store(to + j * to_row, reg_load_column(from + j, from_row));
  }
}

}  // namespace ashlar::simd
