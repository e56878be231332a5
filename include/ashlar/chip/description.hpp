// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

namespace ashlar {

/// What there is to know about a chip before its first program: limits that block sizes follow
/// from.
struct chip_description {
  std::string_view name;
  std::size_t vector_bytes = 16;               ///< of one vector register
  std::array<int, 3> matrix_unit = {1, 1, 1};  ///< M, N, K of one matrix instruction [elements]
  std::size_t scratchpad_bytes = 32 * 1024;    ///< fast memory next to one core (a cache, on a CPU)
  int scratchpad_banks = 1;
  std::size_t alignment = 64;  ///< of a tensor's first element [bytes]
  int dma_engines = 0;

  friend constexpr bool operator==(const chip_description&, const chip_description&) = default;
};

}  // namespace ashlar
