// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <cstring>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/simd/reg.hpp"

namespace ashlar::chip::detail {

/// Copies `k` rows of a strip of B so that one row is `regs` registers; the last register of a row
/// holds the columns from `last` on. A single register with fewer than `width` columns is filled up
/// with zeros.
template <class T>
void gemm_pack_b(const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k, int regs,
                 std::int64_t last, std::int64_t columns, T* out) {
  constexpr int width = simd::reg<T>::width;
  const std::int64_t out_row = static_cast<std::int64_t>(regs) * width;
  if (columns < width) {
    for (std::int64_t i = 0; i < k; ++i) {
      for (std::int64_t j = 0; j < width; ++j) {
        out[i * width + j] = j < columns ? b[i * b_row + j * b_col] : T(0);
      }
    }
    return;
  }
  if (b_col == 1) {
    for (std::int64_t i = 0; i < k; ++i) {
      const T* from = b + i * b_row;
      T* to = out + i * out_row;
      for (int v = 0; v < regs - 1; ++v) {
        simd::reg_store(to + v * width, simd::reg_load(from + v * width));
      }
      simd::reg_store(to + (regs - 1) * width, simd::reg_load(from + last));
    }
    return;
  }
  for (int v = 0; v < regs; ++v) {
    const T* from = b + (v == regs - 1 ? last : v * width) * b_col;
    T* to = out + v * width;
    if (b_row == 1) {
      simd::transpose_rows(from, b_col, k, to, out_row);
    } else {
      for (std::int64_t i = 0; i < k; ++i) {
        for (int j = 0; j < width; ++j) {
          to[i * out_row + j] = from[i * b_row + j * b_col];
        }
      }
    }
  }
}

/// Copies `rows` rows of A so that the values of one k lie together.
template <class T>
void gemm_pack_a(const T* a, std::int64_t a_row, std::int64_t a_col, std::int64_t k, int rows,
                 T* out) {
  constexpr int full = default_gemm_tiling<T>.rows;
  if (a_row == 1 && rows == full) {
    for (std::int64_t i = 0; i < k; ++i) {
      std::memcpy(out + i * full, a + i * a_col, full * sizeof(T));
    }
    return;
  }
  for (std::int64_t i = 0; i < k; ++i) {
    for (int r = 0; r < rows; ++r) {
      out[i * rows + r] = a[r * a_row + i * a_col];
    }
  }
}

}  // namespace ashlar::chip::detail
