// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/reg.hpp"

/// Products of narrow elements by the instructions that add up a group of them at once.
///
/// A group is 32 bits: two bfloat16 or four int8 that follow each other along K. A step is 64 bytes
/// along K, sixteen groups. Operands lie in blocks of 1 KiB, one step deep:
///   A: (row, group)    of sixteen rows,    64 bytes of a row side by side
///   B: (group, column) of sixteen columns, a register to a group
namespace ashlar::simd {

/// Types that have such instructions on some machine.
template <class T>
concept Grouped = std::same_as<T, bfloat16> || std::same_as<T, std::int8_t>;

/// What their products add up in.
template <Grouped T>
using group_sum = std::conditional_t<std::same_as<T, std::int8_t>, std::int32_t, float>;

template <Grouped T>
inline constexpr int group_size = static_cast<int>(4 / sizeof(T));
/// Elements along K of one step.
template <Grouped T>
inline constexpr int step_size = static_cast<int>(64 / sizeof(T));
/// Rows of a block of A, and columns of a block of B.
inline constexpr int block_side = 16;
inline constexpr std::int64_t block_bytes = 1024;

/// True where registers have these instructions (AVX512_BF16, AVX512_VNNI).
// clang 16 crashes while it makes code for a broadcast of bfloat16 pairs.
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    !(defined(__clang__) && __clang_major__ < 17)
#define ASHLAR_DETAIL_BF16_GROUPS 1
#else
#define ASHLAR_DETAIL_BF16_GROUPS 0
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define ASHLAR_DETAIL_INT8_GROUPS 1
#else
#define ASHLAR_DETAIL_INT8_GROUPS 0
#endif
template <class T>
inline constexpr bool has_groups = (std::same_as<T, bfloat16> && ASHLAR_DETAIL_BF16_GROUPS) ||
                                   (std::same_as<T, std::int8_t> && ASHLAR_DETAIL_INT8_GROUPS);

#if ASHLAR_DETAIL_BF16_GROUPS || ASHLAR_DETAIL_INT8_GROUPS

namespace detail {

/// The first `n` bits.
ASHLAR_INLINE __mmask64 first_bytes(std::int64_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

/// Turns sixteen rows of sixteen 32-bit values: `to[16 j + i] = from[16 i + j]`.
ASHLAR_INLINE void turn_block(const void* from, void* to) {
  const auto* const in = static_cast<const float*>(from);
  auto* const out = static_cast<float*>(to);
  for (int j = 0; j < block_side; j += turned_columns<float>) {
    reg<float> x[turned_columns<float>];
    reg_load_turned(in + j, block_side, x);
    for (int q = 0; q < turned_columns<float>; ++q) {
      reg_store(out + (j + q) * block_side, x[q]);
    }
  }
}

/// Up to sixteen lines, `line` elements apart, of up to 64 bytes; zeros fill up the rest.
template <Grouped T>
ASHLAR_INLINE void copy_lines(const T* p, std::ptrdiff_t line, std::int64_t lines,
                              std::int64_t elements, void* to) {
  const __mmask64 mask = first_bytes(elements * static_cast<std::int64_t>(sizeof(T)));
  auto* const out = static_cast<std::byte*>(to);
  std::int64_t i = 0;
  for (; i < lines; ++i) {
    _mm512_store_si512(out + 64 * i, _mm512_maskz_loadu_epi8(mask, p + i * line));
  }
  for (; i < block_side; ++i) {
    _mm512_store_si512(out + 64 * i, _mm512_setzero_si512());
  }
}

/// Up to a step of lines, `line` elements apart, of up to sixteen elements, group by group.
template <Grouped T>
ASHLAR_INLINE void join_lines(const T* p, std::ptrdiff_t line, std::int64_t lines,
                              std::int64_t elements, void* to) {
  constexpr int size = group_size<T>;
  const auto mask = static_cast<__mmask16>((1u << elements) - 1u);
  const auto read = [&](std::int64_t i) {
    if constexpr (std::same_as<T, bfloat16>) {
      return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + i * line));
    } else {
      return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p + i * line));
    }
  };
  auto* const out = static_cast<std::byte*>(to);
  for (int g = 0; g < block_side; ++g) {
    __m512i x = _mm512_setzero_si512();
    for (int q = 0; q < size; ++q) {
      if (g * size + q < lines) {
        x = _mm512_or_si512(
            x, _mm512_slli_epi32(read(g * size + q), static_cast<unsigned>(q * (32 / size))));
      }
    }
    _mm512_store_si512(out + 64 * g, x);
  }
}

/// Any strides, one element at a time, line by line.
template <Grouped T>
inline void gather_lines(const T* p, std::ptrdiff_t line, std::ptrdiff_t element,
                         std::int64_t lines, std::int64_t elements, void* to) {
  auto* const out = static_cast<T*>(to);
  std::memset(to, 0, block_bytes);
  for (std::int64_t i = 0; i < lines; ++i) {
    for (std::int64_t j = 0; j < elements; ++j) {
      out[i * step_size<T> + j] = p[i * line + j * element];
    }
  }
}

}  // namespace detail

/// Fills a block of A from up to sixteen rows and up to one step along K.
template <Grouped T>
ASHLAR_INLINE void pack_block_a(const T* p, std::ptrdiff_t row, std::ptrdiff_t column,
                                std::int64_t rows, std::int64_t depth, void* to) {
  if (column == 1) {
    detail::copy_lines(p, row, rows, depth, to);
  } else if (row == 1) {
    alignas(64) std::byte turned[block_bytes];
    detail::join_lines(p, column, depth, rows, turned);
    detail::turn_block(turned, to);
  } else {
    detail::gather_lines(p, row, column, rows, depth, to);
  }
}

/// Fills a block of B from up to one step along K and up to sixteen columns.
template <Grouped T>
ASHLAR_INLINE void pack_block_b(const T* p, std::ptrdiff_t row, std::ptrdiff_t column,
                                std::int64_t depth, std::int64_t columns, void* to) {
  if (column == 1) {
    detail::join_lines(p, row, depth, columns, to);
    return;
  }
  alignas(64) std::byte turned[block_bytes];
  if (row == 1) {
    detail::copy_lines(p, column, columns, depth, turned);
  } else {
    detail::gather_lines(p, column, row, columns, depth, turned);
  }
  detail::turn_block(turned, to);
}

/// Columns of a line of 64 bytes, in blocks of B.
template <Grouped T>
inline constexpr int line_blocks = step_size<T> / block_side;

/// Fills `line_blocks<T>` blocks of B, `apart` bytes apart, from a whole step of whole lines: each
/// line is read once.
template <Grouped T>
ASHLAR_INLINE void pack_line_of_blocks_b(const T* p, std::ptrdiff_t row, std::byte* to,
                                         std::int64_t apart) {
  const auto line = [&](int i) { return _mm512_loadu_si512(p + i * row); };
  for (int g = 0; g < block_side; ++g, p += group_size<T> * row, to += 64) {
    if constexpr (std::same_as<T, bfloat16>) {
      // Pairs of columns 8 l to 8 l + 3, and 8 l + 4 to 8 l + 7, in part l.
      const __m512i x = _mm512_unpacklo_epi16(line(0), line(1));
      const __m512i y = _mm512_unpackhi_epi16(line(0), line(1));
      const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
      const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
      _mm512_store_si512(to, _mm512_permutex2var_epi64(x, first, y));
      _mm512_store_si512(to + apart, _mm512_permutex2var_epi64(x, second, y));
    } else {
      const __m512i x = _mm512_unpacklo_epi8(line(0), line(1));
      const __m512i y = _mm512_unpacklo_epi8(line(2), line(3));
      const __m512i z = _mm512_unpackhi_epi8(line(0), line(1));
      const __m512i w = _mm512_unpackhi_epi8(line(2), line(3));
      // Fours of columns 16 l + 4 q to 16 l + 4 q + 3 in part l of register q.
      const __m512i q[4] = {_mm512_unpacklo_epi16(x, y), _mm512_unpackhi_epi16(x, y),
                            _mm512_unpacklo_epi16(z, w), _mm512_unpackhi_epi16(z, w)};
      const __m512i a = _mm512_shuffle_i32x4(q[0], q[1], 0x44);
      const __m512i b = _mm512_shuffle_i32x4(q[2], q[3], 0x44);
      const __m512i c = _mm512_shuffle_i32x4(q[0], q[1], 0xee);
      const __m512i d = _mm512_shuffle_i32x4(q[2], q[3], 0xee);
      _mm512_store_si512(to, _mm512_shuffle_i32x4(a, b, 0x88));
      _mm512_store_si512(to + apart, _mm512_shuffle_i32x4(a, b, 0xdd));
      _mm512_store_si512(to + 2 * apart, _mm512_shuffle_i32x4(c, d, 0x88));
      _mm512_store_si512(to + 3 * apart, _mm512_shuffle_i32x4(c, d, 0xdd));
    }
  }
}

/// `acc + sum of A's group times B's groups`, for a register of columns.
///
/// bfloat16: one rounding (to nearest even) per product that is added; numbers below the normal
/// ones read as 0 and become 0. int8: exact modulo 2^32; A's elements are biased by 128.
template <Grouped T>
ASHLAR_INLINE reg<group_sum<T>> group_madd(std::int32_t a, const reg<std::int32_t>& b,
                                           const reg<group_sum<T>>& acc) {
  const __m512i x = _mm512_set1_epi32(a);
#if ASHLAR_DETAIL_BF16_GROUPS
  if constexpr (std::same_as<T, bfloat16>) {
    return {detail::native<float>(_mm512_dpbf16_ps(acc.value, reinterpret_cast<__m512bh>(x),
                                                   reinterpret_cast<__m512bh>(b.value.data)))};
  }
#endif
#if ASHLAR_DETAIL_INT8_GROUPS
  if constexpr (std::same_as<T, std::int8_t>) {
    return {detail::native<std::int32_t>(_mm512_dpbusd_epi32(acc.value, x, b.value))};
  }
#endif
}

#if ASHLAR_DETAIL_INT8_GROUPS
/// Adds 128 to every int8 of a block of A: `group_madd` reads them as unsigned numbers.
ASHLAR_INLINE void bias_block(void* block) {
  auto* const p = static_cast<std::byte*>(block);
  for (int i = 0; i < block_side; ++i) {
    _mm512_store_si512(p + 64 * i,
                       _mm512_xor_si512(_mm512_load_si512(p + 64 * i), _mm512_set1_epi8(-128)));
  }
}

/// `sum + 128 times the sum of each column` of a block of B: what the bias of A adds.
ASHLAR_INLINE reg<std::int32_t> add_bias_of_block(const void* block, const reg<std::int32_t>& sum) {
  const auto* const p = static_cast<const std::byte*>(block);
  __m512i total = sum.value;
  for (int g = 0; g < block_side; ++g) {
    total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(-128), _mm512_load_si512(p + 64 * g));
  }
  return {detail::native<std::int32_t>(total)};
}
#endif

#endif

}  // namespace ashlar::simd
