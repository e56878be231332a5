// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/detail/gemm_paths.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

/// Products of narrow elements in float: blocks are widened and multiplied by the kernels for
/// float.
namespace ashlar::chip::detail {

struct narrow_wide;

/// A block of a matrix as float, its unit stride kept: returns {pointer, row stride, column
/// stride}.
struct wide_block {
  const float* data;
  std::int64_t row, column;

  template <class T>
  wide_block(const T* from, std::int64_t from_row, std::int64_t from_column, std::int64_t rows,
             std::int64_t columns, float* to)
      : data(to), row(columns), column(1) {
    if (from_column != 1 && from_row == 1) {
      std::swap(from_row, from_column);
      std::swap(rows, columns);
      row = 1;
      column = columns;
    }
    for (std::int64_t i = 0; i < rows; ++i, from += from_row, to += columns) {
      widen(from, from_column, columns, to);
    }
  }

 private:
  template <class T>
  static void widen(const T* from, std::int64_t step, std::int64_t n, float* to) {
    std::int64_t j = 0;
    if constexpr (!std::is_integral_v<T>) {
      if (step == 1) {
        for (; j + simd::lanes <= n; j += simd::lanes) {
          simd::store(to + j, simd::load_as<float>(from + j));
        }
      }
    }
    for (; j < n; ++j) {
      to[j] = static_cast<float>(from[j * step]);
    }
  }
};

/// One row times a B stored by rows, which is read once where it lies and widened in registers, a
/// few whole rows at a time as in `gemm_sweep`. Requires: unit strides of B's and C's columns.
template <class T>
void widened_sweep(const gemm_args<T, float>& g) {
  // 125 million float16 on one core of Zen 5: 8.6 ms, reading them alone 8.0. Eight rows at a time
  // without fetching 11.1, with it 9.2; sixteen 10.6 and 9.5.
  constexpr int deep = 4;
  constexpr int ahead = 8;  // rows
  const auto sweep = [&]<int Depth>(std::integral_constant<int, Depth>, std::int64_t k) {
    float a[Depth];
    for (int d = 0; d < Depth; ++d) {
      a[d] = static_cast<float>(g.a[(k + d) * g.a_col]);
    }
    const T* const b = g.b + k * g.b_row;
    const bool first = k == 0 && g.start == nullptr;
    std::int64_t j = 0;
    for (; j + simd::lanes <= g.n; j += simd::lanes) {
      auto sum = first ? simd::broadcast(0.0F) : simd::load(g.c + j);
      ASHLAR_DETAIL_UNROLL for (int d = 0; d < Depth; ++d) {
        __builtin_prefetch(b + (d + ahead) * g.b_row + j);
        sum = simd::madd(simd::broadcast(a[d]), simd::load_as<float>(b + d * g.b_row + j), sum);
      }
      simd::store(g.c + j, sum);
    }
    for (; j < g.n; ++j) {
      float sum = first ? 0.0F : g.c[j];
      for (int d = 0; d < Depth; ++d) {
        sum = simd::madd(a[d], static_cast<float>(b[d * g.b_row + j]), sum);
      }
      g.c[j] = sum;
    }
  };
  std::int64_t k = 0;
  for (; k + deep <= g.k; k += deep) {
    sweep(std::integral_constant<int, deep>{}, k);
  }
  for (; k < g.k; ++k) {
    sweep(std::integral_constant<int, 1>{}, k);
  }
}

/// On the calling thread. Floats: the chain of `gemm` over widened elements. int8: exact, since a
/// block's sums stay below 2^24. Requires: `start` is null or C itself.
template <class T, class R>
void widened_multiply(const gemm_args<T, R>& g) {
  if constexpr (!std::is_integral_v<T>) {
    if (g.m == 1 && g.b_col == 1 && g.c_col == 1) {
      widened_sweep(g);
      return;
    }
  }
  constexpr std::int64_t block_k = 512;  // at most 1024, for int8
  constexpr std::int64_t block_n = 256;
  constexpr std::int64_t block_m = 128;
  constexpr bool integers = std::is_integral_v<R>;
  const std::int64_t depth = std::min(block_k, g.k);
  const std::int64_t across = std::min(block_n, g.n);
  const std::int64_t down = std::min(block_m, g.m);
  float* const wide_b =
      gemm_scratch<float, narrow_wide>(depth * (across + down) + (integers ? down * across : 0));
  float* const wide_a = wide_b + depth * across;
  float* const sums = wide_a + depth * down;
  for (std::int64_t j = 0; j < g.n; j += block_n) {
    const std::int64_t columns = std::min(block_n, g.n - j);
    for (std::int64_t k = 0; k < g.k; k += block_k) {
      const std::int64_t deep = std::min(block_k, g.k - k);
      const wide_block b(g.b + k * g.b_row + j * g.b_col, g.b_row, g.b_col, deep, columns, wide_b);
      for (std::int64_t i = 0; i < g.m; i += block_m) {
        const std::int64_t rows = std::min(block_m, g.m - i);
        const wide_block a(g.a + i * g.a_row + k * g.a_col, g.a_row, g.a_col, rows, deep, wide_a);
        R* const c = g.c + i * g.c_row + j * g.c_col;
        const bool first = k == 0 && g.start == nullptr;
        gemm_args<float> now{.m = rows,
                             .n = columns,
                             .k = deep,
                             .a = a.data,
                             .a_row = a.row,
                             .a_col = a.column,
                             .b = b.data,
                             .b_row = b.row,
                             .b_col = b.column};
        if constexpr (integers) {
          now.c = sums;
          now.c_row = columns;
          gemm_serial(now);
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t q = 0; q < columns; ++q) {
              R& to = c[r * g.c_row + q * g.c_col];
              // Wraps around, as int32 does in tile programs.
              to =
                  static_cast<R>(static_cast<std::uint32_t>(first ? R(0) : to) +
                                 static_cast<std::uint32_t>(static_cast<R>(sums[r * columns + q])));
            }
          }
        } else {
          now.c = c;
          now.c_row = g.c_row;
          now.c_col = g.c_col;
          if (!first) {
            now.start = c;
            now.start_row = g.c_row;
            now.start_col = g.c_col;
          }
          gemm_serial(now);
        }
      }
    }
  }
}

}  // namespace ashlar::chip::detail
