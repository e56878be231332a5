// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

namespace ashlar {

/// What there is to know about a chip before its first program: limits and rates that block sizes
/// follow from. What is not known may keep its default: blocks are then sensible, not the best.
struct chip_description {
  std::string_view name;
  std::size_t vector_bytes = 16;               ///< of one vector register
  std::array<int, 3> matrix_unit = {1, 1, 1};  ///< M, N, K of one matrix instruction [elements]
  std::size_t scratchpad_bytes = 32 * 1024;    ///< fast memory next to one core (a cache, on a CPU)
  int scratchpad_banks = 1;
  std::size_t alignment = 64;  ///< of a tensor's first element [bytes]
  int dma_engines = 0;

  std::size_t register_bytes = 0;  ///< all vector registers; 0: every tile is in the scratchpad
  std::size_t cache_bytes = 0;     ///< a larger cache behind the scratchpad; 0: there is none
  int loads_per_cycle = 1;         ///< vectors from the scratchpad, where there are registers
  std::array<int, 3> matrix_cycles = {1, 1, 1};  ///< of a matrix instruction: f32, 16-bit, 8-bit
  int matrix_latency = 4;                        ///< until a sum can be added to again [cycles]
  int memory_bytes_per_cycle = 16;               ///< between memory and the scratchpad
  int memory_latency = 100;        ///< from asking for bytes to the first of them [cycles]
  int memory_burst_bytes = 32;     ///< a row of a block takes whole bursts
  int memory_outstanding = 4;      ///< transfers that are asked for and not finished
  int control_cycles = 16;         ///< around a step of a loop: addresses, bounds, waits
  int bank_bytes = 8;              ///< what one bank of the scratchpad delivers in a cycle
  bool copy_uses_compute = false;  ///< nothing is computed while bytes move

  friend constexpr bool operator==(const chip_description&, const chip_description&) = default;
};

}  // namespace ashlar
