// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/reg.hpp"

/// Kernels for few rows, where reading B is the work.
namespace ashlar::chip::detail {

/// Rows of B that one sweep adds.
inline constexpr int gemm_sweep_depth = simd::register_count >= 32 ? 8 : 4;

/// Adds `gemm_sweep_depth` rows of B to the one row of C, along the columns.
///
/// Reads long pieces of few rows, as memory and its prefetchers like it, and pays with a load and a
/// store of C per `gemm_sweep_depth` steps of k. `block.last` is the column of the last register.
template <class T>
void gemm_sweep(const gemm_block<T>& block) {
  using reg = simd::reg<T>;
  constexpr std::int64_t width = reg::width;
  constexpr int depth = gemm_sweep_depth;
  const std::int64_t b_row = block.b_row;
  reg y[depth];
  ASHLAR_DETAIL_UNROLL for (int d = 0; d < depth; ++d) {
    y[d] = simd::reg_broadcast(block.a[d * block.a_col]);
  }
  const auto start_at = [&](std::int64_t j) {
    return block.start == nullptr ? simd::reg_broadcast(T(0)) : simd::reg_load(block.start + j);
  };
  const auto add = [&](std::int64_t j, reg acc) {
    ASHLAR_DETAIL_UNROLL for (int d = 0; d < depth; ++d) {
      acc = simd::reg_madd(y[d], simd::reg_load(block.b + d * b_row + j), acc);
    }
    return acc;
  };
  // The last register may overlap the one before: it starts from what C was before the sweep.
  const reg tail = start_at(block.last);
  for (std::int64_t j = 0; j < block.last; j += width) {
    simd::reg_store(block.c + j, add(j, start_at(j)));
  }
  simd::reg_store(block.c + block.last, add(block.last, tail));
}

/// Whether lines that are fetched past the second-level cache are lost before they are wanted: on
/// Intel's machines, where they share the sets of the first level.
inline bool gemm_loses_fetched_lines() {
#if defined(__x86_64__)
  static const bool intel = __builtin_cpu_is("intel") != 0;
  return intel;
#else
  return false;
#endif
}

/// As `gemm_kernel`, with B stored by columns: `block.b_row` is the step from one column to the
/// next, and `block.ahead`, along a column, is not 0 where B is far away.
template <class T, int Rows, int Regs>
[[gnu::noinline]] void gemm_turned_kernel(const gemm_block<T>& block) {
  using reg = simd::reg<T>;
  constexpr std::int64_t width = reg::width;
  constexpr int step = simd::turned_columns<T>;
  const std::int64_t last = block.last;
  const std::int64_t column = block.b_row;
  const std::int64_t a_row = block.a_row;
  const std::int64_t a_col = block.a_col;
  const auto place = [last](int v) { return v == Regs - 1 ? last : v * width; };
  reg acc[Rows][Regs];
  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      acc[r][v] = block.start == nullptr
                      ? simd::reg_broadcast(T(0))
                      : simd::reg_load(block.start + r * block.start_row + place(v));
    }
  }
  const T* a = block.a;
  const T* b[Regs];
  for (int v = 0; v < Regs; ++v) {
    b[v] = block.b + (v == Regs - 1 ? block.b_last : v * width) * column;
  }
  std::int64_t k = block.k;
  if constexpr (simd::turns_lines<T>) {
    // Where B is far away each of its cache lines is read once, for sixteen columns a power of two
    // apart share one set of the first-level cache, which loses a line before its next part is
    // wanted; and fetched past the second level, which none of them needs. Where that loses them
    // they are fetched into the second level, a piece of one column after the other.
    const bool by_pieces = gemm_loses_fetched_lines();
    std::int64_t turn = 0;
    for (; block.ahead != 0 && k >= width; k -= width) {
      ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
        reg x[width];
        ASHLAR_DETAIL_UNROLL for (int q = 0; q < width; ++q) {
          x[q] = simd::reg_load(b[v] + q * column);
        }
        if (by_pieces) {
          const T* next = b[v] + turn * column + (2 * width - turn) * width;
          ASHLAR_DETAIL_UNROLL for (int q = 0; q < width; ++q) {
            __builtin_prefetch(next + q * width, 0, 1);
          }
        } else {
          ASHLAR_DETAIL_UNROLL for (int q = 0; q < width; ++q) {
            __builtin_prefetch(b[v] + q * column + block.ahead, 0, 0);
          }
        }
        simd::reg_turn(x);
        ASHLAR_DETAIL_UNROLL for (int q = 0; q < width; ++q) {
          ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
            acc[r][v] =
                simd::reg_madd(simd::reg_broadcast(a[r * a_row + q * a_col]), x[q], acc[r][v]);
          }
        }
        b[v] += width;
      }
      a += width * a_col;
      turn = (turn + 1) % width;
    }
  }
  for (; k >= step; k -= step) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      reg x[step];
      simd::reg_load_turned(b[v], static_cast<std::ptrdiff_t>(column), x);
      ASHLAR_DETAIL_UNROLL for (int q = 0; q < step; ++q) {
        ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
          acc[r][v] =
              simd::reg_madd(simd::reg_broadcast(a[r * a_row + q * a_col]), x[q], acc[r][v]);
        }
      }
      b[v] += step;
    }
    a += step * a_col;
  }
  for (; k > 0; --k) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      const reg x = simd::reg_load_column(b[v], static_cast<std::ptrdiff_t>(column));
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
        acc[r][v] = simd::reg_madd(simd::reg_broadcast(a[r * a_row]), x, acc[r][v]);
      }
      ++b[v];
    }
    a += a_col;
  }
  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      simd::reg_store(block.c + r * block.c_row + place(v), acc[r][v]);
    }
  }
}

/// Rows and registers per block where B is stored by columns. Sixteen columns of B are sixteen
/// streams through memory; more of them, a power of two apart, evict one another from the
/// first-level cache.
inline constexpr int gemm_turned_rows = simd::register_count >= 32 ? 8 : 4;
inline constexpr int gemm_turned_regs = simd::register_count >= 32 ? 1 : 2;

template <class T, int Rows>
constexpr std::array<gemm_kernel_pointer<T>, gemm_turned_regs + 1> gemm_turned_kernels_of() {
  return []<int... V>(std::integer_sequence<int, V...>) {
    return std::array<gemm_kernel_pointer<T>, sizeof...(V)>{&gemm_turned_kernel<T, Rows, V + 1>...};
  }(std::make_integer_sequence<int, gemm_turned_regs + 1>{});
}

/// Kernels by rows - 1 and registers - 1; one register more than `gemm_turned_regs`, for tails.
template <class T>
inline constexpr auto gemm_turned_kernels = []<int... R>(std::integer_sequence<int, R...>) {
  return std::array{gemm_turned_kernels_of<T, R + 1>()...};
}(std::make_integer_sequence<int, gemm_turned_rows>{});

}  // namespace ashlar::chip::detail
