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
#include "ashlar/simd/reg.hpp"
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
/// few rows at a time as in `gemm_sweep`. Requires: unit strides of B's and C's columns.
template <class T>
void widened_sweep(const gemm_args<T, float>& g) {
  // 100 million float16 on Zen 5, of the pace at which they are read alone: 0.83 on one core and
  // 0.95 on two. Lines fetched eight rows ahead, four rows at a time: 0.67 and 0.79, since long
  // rows come too early and short ones too late. Sums of a strip of columns kept in registers down
  // all rows: 0.7 and 0.7.
  constexpr int deep = 8;
  constexpr std::int64_t piece = 4096;  // columns: C's stay in the first-level cache
  constexpr std::int64_t ahead = 8192 / (deep * sizeof(T));
  constexpr std::int64_t line = 64 / sizeof(T);
  const wide_block a(g.a, 0, g.a_col, 1, g.k, gemm_scratch<float, narrow_wide>(g.k));
  for (std::int64_t first = 0; first < g.n; first += piece) {
    const std::int64_t columns = std::min(piece, g.n - first);
    float* const c = g.c + first;
    const auto sweep = [&]<int Depth>(std::integral_constant<int, Depth>, std::int64_t k) {
      const auto rows_at = [&](std::int64_t row) { return g.b + row * g.b_row + first; };
      const T* const b = rows_at(k);
      // What is read when `ahead` more columns of these rows and the next ones have been; behind
      // the last row, what is in the caches already.
      const std::int64_t near = k + ahead / columns * deep;
      const std::int64_t skip = ahead % columns;
      const T* const fetched = near + deep <= g.k ? rows_at(near) : b;
      const T* const behind = near + 2 * deep <= g.k ? rows_at(near + deep) : b;
      simd::vec<float> x[Depth];
      ASHLAR_DETAIL_UNROLL for (int d = 0; d < Depth; ++d) {
        x[d] = simd::broadcast(a.data[k + d]);
      }
      const bool fresh = k == 0 && g.start == nullptr;
      const auto sum_at = [&](std::int64_t j) {
        return fresh ? simd::broadcast(0.0F) : simd::load(c + j);
      };
      std::int64_t j = 0;
      for (; Depth == deep && j + line <= columns; j += line) {
        const T* const next =
            j + skip < columns ? fetched + (j + skip) : behind + (j + skip - columns);
        simd::vec<float> sum[line / simd::lanes];
        ASHLAR_DETAIL_UNROLL for (int v = 0; v < line / simd::lanes; ++v) {
          sum[v] = sum_at(j + v * simd::lanes);
        }
        ASHLAR_DETAIL_UNROLL for (int d = 0; d < Depth; ++d) {
          __builtin_prefetch(next + d * g.b_row);
          ASHLAR_DETAIL_UNROLL for (int v = 0; v < line / simd::lanes; ++v) {
            sum[v] = simd::madd(x[d], simd::load_as<float>(b + d * g.b_row + j + v * simd::lanes),
                                sum[v]);
          }
        }
        ASHLAR_DETAIL_UNROLL for (int v = 0; v < line / simd::lanes; ++v) {
          simd::store(c + j + v * simd::lanes, sum[v]);
        }
      }
      for (; j + simd::lanes <= columns; j += simd::lanes) {
        auto sum = sum_at(j);
        ASHLAR_DETAIL_UNROLL for (int d = 0; d < Depth; ++d) {
          sum = simd::madd(x[d], simd::load_as<float>(b + d * g.b_row + j), sum);
        }
        simd::store(c + j, sum);
      }
      for (; j < columns; ++j) {
        float sum = fresh ? 0.0F : c[j];
        for (int d = 0; d < Depth; ++d) {
          sum = simd::madd(a.data[k + d], static_cast<float>(b[d * g.b_row + j]), sum);
        }
        c[j] = sum;
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
}

/// A few rows times a B stored by rows, widened in registers: two registers of columns at a time,
/// down a few rows of B. Requires: unit strides of B's and C's columns, N a multiple of those.
template <int Rows, class T>
void widened_rows(const gemm_args<T, float>& g) {
  // Eight rows times more float16 than the caches hold, on one core of Zen 5: 23 to 27 GB/s of
  // weights, 15 where rows are a power of two apart; by blocks 7, and 5 to 6 down all rows of B at
  // once. 64 rows at a time: 22 to 27 and 13.
  constexpr std::int64_t across = 2 * simd::lanes;
  constexpr std::int64_t deep = 16;
  const std::int64_t ahead = std::min<std::int64_t>(768 / sizeof(T), g.n);
  const wide_block a(g.a, g.a_row, g.a_col, Rows, g.k,
                     gemm_scratch<float, narrow_wide>(Rows * g.k));
  for (std::int64_t first = 0; first < g.k; first += deep) {
    const std::int64_t end = std::min(first + deep, g.k);
    for (std::int64_t j = 0; j < g.n; j += across) {
      simd::vec<float> sum[Rows][2];
      const auto each = [&](const auto& f) {
        ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
          f(sum[r][0], g.c + r * g.c_row + j);
          f(sum[r][1], g.c + r * g.c_row + j + simd::lanes);
        }
      };
      const bool fresh = first == 0 && g.start == nullptr;
      each([&](auto& x, const float* c) { x = fresh ? simd::broadcast(0.0F) : simd::load(c); });
      const T* b = g.b + first * g.b_row + j;
      // The same rows further on; behind their ends, the next ones.
      const std::int64_t later = j + ahead < g.n     ? ahead
                                 : end + deep <= g.k ? deep * g.b_row + ahead - g.n
                                                     : 0;
      for (std::int64_t k = first; k < end; ++k, b += g.b_row) {
        __builtin_prefetch(b + later);
        const simd::vec<float> left = simd::load_as<float>(b);
        const simd::vec<float> right = simd::load_as<float>(b + simd::lanes);
        ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
          const simd::vec<float> x = simd::broadcast(a.data[r * a.row + k * a.column]);
          sum[r][0] = simd::madd(x, left, sum[r][0]);
          sum[r][1] = simd::madd(x, right, sum[r][1]);
        }
      }
      each([&](const auto& x, float* c) { simd::store(c, x); });
    }
  }
}

/// So many rows' sums fit into the registers.
inline constexpr int widened_most_rows = simd::register_count >= 32 ? 8 : 2;

/// The same with a number of rows of run time, from 2 on.
template <int Rows = widened_most_rows, class T>
void widened_few(const gemm_args<T, float>& g) {
  if constexpr (Rows > 2) {
    if (g.m < Rows) {
      widened_few<Rows - 1>(g);
      return;
    }
  }
  widened_rows<Rows>(g);
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
    // What columns are left over goes by blocks.
    const std::int64_t whole = g.n - g.n % (2 * simd::lanes);
    if (g.m > 1 && g.m <= widened_most_rows && g.b_col == 1 && g.c_col == 1 && whole > 0) {
      gemm_args<T, float> now = g;
      now.n = whole;
      widened_few(now);
      if (whole < g.n) {
        now.n = g.n - whole;
        now.b += whole;
        now.c += whole;
        now.start = g.start == nullptr ? nullptr : now.c;
        widened_multiply(now);
      }
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
