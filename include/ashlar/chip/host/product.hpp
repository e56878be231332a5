// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>

#include "ashlar/chip/host/detail/gemm_lanes.hpp"
#include "ashlar/chip/host/gemm.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/chip/host/gemm_narrow.hpp"
#include "ashlar/chip/host/product_order.hpp"

namespace ashlar::chip {

/// Multiplies two matrices of any element type, adding up in the given order.
///
/// Requires, Cost: as `gemm`.
template <product_order Order, class T>
void product(const gemm_args<T, sum_of<T>>& g) {
  if constexpr (Narrow<T>) {
    gemm_narrow<Order>(g);
  } else {
    if constexpr (Order == product_order::lanes) {
      if (g.b_row == 1 && g.b_col != 1 && g.a_col == 1 && g.m > 0 &&
          g.m <= detail::gemm_lane_rows && g.k >= simd::lanes) {
        detail::gemm_on_threads(g, detail::gemm_lane_rows, simd::lanes,
                                [](const gemm_args<T>& part) { detail::gemm_lanes(part); });
        return;
      }
    }
    gemm(g);
  }
}

}  // namespace ashlar::chip
