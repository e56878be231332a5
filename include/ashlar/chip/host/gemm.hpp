// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/detail/gemm_paths.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/simd/reg.hpp"

namespace ashlar::chip {
namespace detail {

// Multiply-adds that pay for waking a thread (a few microseconds).
inline constexpr double gemm_thread_work = 512 * 1024;

// Fewer rows take as long as these: their time is that of reading B.
inline constexpr std::int64_t gemm_reading_rows = 8;

/// Cuts C into a grid, one part per thread, in units of rows and columns: K is never cut.
template <class T, class R, class F>
[[gnu::noinline]] void gemm_threads(const gemm_args<T, R>& g, int threads, std::int64_t row_unit,
                                    std::int64_t column_unit, const F& serial) {
  const std::int64_t row_units = ceil_div(g.m, row_unit);
  const std::int64_t column_units = ceil_div(g.n, column_unit);
  // Every part reads its rows of A and packs its columns of B.
  std::int64_t down = 1;
  std::int64_t across = 1;
  double least = 0;
  for (std::int64_t d = 1; d <= std::min<std::int64_t>(threads, row_units); ++d) {
    const std::int64_t x = std::min<std::int64_t>(threads / d, column_units);
    const double work = static_cast<double>(ceil_div(row_units, d) * ceil_div(column_units, x));
    const double traffic = static_cast<double>(ceil_div(row_units, d) + ceil_div(column_units, x));
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
      const std::int64_t row = gemm_cut(row_units, down, i) * row_unit;
      const std::int64_t column = gemm_cut(column_units, across, j) * column_unit;
      gemm_args<T, R> now = g;
      now.m = std::min(gemm_cut(row_units, down, i + 1) * row_unit, g.m) - row;
      now.n = std::min(gemm_cut(column_units, across, j + 1) * column_unit, g.n) - column;
      now.a += row * g.a_row;
      now.b += column * g.b_col;
      now.c += row * g.c_row + column * g.c_col;
      now.start = g.start == nullptr ? nullptr : g.start + row * g.start_row + column * g.start_col;
      serial(now);
    }
  });
}

/// `serial`, or parts of it on several threads where that pays.
template <class T, class R, class F>
ASHLAR_INLINE void gemm_on_threads(const gemm_args<T, R>& g, std::int64_t row_unit,
                                   std::int64_t column_unit, const F& serial) {
  const double work = static_cast<double>(std::max(g.m, gemm_reading_rows)) *
                      static_cast<double>(g.n) * static_cast<double>(g.k);
  if (work >= 2 * gemm_thread_work) {
    const int threads = static_cast<int>(std::min<double>(host_threads(), work / gemm_thread_work));
    if (threads > 1) {
      gemm_threads(g, threads, row_unit, column_unit, serial);
      return;
    }
  }
  serial(g);
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

template <class T>
ASHLAR_INLINE void gemm_run(const gemm_args<T>& g) {
  gemm_on_threads(g, default_gemm_tiling<T>.rows, simd::reg<T>::width,
                  [](const gemm_args<T>& part) { gemm_serial(part); });
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
  if ((args.c_col != 1 && args.c_row == 1) || (args.n < width && args.m > args.n)) {
    detail::gemm_run(detail::gemm_transposed(args));
  } else {
    detail::gemm_run(args);
  }
}

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
