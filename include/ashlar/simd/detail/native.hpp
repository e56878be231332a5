// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/config.hpp"

// g++ 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512BW__) && !defined(__OPTIMIZE__)
// Without optimisation g++ makes macros of these, whose casts refuse the batches that xsimd passes.
#undef _mm512_mask_blend_epi8
#undef _mm512_mask_blend_epi16
inline __m512i _mm512_mask_blend_epi8(__mmask64 mask, __m512i a, __m512i b) {
  return (__m512i)__builtin_ia32_blendmb_512_mask((__v64qi)a, (__v64qi)b, mask);
}
inline __m512i _mm512_mask_blend_epi16(__mmask32 mask, __m512i a, __m512i b) {
  return (__m512i)__builtin_ia32_blendmw_512_mask((__v32hi)a, (__v32hi)b, mask);
}
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/// What xsimd 8.1 lacks or does differently from later versions, on native registers.
///
/// One overload per register type; the unconstrained templates serve the other architectures.
namespace ashlar::simd::detail {

template <class T>
using native = xsimd::batch<T>;
template <class T>
using native_mask = xsimd::batch_bool<T>;

// --- multiply-add: one rounding where the machine has it ---------------------------------------

#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
inline constexpr bool fused_madd = true;
#else
inline constexpr bool fused_madd = false;
#endif

template <class B>
ASHLAR_INLINE B native_madd(const B& a, const B& b, const B& c) {
#if defined(__AVX512F__)
  // xsimd before 11 leaves the fusing to the compiler here.
  if constexpr (std::is_same_v<B, native<float>>) {
    return B(_mm512_fmadd_ps(a, b, c));
  } else if constexpr (std::is_same_v<B, native<double>>) {
    return B(_mm512_fmadd_pd(a, b, c));
  } else {
    return a * b + c;
  }
#elif defined(__FMA__) && defined(__AVX__)
  if constexpr (std::is_same_v<B, native<float>>) {
    return B(_mm256_fmadd_ps(a, b, c));
  } else if constexpr (std::is_same_v<B, native<double>>) {
    return B(_mm256_fmadd_pd(a, b, c));
  } else {
    return a * b + c;
  }
#else
  if constexpr (fused_madd && std::is_floating_point_v<typename B::value_type>) {
    return xsimd::fma(a, b, c);
  } else {
    return a * b + c;
  }
#endif
}

template <class T>
ASHLAR_INLINE T scalar_madd(T a, T b, T c) {
  if constexpr (fused_madd) {
    return std::fma(a, b, c);
  } else {
    return a * b + c;
  }
}

/// The same bits as lanes of another type.
template <class To, class From>
ASHLAR_INLINE native<To> native_bits_as(const xsimd::batch<From>& x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    return xsimd::bitwise_cast<native<To>>(x);
  }
}

/// A mask for lanes of another type of the same size.
template <class To, class From>
ASHLAR_INLINE native_mask<To> native_mask_cast(const xsimd::batch_bool<From>& m) {
  using to_register = typename native_mask<To>::register_type;
  using from_register = typename native_mask<From>::register_type;
  // Not `is_same`: as template arguments registers lose their attributes, of which g++ warns.
  if constexpr (requires(to_register* a, from_register* b) { a = b; }) {
    return native_mask<To>(m.data);
  } else {
    // Bits that are neither 0 nor a subnormal number in either type.
    const native<From> one = native_bits_as<From>(native<float>(1.0f));
    return native<To>(0) != native_bits_as<To>(xsimd::select(m, one, native<From>(0)));
  }
}

// --- maximum and minimum: a NaN on either side gives a NaN -------------------------------------

#if defined(__AVX512F__)
ASHLAR_INLINE __m512 raw_max(__m512 a, __m512 b) {
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
ASHLAR_INLINE __m512 raw_min(__m512 a, __m512 b) {
  return _mm512_mask_mov_ps(_mm512_min_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
ASHLAR_INLINE __m512d raw_max(__m512d a, __m512d b) {
  return _mm512_mask_mov_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), a);
}
ASHLAR_INLINE __m512d raw_min(__m512d a, __m512d b) {
  return _mm512_mask_mov_pd(_mm512_min_pd(a, b), _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), a);
}
#endif
#if defined(__AVX__)
ASHLAR_INLINE __m256 raw_max(__m256 a, __m256 b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
ASHLAR_INLINE __m256 raw_min(__m256 a, __m256 b) {
  return _mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
ASHLAR_INLINE __m256d raw_max(__m256d a, __m256d b) {
  return _mm256_blendv_pd(_mm256_max_pd(a, b), a, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
}
ASHLAR_INLINE __m256d raw_min(__m256d a, __m256d b) {
  return _mm256_blendv_pd(_mm256_min_pd(a, b), a, _mm256_cmp_pd(a, a, _CMP_UNORD_Q));
}
#endif

template <class B>
ASHLAR_INLINE B native_max(const B& a, const B& b) {
  using T = typename B::value_type;
  if constexpr (!std::is_floating_point_v<T>) {
    return xsimd::max(a, b);
  } else {
#if defined(__AVX__)
    return B(raw_max(a.data, b.data));
#else
    const B m = xsimd::select(a > b, a, b);  // b where either is NaN
    return xsimd::select(a == a, m, a);
#endif
  }
}

template <class B>
ASHLAR_INLINE B native_min(const B& a, const B& b) {
  using T = typename B::value_type;
  if constexpr (!std::is_floating_point_v<T>) {
    return xsimd::min(a, b);
  } else {
#if defined(__AVX__)
    return B(raw_min(a.data, b.data));
#else
    const B m = xsimd::select(a < b, a, b);
    return xsimd::select(a == a, m, a);
#endif
  }
}

/// xsimd 8.1 goes through integers, which infinity does not fit into, before SSE4.1, and on AVX-512
/// one lane at a time.
template <class B>
ASHLAR_INLINE B native_floor(const B& x) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<B, native<float>>) {
    return B(_mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  } else {
    return B(_mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  }
#elif defined(__SSE2__) && !defined(__SSE4_1__)
  using T = typename B::value_type;
  const B whole(static_cast<T>(std::int64_t{1} << (std::numeric_limits<T>::digits - 1)));
  const B sign = x & B(-T(0));
  const B size = x ^ sign;
  const B nearest = ((size + whole) - whole) | sign;
  const B below = xsimd::select(nearest > x, nearest - B(T(1)), nearest) | sign;
  return xsimd::select(size < whole, below, x);
#else
  return xsimd::floor(x);
#endif
}

// --- the first n lanes of one register, 0 <= n <= its width ------------------------------------

#if defined(__AVX__) && !defined(__AVX512F__)
// A window that starts at 8 - n has n lanes set, then clear ones.
inline constexpr std::int32_t window_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                  0,  0,  0,  0,  0,  0,  0,  0};
template <class T>
ASHLAR_INLINE __m256i window(int n) {
  const int words = n * static_cast<int>(sizeof(T) / 4);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(window_masks + 8 - words));
}
#endif

template <class T>
ASHLAR_INLINE native<T> native_load(const T* p, int n, const native<T>& fill) {
#if defined(__AVX512F__)
  const unsigned mask = (1u << n) - 1u;
  if constexpr (std::is_same_v<T, float>) {
    return native<T>(_mm512_mask_loadu_ps(fill, static_cast<__mmask16>(mask), p));
  } else if constexpr (std::is_same_v<T, double>) {
    return native<T>(_mm512_mask_loadu_pd(fill, static_cast<__mmask8>(mask), p));
  } else {
    static_assert(std::is_same_v<T, std::int32_t>);
    return native<T>(_mm512_mask_loadu_epi32(fill, static_cast<__mmask16>(mask), p));
  }
#elif defined(__AVX2__)
  const __m256i mask = window<T>(n);
  if constexpr (std::is_same_v<T, float>) {
    return native<T>(
        _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)));
  } else if constexpr (std::is_same_v<T, double>) {
    return native<T>(
        _mm256_blendv_pd(fill, _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask)));
  } else {
    static_assert(std::is_same_v<T, std::int32_t>);
    return native<T>(_mm256_blendv_epi8(fill, _mm256_maskload_epi32(p, mask), mask));
  }
#else
  alignas(64) T buffer[native<T>::size];
  fill.store_aligned(buffer);
  for (int i = 0; i < n; ++i) {
    buffer[i] = p[i];
  }
  return native<T>::load_aligned(buffer);
#endif
}

/// Writes past the caches where the machine can. Requires: `p` is a multiple of the register's
/// size.
template <class T>
ASHLAR_INLINE void native_stream(T* p, const native<T>& x) {
#ifdef __SSE2__
  if constexpr (sizeof(native<T>) == sizeof(__m128i)) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), std::bit_cast<__m128i>(x));
    return;
  }
#endif
#ifdef __AVX__
  if constexpr (sizeof(native<T>) == sizeof(__m256i)) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), std::bit_cast<__m256i>(x));
    return;
  }
#endif
#ifdef __AVX512F__
  if constexpr (sizeof(native<T>) == sizeof(__m512i)) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), std::bit_cast<__m512i>(x));
    return;
  }
#endif
  x.store_unaligned(p);
}

template <class T>
ASHLAR_INLINE void native_store(T* p, int n, const native<T>& x) {
#if defined(__AVX512F__)
  const unsigned mask = (1u << n) - 1u;
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), x);
  } else if constexpr (std::is_same_v<T, double>) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), x);
  } else {
    static_assert(std::is_same_v<T, std::int32_t>);
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>(mask), x);
  }
#elif defined(__AVX2__)
  const __m256i mask = window<T>(n);
  if constexpr (std::is_same_v<T, float>) {
    _mm256_maskstore_ps(p, mask, x);
  } else if constexpr (std::is_same_v<T, double>) {
    _mm256_maskstore_pd(p, mask, x);
  } else {
    static_assert(std::is_same_v<T, std::int32_t>);
    _mm256_maskstore_epi32(p, mask, x);
  }
#else
  alignas(64) T buffer[native<T>::size];
  x.store_aligned(buffer);
  for (int i = 0; i < n; ++i) {
    p[i] = buffer[i];
  }
#endif
}

}  // namespace ashlar::simd::detail
