// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/detail/native.hpp"

/// One native register of floats from and to narrow formats; rounding is to nearest even.
namespace ashlar::simd::detail {

template <class T, class S>
ASHLAR_INLINE native<T> native_load_as(const S* p) {
  alignas(64) T buffer[native<T>::size];
  for (std::size_t i = 0; i < native<T>::size; ++i) {
    buffer[i] = static_cast<T>(p[i]);
  }
  return native<T>::load_aligned(buffer);
}

template <class S, class T>
ASHLAR_INLINE void native_store_as(S* p, const native<T>& x) {
  alignas(64) T buffer[native<T>::size];
  x.store_aligned(buffer);
  for (std::size_t i = 0; i < native<T>::size; ++i) {
    p[i] = static_cast<S>(buffer[i]);
  }
}

#if defined(__AVX512F__)

ASHLAR_INLINE __m256i load_16_bits(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
template <>
ASHLAR_INLINE native<float> native_load_as<float, float16>(const float16* p) {
  return native<float>(_mm512_cvtph_ps(load_16_bits(p)));
}
template <>
ASHLAR_INLINE native<float> native_load_as<float, bfloat16>(const bfloat16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(load_16_bits(p));
  return native<float>(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
}
ASHLAR_INLINE __m128i load_8_bits(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
template <>
ASHLAR_INLINE native<float> native_load_as<float, float8_e5m2>(const float8_e5m2* p) {
  // The upper byte of a float16; every NaN becomes the one that the scalar conversion has.
  const __m256i half = _mm256_slli_epi16(_mm256_cvtepu8_epi16(load_8_bits(p)), 8);
  const __m256i size = _mm256_and_si256(half, _mm256_set1_epi16(0x7fff));
  const __m256i nan = _mm256_cmpgt_epi16(size, _mm256_set1_epi16(0x7c00));
  const __m256i only = _mm256_xor_si256(_mm256_xor_si256(half, size), _mm256_set1_epi16(0x7e00));
  return native<float>(_mm512_cvtph_ps(_mm256_blendv_epi8(half, only, nan)));
}
template <>
ASHLAR_INLINE native<float> native_load_as<float, float8_e4m3>(const float8_e4m3* p) {
  const __m512i bits = _mm512_cvtepu8_epi32(load_8_bits(p));
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x80)), 24);
  const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7f));
  const __m512i normal =
      _mm512_add_epi32(_mm512_slli_epi32(size, 20), _mm512_set1_epi32(0x3c000000));
  const __m512i small =
      _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(size), _mm512_set1_ps(0x1p-9f)));
  const __mmask16 is_small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(8));
  const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(size, _mm512_set1_epi32(0x7f));
  const __m512i value = _mm512_mask_mov_epi32(_mm512_mask_mov_epi32(normal, is_small, small),
                                              is_nan, _mm512_set1_epi32(0x7fc00000));
  return native<float>(_mm512_castsi512_ps(_mm512_or_si512(sign, value)));
}
template <>
ASHLAR_INLINE void native_store_as<float16, float>(float16* p, const native<float>& x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
template <>
ASHLAR_INLINE void native_store_as<bfloat16, float>(bfloat16* p, const native<float>& x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i result = _mm512_mask_mov_epi32(rounded, nan, quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16)));
}

#elif defined(__AVX2__)

ASHLAR_INLINE __m128i load_16_bits(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
#if defined(__F16C__)
template <>
ASHLAR_INLINE native<float> native_load_as<float, float16>(const float16* p) {
  return native<float>(_mm256_cvtph_ps(load_16_bits(p)));
}
template <>
ASHLAR_INLINE void native_store_as<float16, float>(float16* p, const native<float>& x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#endif
template <>
ASHLAR_INLINE native<float> native_load_as<float, bfloat16>(const bfloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(load_16_bits(p));
  return native<float>(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}
template <>
ASHLAR_INLINE void native_store_as<bfloat16, float>(bfloat16* p, const native<float>& x) {
  const __m256 value = x;
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i result = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
}

#endif

}  // namespace ashlar::simd::detail
