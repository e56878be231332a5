// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// Few rows times a B stored by columns, where each element is the sum of lanes along K.
namespace ashlar::chip::detail {

/// Rows for which this pays.
inline constexpr std::int64_t gemm_lane_rows = 4;

/// Element k adds to lane `k mod 32`; then the halves, then sixteen lanes by a fixed tree.
template <class T, int Rows, int Columns>
[[gnu::noinline]] void gemm_lane_block(const gemm_args<T>& g, std::int64_t column) {
  constexpr std::int64_t step = 2 * simd::lanes;
  const T* const a = g.a;
  const T* const b = g.b + column * g.b_col;
  simd::vec<T> sum[Rows][Columns][2];
  const auto add = [&](const auto& load) __attribute__((always_inline)) {
    ASHLAR_DETAIL_UNROLL for (int h = 0; h < 2; ++h) {
      simd::vec<T> x[Rows];
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) { x[r] = load(a + r * g.a_row, h); }
      ASHLAR_DETAIL_UNROLL for (int q = 0; q < Columns; ++q) {
        const simd::vec<T> y = load(b + q * g.b_col, h);
        ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
          sum[r][q][h] = simd::madd(x[r], y, sum[r][q][h]);
        }
      }
    }
  };
  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int q = 0; q < Columns; ++q) {
      sum[r][q][0] = simd::broadcast(T(0));
      sum[r][q][1] = simd::broadcast(T(0));
    }
  }
  std::int64_t k = 0;
  for (; k + step <= g.k; k += step) {
    add([&](const T* p, int h)
            __attribute__((always_inline)) { return simd::load(p + k + h * simd::lanes); });
  }
  if (k < g.k) {
    const std::int64_t rest = g.k - k;
    add([&](const T* p, int h) __attribute__((always_inline)) {
      const std::int64_t from = h * std::int64_t{simd::lanes};
      const std::int64_t n = std::clamp<std::int64_t>(rest - from, 0, simd::lanes);
      return simd::load_partial(p + k + std::min(from, rest), static_cast<int>(n));
    });
  }
  for (int r = 0; r < Rows; ++r) {
    for (int q = 0; q < Columns; ++q) {
      const std::int64_t j = column + q;
      const T total = simd::sum(sum[r][q][0] + sum[r][q][1]);
      g.c[r * g.c_row + j * g.c_col] =
          g.start == nullptr ? total : g.start[r * g.start_row + j * g.start_col] + total;
    }
  }
}

template <class T, int Rows>
void gemm_lanes_of(const gemm_args<T>& g) {
  constexpr int columns = Rows <= 2 ? 4 : 2;
  std::int64_t j = 0;
  for (; j + columns <= g.n; j += columns) {
    gemm_lane_block<T, Rows, columns>(g, j);
  }
  for (; j < g.n; ++j) {
    gemm_lane_block<T, Rows, 1>(g, j);
  }
}

/// On the calling thread. Requires: 0 < m <= `gemm_lane_rows`, unit strides along K.
template <class T>
void gemm_lanes(const gemm_args<T>& g) {
  switch (g.m) {
    case 1:
      return gemm_lanes_of<T, 1>(g);
    case 2:
      return gemm_lanes_of<T, 2>(g);
    case 3:
      return gemm_lanes_of<T, 3>(g);
    default:
      return gemm_lanes_of<T, 4>(g);
  }
}

}  // namespace ashlar::chip::detail
