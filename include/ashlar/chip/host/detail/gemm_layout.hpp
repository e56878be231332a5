// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/tile/layout.hpp"

/// Where the packed operands of the host's product lie, as layouts: what `gemm_pack_a` and
/// `gemm_pack_b` write, element by element.
namespace ashlar::chip::detail {

/// B, k x n, in strips of `regs` registers of `width` elements, one strip after the other: where
/// place `row * n + column` of B goes. Requires: whole strips.
constexpr tile::layout packed_b(std::int64_t k, std::int64_t n, std::int64_t regs,
                                std::int64_t width) {
  const std::int64_t columns = regs * width;
  const tile::layout_parts strips =
      product(tile::row_major({k, columns}), tile::layout{{n / columns, 1}});
  // (strip, row, column) in memory -> (row, strip, column) of B
  return {strips.each[0], strips.blocks[0], strips.each[1]};
}

/// `rows` rows of A, so that the values of one k lie together: where place `row * k + column` goes.
constexpr tile::layout packed_a(std::int64_t rows, std::int64_t k) {
  return {{rows, 1}, {k, rows}};
}

}  // namespace ashlar::chip::detail
