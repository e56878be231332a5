// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/detail/gemm_pack.hpp"
#include "ashlar/chip/host/detail/gemm_vector.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/simd/reg.hpp"

/// The ways a product can go on one thread; all give the same bits.
namespace ashlar::chip::detail {

/// The calling thread's memory for `count` elements; `Tag` keeps ways apart that call one another.
template <class T, class Tag>
T* gemm_scratch(std::int64_t count) {
  return static_cast<T*>(
      host_kernels::detail::thread_scratch<Tag>(static_cast<std::size_t>(count) * sizeof(T)));
}
struct gemm_packed;
struct gemm_stage;

/// Which way a product goes, and how it is cut on the way.
struct gemm_blocking {
  std::int64_t k;            ///< depth of a packed block
  std::int64_t n;            ///< columns of a packed block of B
  std::int64_t m;            ///< rows of a packed block of A
  std::int64_t near;         ///< elements of B that the second-level cache holds
  std::int64_t far;          ///< elements of B that the last-level cache holds
  std::int64_t turned_rows;  ///< rows of C up to which a B stored by columns is not packed
  std::int64_t few_rows;     ///< rows of C up to which no B stored by rows is packed
  std::int64_t some_rows;    ///< the same for a B within `far`
};

// Measured in GFLOP/s on one core of Zen 4 (peak 118, L2 1 MiB, L3 32 MiB), f32:
//   k = 768: A's panel of 8 rows takes 24 KiB of the first-level cache; B's block of 768 x 512
//   passes through the second level, and C is read and written a third as often as with k = 256:
//   2048^3: 105 against 99, 1024^3: 105 and 102. In place: 99 and 51; 64 x 512 x 512: 105 packed
//   and 117. 2048 x 2048 with 8 rows: 76 fetched ahead, 29 packed, 14 read in place; 1 row: 24
//   swept, 13 in place.
template <class T>
inline constexpr gemm_blocking default_gemm_blocking{
    .k = 768,
    .n = 2048 / static_cast<int>(sizeof(T)),
    .m = 128,
    .near = (1 << 20) / static_cast<int>(sizeof(T)),
    .far = (4 << 20) / static_cast<int>(sizeof(T)),
    .turned_rows = 8,
    .few_rows = 32,
    .some_rows = 64};

/// Part `i` of `parts` of `units`; the last part is the largest.
inline std::int64_t gemm_cut(std::int64_t units, std::int64_t parts, std::int64_t i) {
  return units * i / parts;
}

/// The whole product as one block, yet without the place of a last register.
template <class T>
ASHLAR_INLINE gemm_block<T> gemm_whole(const gemm_args<T>& g) {
  return {.k = g.k,
          .a = g.a,
          .a_row = g.a_row,
          .a_col = g.a_col,
          .b = g.b,
          .b_row = g.b_row,
          .start = g.start,
          .start_row = g.start_row,
          .c = g.c,
          .c_row = g.c_row,
          .b_last = 0,
          .last = 0};
}

/// All rows against one strip of columns; `kernels` are those for its number of registers, by rows.
template <class T, class Table>
ASHLAR_INLINE void gemm_rows(const gemm_args<T>& g, gemm_block<T> block, const Table& kernels,
                             int regs) {
  constexpr auto most = static_cast<std::int64_t>(std::tuple_size_v<Table>);
  const auto column = static_cast<std::size_t>(regs - 1);
  if (g.m <= most) {
    kernels[static_cast<std::size_t>(g.m - 1)][column](block);
    return;
  }
  const std::int64_t groups = ceil_div(g.m, most);
  for (std::int64_t i = 0; i < groups; ++i) {
    const std::int64_t row = gemm_cut(g.m, groups, i);
    const std::int64_t rows = gemm_cut(g.m, groups, i + 1) - row;
    gemm_block<T> now = block;
    now.a += row * block.a_row;
    now.c += row * block.c_row;
    now.start = block.start == nullptr ? nullptr : block.start + row * block.start_row;
    kernels[static_cast<std::size_t>(rows - 1)][column](now);
  }
}

/// B is read where it lies, by rows. Requires unit column strides and n >= one register.
template <class T>
void gemm_direct(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  const int most = gemm_regs<T>(static_cast<int>(std::min<std::int64_t>(g.m, tiling.rows)));
  const std::int64_t units = ceil_div(g.n, width);
  const std::int64_t strips = ceil_div(units, most);
  gemm_block<T> block = gemm_whole(g);
  std::int64_t from = 0;
  for (std::int64_t s = 0; s < strips; ++s) {
    const std::int64_t to = gemm_cut(units, strips, s + 1);
    const std::int64_t column = from * width;
    block.b = g.b + column;
    block.c = g.c + column;
    block.start = g.start == nullptr ? nullptr : g.start + column;
    block.last = std::min(to * width, g.n) - width - column;
    block.b_last = block.last;
    gemm_rows(g, block, gemm_kernels<T>, static_cast<int>(to - from));
    from = to;
  }
}

/// B is read where it lies, by columns. Requires unit strides of B's rows and of C's and start's
/// columns, and n >= one register.
template <class T>
void gemm_turned(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  const std::int64_t units = ceil_div(g.n, width);
  gemm_block<T> block = gemm_whole(g);
  block.b_row = g.b_col;
  std::int64_t regs = 0;
  for (std::int64_t unit = 0; unit < units; unit += regs) {
    regs = std::min<std::int64_t>(gemm_turned_regs, units - unit);
    if (units - unit - regs == 1 && g.n % width != 0) {
      ++regs;  // a tail that starts early must be in one block with what it overlaps
    }
    const std::int64_t column = unit * width;
    block.b = g.b + column * g.b_col;
    block.c = g.c + column;
    block.start = g.start == nullptr ? nullptr : g.start + column;
    block.last = std::min(column + regs * width, g.n) - width - column;
    block.b_last = block.last;
    gemm_rows(g, block, gemm_turned_kernels<T>, static_cast<int>(regs));
  }
}

/// One row: B is read where it lies, a few whole rows at a time. Requires what `gemm_direct` does.
template <class T>
void gemm_swept(const gemm_args<T>& g) {
  gemm_args<T> rest = g;
  for (; rest.k >= gemm_sweep_depth; rest.k -= gemm_sweep_depth) {
    gemm_block<T> block = gemm_whole(rest);
    block.last = g.n - simd::reg<T>::width;
    gemm_sweep(block);
    rest.a += gemm_sweep_depth * g.a_col;
    rest.b += gemm_sweep_depth * g.b_row;
    rest.start = g.c;
  }
  if (rest.k > 0) {
    gemm_direct(rest);
  }
}

/// As `gemm_direct` for a B that lies far away: fetches a block ahead, in the order of memory.
template <class T>
void gemm_fetched(const gemm_args<T>& g) {
  constexpr std::int64_t line = 64 / sizeof(T);
  constexpr std::int64_t depth = 64;
  constexpr std::int64_t columns = 32 * line;
  const std::int64_t pieces = ceil_div(g.n, columns);
  const std::int64_t units = ceil_div(g.n, simd::reg<T>::width);
  for (std::int64_t p = 0; p < pieces; ++p) {
    const std::int64_t column = gemm_cut(units, pieces, p) * simd::reg<T>::width;
    const std::int64_t end = gemm_cut(units, pieces, p + 1) * simd::reg<T>::width;
    gemm_args<T> now = g;
    now.n = std::min(end, g.n) - column;
    now.b += column;
    now.c += column;
    now.start = g.start == nullptr ? nullptr : g.start + column;
    for (std::int64_t k = 0; k < g.k; k += depth) {
      now.k = std::min(depth, g.k - k);
      for (std::int64_t i = 0; i < now.k; ++i) {
        for (std::int64_t j = 0; j < now.n; j += line) {
          __builtin_prefetch(now.b + i * g.b_row + j, 0, 2);
        }
      }
      gemm_direct(now);
      now.a += depth * g.a_col;
      now.b += depth * g.b_row;
      now.start = now.c;
      now.start_row = g.c_row;
    }
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
  const std::int64_t units = ceil_div(g.n, width);
  const std::int64_t k_blocks = std::max<std::int64_t>(ceil_div(g.k, blocking.k), 1);
  const std::int64_t n_blocks = ceil_div(g.n, blocking.n);
  const bool pack_a = g.a_col != 1 && g.m > 1;
  const std::int64_t m_blocks = pack_a ? ceil_div(g.m, blocking.m) : 1;
  const std::int64_t block_k = ceil_div(g.k, k_blocks);
  const std::int64_t block_n = ceil_div(units, n_blocks) * width;
  const std::int64_t block_m = ceil_div(g.m, m_blocks);
  T* const packed_b = gemm_scratch<T, gemm_packed>(block_k * block_n +
                                                   (pack_a ? block_k * block_m : std::int64_t{0}));
  T* const packed_a = packed_b + block_k * block_n;

  for (std::int64_t jb = 0; jb < n_blocks; ++jb) {
    const std::int64_t first_unit = gemm_cut(units, n_blocks, jb);
    const std::int64_t block_units = gemm_cut(units, n_blocks, jb + 1) - first_unit;
    const std::int64_t strips = ceil_div(block_units, tiling.regs);
    for (std::int64_t kb = 0; kb < k_blocks; ++kb) {
      const std::int64_t k0 = gemm_cut(g.k, k_blocks, kb);
      const std::int64_t depth = gemm_cut(g.k, k_blocks, kb + 1) - k0;
      for (std::int64_t ib = 0; ib < m_blocks; ++ib) {
        const std::int64_t m0 = gemm_cut(g.m, m_blocks, ib);
        const std::int64_t m1 = gemm_cut(g.m, m_blocks, ib + 1);
        const std::int64_t groups = ceil_div(m1 - m0, tiling.rows);
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
  T* const stage = gemm_scratch<T, gemm_stage>(rows * row);
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

template <class T, class R>
void gemm_fill(const gemm_args<T, R>& g) {
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      g.c[i * g.c_row + j * g.c_col] =
          g.start == nullptr ? R(0) : g.start[i * g.start_row + j * g.start_col];
    }
  }
}

/// Chooses how B is read. Requires unit column strides of C and start, and n >= one register.
template <class T>
ASHLAR_INLINE void gemm_plain(const gemm_args<T>& g) {
  constexpr gemm_blocking blocking = default_gemm_blocking<T>;
  const std::int64_t size = g.k * g.n;
  if (g.b_col == 1) {
    if (size <= blocking.near) {
      gemm_direct(g);
    } else if (g.m == 1) {
      gemm_swept(g);
    } else if (g.m <= blocking.some_rows && size <= blocking.far) {
      gemm_direct(g);
    } else if (g.m <= blocking.few_rows) {
      gemm_fetched(g);
    } else {
      gemm_blocked(g);
    }
  } else if (g.b_row == 1 && g.m <= blocking.turned_rows) {
    gemm_turned(g);
  } else {
    gemm_blocked(g);
  }
}

/// On the calling thread.
template <class T>
ASHLAR_INLINE void gemm_serial(const gemm_args<T>& g) {
  if (g.n < simd::reg<T>::width || g.c_col != 1) {
    gemm_staged(g);
  } else if (g.start == nullptr || g.start_col == 1) {
    gemm_plain(g);
  } else {
    gemm_fill(g);
    gemm_args<T> now = g;
    now.start = g.c;
    now.start_row = g.c_row;
    now.start_col = 1;
    gemm_plain(now);
  }
}

}  // namespace ashlar::chip::detail
