// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/detail/gemm_pack.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::chip {

/// One matrix multiplication, `C(M,N) = start + A(M,K) * B(K,N)`; strides in elements, any sign.
template <std::floating_point T>
struct gemm_args {
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t a_row = 0, a_col = 1;
  const T* b = nullptr;
  std::int64_t b_row = 0, b_col = 1;
  T* c = nullptr;
  std::int64_t c_row = 0, c_col = 1;
  /// What the sums start from. Null: zero. `c` with C's strides: accumulate. A row of bias: row
  /// stride 0, column stride 1.
  const T* start = nullptr;
  std::int64_t start_row = 0, start_col = 0;
};

namespace detail {

/// Sizes of the blocks that are packed.
struct gemm_blocking {
  std::int64_t k;         ///< depth of a block
  std::int64_t n;         ///< columns of a packed block of B
  std::int64_t m;         ///< rows of a packed block of A
  std::int64_t direct;    ///< up to so many rows B is read where it lies
  std::int64_t direct_b;  ///< up to so many elements of B, too
};

// Multiply-adds that pay for waking a thread (a few microseconds).
inline constexpr double gemm_thread_work = 512 * 1024;

template <class T>
inline constexpr gemm_blocking default_gemm_blocking{
    .k = 256,
    .n = 512 * 4 / static_cast<int>(sizeof(T)),
    .m = 128,
    .direct = 16,
    .direct_b = 1024 * 1024 / static_cast<int>(sizeof(T))};

/// Part `i` of `parts` of `units`; the last part is the largest.
inline std::int64_t gemm_cut(std::int64_t units, std::int64_t parts, std::int64_t i) {
  return units * i / parts;
}

template <class T>
ASHLAR_INLINE std::int64_t gemm_ceil(std::int64_t x, T unit) {
  return (x + unit - 1) / unit;
}

/// All rows against a strip of `regs` registers of columns.
template <class T>
ASHLAR_INLINE void gemm_rows(const gemm_args<T>& g, gemm_block<T> block, int regs) {
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  const std::int64_t groups = gemm_ceil(g.m, tiling.rows);
  for (std::int64_t i = 0; i < groups; ++i) {
    const std::int64_t row = gemm_cut(g.m, groups, i);
    const std::int64_t rows = gemm_cut(g.m, groups, i + 1) - row;
    gemm_block<T> now = block;
    now.a += row * block.a_row;
    now.c += row * block.c_row;
    now.start = block.start == nullptr ? nullptr : block.start + row * block.start_row;
    gemm_kernels<T>[static_cast<std::size_t>(rows - 1)][static_cast<std::size_t>(regs - 1)](now);
  }
}

/// B is read where it lies. Requires unit column strides and n >= one register.
template <class T>
void gemm_direct(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  const int most = gemm_regs<T>(static_cast<int>(std::min<std::int64_t>(g.m, tiling.rows)));
  const std::int64_t units = gemm_ceil(g.n, width);
  const std::int64_t strips = gemm_ceil(units, most);
  gemm_block<T> block{.k = g.k,
                      .a = g.a,
                      .a_row = g.a_row,
                      .a_col = g.a_col,
                      .b = nullptr,
                      .b_row = g.b_row,
                      .start = nullptr,
                      .start_row = g.start_row,
                      .c = nullptr,
                      .c_row = g.c_row,
                      .b_last = 0,
                      .last = 0};
  for (std::int64_t s = 0; s < strips; ++s) {
    const std::int64_t from = gemm_cut(units, strips, s);
    const std::int64_t to = gemm_cut(units, strips, s + 1);
    const std::int64_t column = from * width;
    block.b = g.b + column;
    block.c = g.c + column;
    block.start = g.start == nullptr ? nullptr : g.start + column;
    block.last = std::min(to * width, g.n) - width - column;
    block.b_last = block.last;
    gemm_rows(g, block, static_cast<int>(to - from));
  }
}

/// Packs B block by block.
///
/// Requires: unit column strides of C and start; where n is less than one register, C has room for
///           a whole one in each row.
template <class T>
void gemm_blocked(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  constexpr gemm_blocking blocking = default_gemm_blocking<T>;
  const std::int64_t units = gemm_ceil(g.n, width);
  const std::int64_t k_blocks = std::max<std::int64_t>(gemm_ceil(g.k, blocking.k), 1);
  const std::int64_t n_blocks = gemm_ceil(g.n, blocking.n);
  const bool pack_a = g.a_col != 1 && g.m > 1;
  const std::int64_t m_blocks = pack_a ? gemm_ceil(g.m, blocking.m) : 1;
  const std::int64_t block_k = gemm_ceil(g.k, k_blocks);
  const std::int64_t block_n = gemm_ceil(units, n_blocks) * width;
  const std::int64_t block_m = gemm_ceil(g.m, m_blocks);
  T* const packed_b =
      host_scratch<T, 0>(block_k * block_n + (pack_a ? block_k * block_m : std::int64_t{0}));
  T* const packed_a = packed_b + block_k * block_n;

  for (std::int64_t jb = 0; jb < n_blocks; ++jb) {
    const std::int64_t first_unit = gemm_cut(units, n_blocks, jb);
    const std::int64_t block_units = gemm_cut(units, n_blocks, jb + 1) - first_unit;
    const std::int64_t strips = gemm_ceil(block_units, tiling.regs);
    for (std::int64_t kb = 0; kb < k_blocks; ++kb) {
      const std::int64_t k0 = gemm_cut(g.k, k_blocks, kb);
      const std::int64_t depth = gemm_cut(g.k, k_blocks, kb + 1) - k0;
      for (std::int64_t ib = 0; ib < m_blocks; ++ib) {
        const std::int64_t m0 = gemm_cut(g.m, m_blocks, ib);
        const std::int64_t m1 = gemm_cut(g.m, m_blocks, ib + 1);
        const std::int64_t groups = gemm_ceil(m1 - m0, tiling.rows);
        for (std::int64_t i = 0; i < groups; ++i) {
          const std::int64_t row = m0 + gemm_cut(m1 - m0, groups, i);
          const int rows = static_cast<int>(m0 + gemm_cut(m1 - m0, groups, i + 1) - row);
          const T* a = g.a + row * g.a_row + k0 * g.a_col;
          std::int64_t a_row = g.a_row;
          std::int64_t a_col = g.a_col;
          if (pack_a) {
            T* const to = packed_a + (row - m0) * depth;
            gemm_pack_a(a, g.a_row, g.a_col, depth, rows, to);
            a = to;
            a_row = 1;
            a_col = rows;
          }
          for (std::int64_t s = 0; s < strips; ++s) {
            const std::int64_t unit = first_unit + gemm_cut(block_units, strips, s);
            const std::int64_t end = first_unit + gemm_cut(block_units, strips, s + 1);
            const int regs = static_cast<int>(end - unit);
            const std::int64_t column = unit * width;
            const std::int64_t last =
                std::max<std::int64_t>(std::min(end * width, g.n) - width - column, 0);
            T* const b = packed_b + (unit - first_unit) * width * depth;
            if (ib == 0 && i == 0) {
              gemm_pack_b(g.b + k0 * g.b_row + column * g.b_col, g.b_row, g.b_col, depth, regs,
                          last, g.n, b);
            }
            T* const c = g.c + row * g.c_row + column;
            const T* start = c;
            std::int64_t start_row = g.c_row;
            if (kb == 0) {
              start = g.start == nullptr ? nullptr : g.start + row * g.start_row + column;
              start_row = g.start_row;
            }
            gemm_kernels<T>[static_cast<std::size_t>(rows - 1)][static_cast<std::size_t>(regs - 1)](
                gemm_block<T>{.k = depth,
                              .a = a,
                              .a_row = a_row,
                              .a_col = a_col,
                              .b = b,
                              .b_row = regs * width,
                              .start = start,
                              .start_row = start_row,
                              .c = c,
                              .c_row = g.c_row,
                              .b_last = (regs - 1) * width,
                              .last = last});
          }
        }
      }
    }
  }
}

/// C through a block of its own: any strides of C, any number of columns.
template <class T>
void gemm_staged(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  const std::int64_t rows = std::min<std::int64_t>(g.m, 256);
  const std::int64_t columns = std::min<std::int64_t>(g.n, 256);
  const std::int64_t row = std::max(columns, width);
  T* const stage = host_scratch<T, 1>(rows * row);
  for (std::int64_t i = 0; i < g.m; i += rows) {
    for (std::int64_t j = 0; j < g.n; j += columns) {
      gemm_args<T> now = g;
      now.m = std::min(rows, g.m - i);
      now.n = std::min(columns, g.n - j);
      now.a += i * g.a_row;
      now.b += j * g.b_col;
      now.c = stage;
      now.c_row = row;
      now.c_col = 1;
      if (g.start != nullptr) {
        for (std::int64_t r = 0; r < now.m; ++r) {
          for (std::int64_t q = 0; q < now.n; ++q) {
            stage[r * row + q] = g.start[(i + r) * g.start_row + (j + q) * g.start_col];
          }
          std::fill(stage + r * row + now.n, stage + r * row + row, T(0));
        }
        now.start = stage;
        now.start_row = row;
        now.start_col = 1;
      }
      gemm_blocked(now);
      for (std::int64_t r = 0; r < now.m; ++r) {
        for (std::int64_t q = 0; q < now.n; ++q) {
          g.c[(i + r) * g.c_row + (j + q) * g.c_col] = stage[r * row + q];
        }
      }
    }
  }
}

template <class T>
void gemm_fill(const gemm_args<T>& g) {
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      g.c[i * g.c_row + j * g.c_col] =
          g.start == nullptr ? T(0) : g.start[i * g.start_row + j * g.start_col];
    }
  }
}

/// On the calling thread.
template <class T>
ASHLAR_INLINE void gemm_serial(gemm_args<T> g) {
  if (g.n < simd::reg<T>::width || g.c_col != 1) {
    gemm_staged(g);
    return;
  }
  if (g.start != nullptr && g.start_col != 1) {
    gemm_fill(g);
    g.start = g.c;
    g.start_row = g.c_row;
  }
  constexpr gemm_blocking blocking = default_gemm_blocking<T>;
  if (g.b_col == 1 && (g.m <= blocking.direct || g.k * g.n <= blocking.direct_b)) {
    gemm_direct(g);
  } else {
    gemm_blocked(g);
  }
}

/// Cuts C into a grid, one part per thread: K is never cut.
template <class T>
[[gnu::noinline]] void gemm_threads(const gemm_args<T>& g, int threads) {
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  const std::int64_t row_units = gemm_ceil(g.m, tiling.rows);
  const std::int64_t column_units = gemm_ceil(g.n, simd::reg<T>::width);
  // Every part reads its rows of A and packs its columns of B.
  std::int64_t down = 1;
  std::int64_t across = 1;
  double least = 0;
  for (std::int64_t d = 1; d <= std::min<std::int64_t>(threads, row_units); ++d) {
    const std::int64_t x = std::min<std::int64_t>(threads / d, column_units);
    const double work = static_cast<double>(gemm_ceil(row_units, d) * gemm_ceil(column_units, x));
    const double traffic =
        static_cast<double>(gemm_ceil(row_units, d) + gemm_ceil(column_units, x));
    const double cost = work + traffic;
    if (d == 1 || cost < least) {
      least = cost;
      down = d;
      across = x;
    }
  }
  parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t i = part / across;
      const std::int64_t j = part % across;
      const std::int64_t row = gemm_cut(row_units, down, i) * tiling.rows;
      const std::int64_t column = gemm_cut(column_units, across, j) * simd::reg<T>::width;
      gemm_args<T> now = g;
      now.m = std::min(gemm_cut(row_units, down, i + 1) * tiling.rows, g.m) - row;
      now.n = std::min(gemm_cut(column_units, across, j + 1) * simd::reg<T>::width, g.n) - column;
      now.a += row * g.a_row;
      now.b += column * g.b_col;
      now.c += row * g.c_row + column * g.c_col;
      now.start = g.start == nullptr ? nullptr : g.start + row * g.start_row + column * g.start_col;
      gemm_serial(now);
    }
  });
}

/// The same product transposed: rows become columns.
template <class T>
gemm_args<T> gemm_transposed(const gemm_args<T>& g) {
  return {.m = g.n,
          .n = g.m,
          .k = g.k,
          .a = g.b,
          .a_row = g.b_col,
          .a_col = g.b_row,
          .b = g.a,
          .b_row = g.a_col,
          .b_col = g.a_row,
          .c = g.c,
          .c_row = g.c_col,
          .c_col = g.c_row,
          .start = g.start,
          .start_row = g.start_col,
          .start_col = g.start_row};
}

}  // namespace detail

/// Multiplies two matrices.
///
/// Every element of C is one chain `acc = madd(a[i][p], b[p][j], acc)` over p = 0 .. K-1 that
/// starts at `start` (see `simd::madd`), whatever the sizes, strides and threads are: a row of a
/// product has the same bits alone and among others.
/// Requires: C overlaps neither A nor B, and `start` only where it is C itself; two elements of C
///           do not share an address.
/// Cost:     2 * M * N * K operations on up to `host_threads()` threads; no allocation once the
///           thread's scratch memory is large enough.
template <std::floating_point T>
void gemm(const gemm_args<T>& args) {
  if (args.m <= 0 || args.n <= 0) {
    return;
  }
  if (args.k <= 0) {
    detail::gemm_fill(args);
    return;
  }
  constexpr std::int64_t width = simd::reg<T>::width;
  const bool turn = (args.c_col != 1 && args.c_row == 1) || (args.n < width && args.m > args.n);
  const gemm_args<T> g = turn ? detail::gemm_transposed(args) : args;
  const double work =
      static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k);
  if (work >= 2 * detail::gemm_thread_work) {
    const int threads =
        static_cast<int>(std::min<double>(host_threads(), work / detail::gemm_thread_work));
    if (threads > 1) {
      detail::gemm_threads(g, threads);
      return;
    }
  }
  detail::gemm_serial(g);
}

/// Steps in elements from one product of a batch to the next; 0 repeats an operand.
struct gemm_steps {
  std::int64_t a = 0, b = 0, c = 0, start = 0;
};

/// Multiplies `count` pairs of matrices of one shape; each as `gemm` does it.
template <std::floating_point T>
void gemm_batched(const gemm_args<T>& first, std::int64_t count, const gemm_steps& steps) {
  const auto one = [&](std::int64_t i) {
    gemm_args<T> g = first;
    g.a += i * steps.a;
    g.b += i * steps.b;
    g.c += i * steps.c;
    g.start = g.start == nullptr ? nullptr : g.start + i * steps.start;
    gemm(g);
  };
  const double work = static_cast<double>(first.m) * static_cast<double>(first.n) *
                      static_cast<double>(std::max<std::int64_t>(first.k, 1));
  if (count < host_threads()) {  // better to share each product
    for (std::int64_t i = 0; i < count; ++i) {
      one(i);
    }
    return;
  }
  const auto grain = static_cast<std::int64_t>(detail::gemm_thread_work / std::max(work, 1.0)) + 1;
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      one(i);
    }
  });
}

}  // namespace ashlar::chip
