// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
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
  std::int64_t direct_rows;  ///< rows of C up to which B is read where it lies, however large
  std::int64_t turned_rows;  ///< rows of C up to which a B stored by columns is not packed
  std::int64_t fetch_k;      ///< depth of a block of B that is fetched ahead
  std::int64_t fetch_rows;   ///< rows of C up to which no such B is packed that is half as deep
  std::int64_t few_rows;     ///< rows of C up to which no B stored by rows is packed
  std::int64_t some_rows;    ///< the same for a B within `far`
};

// Measured in GFLOP/s on one core of Zen 5 (peak 265, L1 48 KiB, L2 1 MiB, L3 32 MiB), f32:
//   k = 1024, n = 96: A's panel of 8 rows takes 32 KiB of the first-level cache, B's block 384 KiB
//   of the second level: 2048^3 255, 1024^3 256. With 768 x 512, which is more than the second
//   level: 234 and 250; 512 x 384: 233 and 254. What the next rows need of A and C fetched: 255,
//   else 250.
//   B of 2048 x 2048 times 16 rows: 253 fetched ahead by blocks of 512, 250 of 256, 224 of 1024;
//   163 packed, 152 read in place. Times 256 rows: 259, 253 packed; 300 x 11008 x 2048 254, 238
//   packed; with 512 rows A's block is more than the second level: 2048^3 245. And 512 x 4096 x 128
//   has 0.93 of the packed one's speed, for what the next rows need of C is not fetched.
template <class T>
inline constexpr gemm_blocking default_gemm_blocking{
    .k = 4096 / static_cast<int>(sizeof(T)),
    .n = 384 / static_cast<int>(sizeof(T)),
    .m = 128,
    .near = (1 << 20) / static_cast<int>(sizeof(T)),
    .far = (4 << 20) / static_cast<int>(sizeof(T)),
    .direct_rows = 4,
    .turned_rows = 8,
    .fetch_k = 2048 / static_cast<int>(sizeof(T)),
    .fetch_rows = 320,
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
  const std::int64_t fetched = block.k / (block.slow + 1) * block.b_row;
  for (std::int64_t i = 0; i < groups; ++i) {
    const std::int64_t row = gemm_cut(g.m, groups, i);
    const std::int64_t rows = gemm_cut(g.m, groups, i + 1) - row;
    gemm_block<T> now = block;
    now.a += row * block.a_row;
    now.c += row * block.c_row;
    now.start = block.start == nullptr ? nullptr : block.start + row * block.start_row;
    now.ahead = i <= block.slow ? block.ahead + i * fetched : 0;
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
  const bool far = g.k * g.n > default_gemm_blocking<T>.near;
  block.ahead = far ? 512 / static_cast<int>(sizeof(T)) : 0;
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

/// Where columns are cut, in units of a register: the last unit may start early (see `gemm_block`)
/// and must then be in one register block with what it overlaps, so it never stands alone.
struct gemm_columns {
  std::int64_t units;
  bool tail;  ///< the last unit starts early

  template <class T>
  static gemm_columns of(const gemm_args<T>& g) {
    constexpr std::int64_t width = simd::reg<T>::width;
    return {ceil_div(g.n, width), g.n > width && g.n % width != 0};
  }
  /// The end of a block of at most `most` units.
  [[nodiscard]] std::int64_t block_end(std::int64_t first, std::int64_t most) const {
    const std::int64_t end = std::min(first + most, units);
    return tail && units - end == 1 ? end - 1 : end;
  }
  /// Units of the strip at `unit` in a block that ends at `end`.
  [[nodiscard]] int strip(std::int64_t unit, std::int64_t end, int most) const {
    const auto n = static_cast<int>(std::min<std::int64_t>(most, end - unit));
    return tail && end - unit - n == 1 ? n - 1 : n;
  }
};

/// As `gemm_direct` for a B that lies far away: while one block of B is read, all rows of C
/// together fetch the next one, each its share, so that memory is never asked for more than it can
/// give.
template <class T>
void gemm_fetched(const gemm_args<T>& g) {
  constexpr std::int64_t width = simd::reg<T>::width;
  constexpr gemm_tiling tiling = default_gemm_tiling<T>;
  const std::int64_t k_blocks = ceil_div(g.k, default_gemm_blocking<T>.fetch_k);
  constexpr std::int64_t piece = 8 * tiling.regs;  // C's block stays in the caches for all of k
  const auto columns = gemm_columns::of(g);
  const std::int64_t groups = ceil_div(g.m, tiling.rows);
  const auto fetchers = std::bit_floor(static_cast<std::uint64_t>(groups));
  std::int64_t end = 0;
  for (std::int64_t first = 0; first < columns.units; first = end) {
    end = columns.block_end(first, piece);
    for (std::int64_t kb = 0; kb < k_blocks; ++kb) {
      const std::int64_t k = gemm_cut(g.k, k_blocks, kb);
      gemm_args<T> now = g;
      now.k = gemm_cut(g.k, k_blocks, kb + 1) - k;
      now.a += k * g.a_col;
      now.b += k * g.b_row;
      if (kb > 0) {
        now.start = g.c;
        now.start_row = g.c_row;
      }
      gemm_block<T> block = gemm_whole(now);
      block.slow = static_cast<std::int64_t>(fetchers) - 1;
      int regs = 0;
      for (std::int64_t unit = first; unit < end; unit += regs) {
        regs = columns.strip(unit, end, tiling.regs);
        const std::int64_t column = unit * width;
        const std::int64_t next = unit + regs;
        block.b = now.b + column;
        block.c = g.c + column;
        block.start = now.start == nullptr ? nullptr : now.start + column;
        block.last = std::min(next * width, g.n) - width - column;
        block.b_last = block.last;
        // The next strip; or the first one further down; or that of the next columns.
        block.ahead = next < end          ? regs * width
                      : kb + 1 < k_blocks ? now.k * g.b_row + (first - unit) * width
                                          : regs * width - k * g.b_row;
        gemm_rows(now, block, gemm_kernels<T>, regs);
      }
    }
  }
}

/// Fetches the first `lines` cache lines of some rows.
template <class T>
ASHLAR_INLINE void gemm_fetch(const T* p, std::int64_t row, int rows, int lines) {
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < lines; ++v) {
      __builtin_prefetch(p + r * row + v * std::int64_t{64 / sizeof(T)});
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
  constexpr std::int64_t block_units =
      std::max<std::int64_t>(blocking.n / (width * tiling.regs), 1) * tiling.regs;  // whole strips
  const auto columns = gemm_columns::of(g);
  const std::int64_t k_blocks = std::max<std::int64_t>(ceil_div(g.k, blocking.k), 1);
  const bool pack_a = g.a_col != 1 && g.m > 1;
  const std::int64_t m_blocks = pack_a ? ceil_div(g.m, blocking.m) : 1;
  const std::int64_t block_k = ceil_div(g.k, k_blocks);
  const std::int64_t block_n = std::min(block_units, columns.units) * width;
  const std::int64_t block_m = ceil_div(g.m, m_blocks);
  T* const packed_b = gemm_scratch<T, gemm_packed>(block_k * block_n +
                                                   (pack_a ? block_k * block_m : std::int64_t{0}));
  T* const packed_a = packed_b + block_k * block_n;

  std::int64_t end_unit = 0;
  for (std::int64_t first_unit = 0; first_unit < columns.units; first_unit = end_unit) {
    end_unit = columns.block_end(first_unit, block_units);
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
          int regs = 0;
          for (std::int64_t unit = first_unit; unit < end_unit; unit += regs) {
            regs = columns.strip(unit, end_unit, tiling.regs);
            const std::int64_t column = unit * width;
            const std::int64_t last =
                std::max<std::int64_t>(std::min((unit + regs) * width, g.n) - width - column, 0);
            T* const b = packed_b + (unit - first_unit) * width * depth;
            T* const c = g.c + row * g.c_row + column;
            gemm_block<T> block{.k = depth,
                                .a = a,
                                .a_row = a_row,
                                .a_col = a_col,
                                .b = b,
                                .b_row = regs * width,
                                .start = c,
                                .start_row = g.c_row,
                                .c = c,
                                .c_row = g.c_row,
                                .b_last = (regs - 1) * width,
                                .last = last};
            if (kb == 0) {
              block.start = g.start == nullptr ? nullptr : g.start + row * g.start_row + column;
              block.start_row = g.start_row;
            }
            // What the next block of C begins with.
            const bool next_row = unit + regs == end_unit;
            gemm_fetch(
                next_row ? g.c + (row + rows) * g.c_row + first_unit * width : c + regs * width,
                g.c_row, rows, tiling.regs);
            if (next_row) {
              gemm_fetch(a + rows * g.a_row, g.a_row, rows, 4);
            }
            if (ib == 0 && i == 0) {
              const T* const from = g.b + k0 * g.b_row + column * g.b_col;
              if (rows == tiling.rows && regs == tiling.regs && g.b_col == 1 && g.n >= width) {
                block.b = from;
                block.b_row = g.b_row;
                block.b_last = last;
                block.copy = b;
                block.ahead = 64 * g.b_row;  // nothing in hardware follows rows across pages
                gemm_kernel<T, tiling.rows, tiling.regs, true>(block);
                continue;
              }
              gemm_pack_b(from, g.b_row, g.b_col, depth, regs, last, g.n, b);
            }
            gemm_kernels<T>[static_cast<std::size_t>(rows - 1)][static_cast<std::size_t>(regs - 1)](
                block);
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
  const bool far = size > blocking.near;
  if (g.b_col == 1 && far && g.m == 1) {
    gemm_swept(g);
  } else if (g.b_col == 1 && (!far || g.m <= blocking.direct_rows)) {
    gemm_direct(g);
  } else if (g.b_col == 1 &&
             (g.m <= blocking.few_rows ||
              (g.m <= blocking.fetch_rows && g.k >= blocking.fetch_k / 2 && g.a_col == 1))) {
    gemm_fetched(g);
  } else if (g.b_col == 1 && g.m <= blocking.some_rows && size <= blocking.far) {
    gemm_direct(g);
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
