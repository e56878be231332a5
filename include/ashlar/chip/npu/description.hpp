// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

#include "ashlar/chip/description.hpp"

namespace ashlar::chip {

/// A short name that a template argument can hold.
struct npu_label {
  std::array<char, 32> text{};

  constexpr npu_label() = default;
  template <std::size_t N>
    requires(N <= 32)
  constexpr npu_label(const char (&literal)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
      text[i] = literal[i];
    }
  }
  [[nodiscard]] constexpr std::string_view view() const {
    std::size_t length = 0;
    while (length < text.size() && text[length] != '\0') {
      ++length;
    }
    return {text.data(), length};
  }
  friend constexpr bool operator==(const npu_label&, const npu_label&) = default;
};

/// Cycles that the matrix unit needs for one step of M x N x K, by the type of its operands.
struct npu_matrix_cycles {
  int f32 = 64;
  int f16 = 16;  ///< also bfloat16
  int i8 = 8;
  friend constexpr bool operator==(const npu_matrix_cycles&, const npu_matrix_cycles&) = default;
};

/// Everything that the reference accelerator's timing and limits follow from; docs/npu_isa.md says
/// how.
struct npu_description {
  npu_label name = "npu";
  int scratchpad_bytes = 256 * 1024;
  int scratchpad_banks = 32;
  int bank_bytes = 8;             ///< what one bank delivers in a cycle
  int scratchpad_alignment = 32;  ///< of what DMA and the matrix unit touch [bytes]
  int vector_bytes = 128;         ///< elements of one vector step, in bytes of their type
  int vector_latency = 6;         ///< from the last step to the result [cycles]
  int special_cycles = 4;         ///< per step of exp, log, division, ... [cycles]
  int special_latency = 20;       ///< as `vector_latency`, for those
  std::array<int, 3> matrix_unit = {16, 16, 32};  ///< M, N, K of one step [elements]
  npu_matrix_cycles matrix_cycles = {};
  int matrix_latency = 32;  ///< depth of the pipeline [cycles]
  int dma_engines = 2;
  int dma_bytes_per_cycle = 32;  ///< of the memory channel, which all engines share
  int dma_latency = 100;         ///< from issue to the first byte [cycles]
  int dma_burst_bytes = 32;      ///< a row of a box takes whole bursts
  int dma_outstanding = 4;       ///< transfers that one engine has issued and not finished
  int queue_depth = 16;          ///< instructions that wait in front of one engine
  int semaphores = 64;
  int alignment = 64;              ///< of a tensor in global memory [bytes]
  bool copy_uses_compute = false;  ///< a transfer occupies the vector and the matrix unit
  int devices = 1;                 ///< how many of it one process may use

  /// What any chip tells. Requires: `*this` outlives the result, whose name it holds.
  [[nodiscard]] constexpr chip_description general() const {
    return {.name = name.view(),
            .vector_bytes = static_cast<std::size_t>(vector_bytes),
            .matrix_unit = matrix_unit,
            .scratchpad_bytes = static_cast<std::size_t>(scratchpad_bytes),
            .scratchpad_banks = scratchpad_banks,
            .alignment = static_cast<std::size_t>(alignment),
            .dma_engines = dma_engines,
            .matrix_cycles = {matrix_cycles.f32, matrix_cycles.f16, matrix_cycles.i8},
            .matrix_latency = matrix_latency,
            .memory_bytes_per_cycle = dma_bytes_per_cycle,
            .memory_latency = dma_latency,
            .memory_burst_bytes = dma_burst_bytes,
            .memory_outstanding = dma_engines * dma_outstanding,
            .control_cycles = 40,  // one scalar instruction a cycle
            .bank_bytes = bank_bytes,
            .copy_uses_compute = copy_uses_compute};
  }

  /// True where the simulator can build this machine.
  [[nodiscard]] constexpr bool valid() const {
    const auto power_of_two = [](int n) { return n > 0 && (n & (n - 1)) == 0; };
    return scratchpad_bytes > 0 && scratchpad_banks > 0 && power_of_two(bank_bytes) &&
           power_of_two(scratchpad_alignment) && vector_bytes >= 8 && vector_latency >= 0 &&
           special_cycles > 0 && special_latency >= 0 && matrix_unit[0] > 0 && matrix_unit[1] > 0 &&
           matrix_unit[2] > 0 && matrix_cycles.f32 > 0 && matrix_cycles.f16 > 0 &&
           matrix_cycles.i8 > 0 && matrix_latency >= 0 && dma_engines > 0 && dma_engines <= 13 &&
           dma_bytes_per_cycle > 0 && dma_latency >= 0 && dma_burst_bytes > 0 &&
           dma_outstanding > 0 && queue_depth > 0 && semaphores > 0 && power_of_two(alignment) &&
           devices > 0;
  }

  friend constexpr bool operator==(const npu_description&, const npu_description&) = default;
};

}  // namespace ashlar::chip
