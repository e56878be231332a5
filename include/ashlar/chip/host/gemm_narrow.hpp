// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/detail/narrow_groups.hpp"
#include "ashlar/chip/host/detail/narrow_widened.hpp"
#include "ashlar/chip/host/gemm.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/chip/host/product_order.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"

namespace ashlar::chip {

/// Elements that are multiplied as they are and add up in a wider type.
template <class T>
concept Narrow =
    std::same_as<T, bfloat16> || std::same_as<T, float16> || std::same_as<T, float8_e4m3> ||
    std::same_as<T, float8_e5m2> || std::same_as<T, std::int8_t>;

/// What products of `T` add up in.
template <class T>
using sum_of = std::conditional_t<std::same_as<T, std::int8_t>, std::int32_t,
                                  std::conditional_t<Narrow<T>, float, T>>;

/// Whether products of `T` in this order go through instructions that add up groups along K. int8
/// always may: it is exact.
template <class T>
constexpr bool adds_groups(product_order order) {
  return simd::has_groups<T> && (order != product_order::chain || std::same_as<T, std::int8_t>);
}

namespace detail {

/// On the calling thread. Requires: m, n, k > 0, and `start` is null or C itself.
template <product_order Order, Narrow T>
void narrow_serial(const gemm_args<T, sum_of<T>>& g) {
#if ASHLAR_DETAIL_BF16_GROUPS || ASHLAR_DETAIL_INT8_GROUPS
  if constexpr (adds_groups<T>(Order)) {
#if ASHLAR_DETAIL_TILE_UNIT
    if (simd::tile_unit_available()) {
      narrow_multiply<tile_unit<T>>(g);
      return;
    }
#endif
    narrow_multiply<group_unit<T>>(g);
    return;
  }
#endif
  if constexpr (!adds_groups<T>(Order)) {
    widened_multiply(g);
  }
}

}  // namespace detail

/// Multiplies two matrices of narrow elements.
///
/// Every element of C has one order of additions, which depends on K, on `Order` and on the machine
/// that this was compiled for, and not on M, N, strides or threads. `chain` is the order of `gemm`
/// over the elements as float. In groups the error of a bfloat16 product is at most K + K/32 unit
/// roundoffs of float times the sum of |a b|, and 2^-126 for each term that is below the normal
/// numbers. int8 is exact modulo 2^32.
/// Requires: as `gemm`.
/// Cost:     as `gemm`.
template <product_order Order = product_order::unit, Narrow T>
void gemm_narrow(const gemm_args<T, sum_of<T>>& args) {
  if (args.m <= 0 || args.n <= 0) {
    return;
  }
  gemm_args<T, sum_of<T>> g = args;
  if (g.k <= 0 || (g.start != nullptr &&
                   (g.start != g.c || g.start_row != g.c_row || g.start_col != g.c_col))) {
    detail::gemm_fill(g);
    if (g.k <= 0) {
      return;
    }
    g.start = g.c;
    g.start_row = g.c_row;
    g.start_col = g.c_col;
  }
  detail::gemm_on_threads(g, simd::block_side, simd::block_side,
                          [](const auto& part) { detail::narrow_serial<Order, T>(part); });
}

}  // namespace ashlar::chip
