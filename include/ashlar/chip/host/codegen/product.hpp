// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/chip/host/product.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/argument.hpp"

/// A loop of `dot` over large tiles: one product of matrices with packed operands.
namespace ashlar::chip::host_codegen::detail {

struct product_scratch;

/// A matrix among the arguments, and what it reads as outside.
template <class T>
struct product_operand {
  const T* data;
  std::int64_t rows, columns;
  std::int64_t row, column;  ///< strides
  T fill;

  /// The last two axes of a view at `lead` along the others; empty where that is outside.
  template <std::size_t Lead>
  product_operand(const tile::argument& a, T outside, const std::array<std::int64_t, Lead>& lead)
      : data(reinterpret_cast<const T*>(a.data)),
        rows(a.extents[Lead]),
        columns(a.extents[Lead + 1]),
        row(a.strides[Lead]),
        column(a.strides[Lead + 1]),
        fill(outside) {
    for (std::size_t k = 0; k < Lead; ++k) {
      if (lead[k] < 0 || lead[k] >= a.extents[k]) {
        rows = 0;
        columns = 0;
        return;
      }
      data += lead[k] * a.strides[k];
    }
  }
  product_operand() = default;

  void turn() {
    std::swap(rows, columns);
    std::swap(row, column);
  }

  /// The block at (i, j) of n x m elements: where it lies, or a copy that is filled up in `room`.
  product_operand block(std::int64_t i, std::int64_t j, std::int64_t n, std::int64_t m,
                        T* room) const {
    product_operand b = *this;
    b.rows = n;
    b.columns = m;
    const bool whole =
        i >= 0 && j >= 0 && n <= rows && m <= columns && i <= rows - n && j <= columns - m;
    if (whole) {
      b.data = data + (i * row + j * column);
      return b;
    }
    b.data = room;
    b.row = m;
    b.column = 1;
    for (std::int64_t r = 0; r < n; ++r) {
      T* const to = room + r * m;
      if (i < -r || i + r >= rows) {
        std::fill(to, to + m, fill);
        continue;
      }
      const std::int64_t begin = j < 0 ? std::min(m, -j) : 0;
      const std::int64_t end = std::clamp<std::int64_t>(columns - std::min(j, columns), begin, m);
      const T* const from = data + (i + r) * row;
      std::fill(to, to + begin, fill);
      for (std::int64_t q = begin; q < end; ++q) {
        to[q] = from[(j + q) * column];
      }
      std::fill(to + end, to + m, fill);
    }
    return b;
  }
};

/// `result = c + A[i .., first ..] B[first .., j ..]` for the rounds that the loop makes.
template <product_order Order, int M, int N, int K, class T, class R = sum_of<T>>
[[gnu::noinline]] void multiply_blocks(tile_value<R, std::int64_t{M} * N>& result,
                                       const tile_value<R, std::int64_t{M} * N>& c,
                                       const product_operand<T>& a, std::int64_t i,
                                       const product_operand<T>& b, std::int64_t j,
                                       std::int64_t first, std::int64_t end, std::int64_t step) {
  if (&result != &c) {
    assign(result, c);
  }
  if (first >= end) {
    return;
  }
  const std::uint64_t length = static_cast<std::uint64_t>(end) - static_cast<std::uint64_t>(first);
  const auto rounds =
      static_cast<std::int64_t>((length - 1) / static_cast<std::uint64_t>(step)) + 1;
  // In pieces, so that a copy of what reaches over the edge has a bound.
  constexpr std::int64_t rounds_at_once = std::max(1, 2048 / K);
  for (std::int64_t at = 0; at < rounds; at += rounds_at_once) {
    const std::int64_t depth = std::min(rounds_at_once, rounds - at) * K;
    const std::int64_t k = first + at * step;
    const std::int64_t elements = depth * (M + N);
    T* const room = chip::detail::gemm_scratch<T, product_scratch>(elements);
    const product_operand<T> x = a.block(i, k, M, depth, room);
    const product_operand<T> y = b.block(k, j, depth, N, room + depth * M);
    R* const to = reinterpret_cast<R*>(result.part);
    chip::product<Order, T>({.m = M,
                             .n = N,
                             .k = depth,
                             .a = x.data,
                             .a_row = x.row,
                             .a_col = x.column,
                             .b = y.data,
                             .b_row = y.row,
                             .b_col = y.column,
                             .c = to,
                             .c_row = N,
                             .c_col = 1,
                             .start = to,
                             .start_row = N,
                             .start_col = 1});
  }
}

}  // namespace ashlar::chip::host_codegen::detail
