// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

#include "ashlar/config.hpp"
#include "ashlar/simd/detail/native.hpp"

/// Folding a register onto itself: lane i with lane i + half its width, down to one lane.
namespace ashlar::simd::detail {

#if defined(__SSE2__)

// As native_max and native_min, on 128 bits.
ASHLAR_INLINE __m128 choose(__m128 mask, __m128 a, __m128 b) {
  return _mm_or_ps(_mm_and_ps(mask, a), _mm_andnot_ps(mask, b));
}
ASHLAR_INLINE __m128d choose(__m128d mask, __m128d a, __m128d b) {
  return _mm_or_pd(_mm_and_pd(mask, a), _mm_andnot_pd(mask, b));
}
ASHLAR_INLINE __m128 raw_max(__m128 a, __m128 b) {
  return choose(_mm_cmpunord_ps(a, a), a, _mm_max_ps(a, b));
}
ASHLAR_INLINE __m128 raw_min(__m128 a, __m128 b) {
  return choose(_mm_cmpunord_ps(a, a), a, _mm_min_ps(a, b));
}
ASHLAR_INLINE __m128d raw_max(__m128d a, __m128d b) {
  return choose(_mm_cmpunord_pd(a, a), a, _mm_max_pd(a, b));
}
ASHLAR_INLINE __m128d raw_min(__m128d a, __m128d b) {
  return choose(_mm_cmpunord_pd(a, a), a, _mm_min_pd(a, b));
}
ASHLAR_INLINE __m128 raw_add(__m128 a, __m128 b) { return _mm_add_ps(a, b); }
ASHLAR_INLINE __m128d raw_add(__m128d a, __m128d b) { return _mm_add_pd(a, b); }
#if defined(__AVX__)
ASHLAR_INLINE __m256 raw_add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
ASHLAR_INLINE __m256d raw_add(__m256d a, __m256d b) { return _mm256_add_pd(a, b); }
#endif

template <class F>
ASHLAR_INLINE float fold(__m128 x, const F& f) {
  x = f(x, _mm_movehl_ps(x, x));
  x = f(x, _mm_shuffle_ps(x, x, 1));
  return _mm_cvtss_f32(x);
}
template <class F>
ASHLAR_INLINE double fold(__m128d x, const F& f) {
  return _mm_cvtsd_f64(f(x, _mm_unpackhi_pd(x, x)));
}
#if defined(__AVX__)
template <class F>
ASHLAR_INLINE float fold(__m256 x, const F& f) {
  return fold(f(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)), f);
}
template <class F>
ASHLAR_INLINE double fold(__m256d x, const F& f) {
  return fold(f(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1)), f);
}
#endif
#if defined(__AVX512F__)
template <class F>
ASHLAR_INLINE float fold(__m512 x, const F& f) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  return fold(f(_mm512_castps512_ps256(x), high), f);
}
template <class F>
ASHLAR_INLINE double fold(__m512d x, const F& f) {
  return fold(f(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)), f);
}
#endif

ASHLAR_INLINE float lowest(__m128 x) { return _mm_cvtss_f32(x); }
ASHLAR_INLINE double lowest(__m128d x) { return _mm_cvtsd_f64(x); }
#if defined(__AVX__)
ASHLAR_INLINE float lowest(__m256 x) { return lowest(_mm256_castps256_ps128(x)); }
ASHLAR_INLINE double lowest(__m256d x) { return lowest(_mm256_castpd256_pd128(x)); }
#endif
#if defined(__AVX512F__)
ASHLAR_INLINE float lowest(__m512 x) { return lowest(_mm512_castps512_ps128(x)); }
ASHLAR_INLINE double lowest(__m512d x) { return lowest(_mm512_castpd512_pd128(x)); }
#endif

struct folded_sum {
  template <class B>
  ASHLAR_INLINE B across(const B& a, const B& b) const {
    return a + b;
  }
  template <class R>
  ASHLAR_INLINE R operator()(const R& a, const R& b) const {
    return raw_add(a, b);
  }
};
struct folded_max {
  template <class B>
  ASHLAR_INLINE B across(const B& a, const B& b) const {
    return native_max(a, b);
  }
  template <class R>
  ASHLAR_INLINE R operator()(const R& a, const R& b) const {
    return raw_max(a, b);
  }
};
struct folded_min {
  template <class B>
  ASHLAR_INLINE B across(const B& a, const B& b) const {
    return native_min(a, b);
  }
  template <class R>
  ASHLAR_INLINE R operator()(const R& a, const R& b) const {
    return raw_min(a, b);
  }
};

#endif

}  // namespace ashlar::simd::detail
