// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::chip::npu_isa {

/// Bytes of global memory that a program may touch, at the addresses that it uses for them.
struct region {
  std::int64_t address = 0;
  std::span<std::byte> bytes;

  /// An array, at the address where the host sees it.
  template <class T>
  static region of(std::span<T> elements) {
    const std::span<std::byte> raw{reinterpret_cast<std::byte*>(elements.data()),
                                   elements.size_bytes()};
    return {static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(raw.data())), raw};
  }
};

/// A box that `print` was given: its elements, row by row.
struct printed {
  std::uint64_t number = 0;  ///< of the instruction
  element type = element::f32;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::byte> bytes{};
};

struct run_options {
  bool timeline = true;                          ///< record one event per instruction
  std::int64_t cycle_limit = 1'000'000'000'000;  ///< where a program counts as endless
  std::int64_t step_limit = 200'000'000;         ///< instructions, likewise
  std::function<void(const printed&)> print{};   ///< hears each `print`; nobody, where empty
};

/// What one engine did.
struct engine_report {
  std::string name;
  std::int64_t instructions = 0;
  std::int64_t busy = 0;     ///< cycles in which it worked; DMA: in which it moved bytes
  std::int64_t waiting = 0;  ///< cycles in `wait` and `barrier`

  friend bool operator==(const engine_report&, const engine_report&) = default;
};

/// What a run took.
struct run_report {
  std::int64_t cycles = 0;  ///< until the last engine was done
  std::vector<engine_report> engines;
  std::int64_t bytes_loaded = 0;
  std::int64_t bytes_stored = 0;
  std::int64_t channel_cycles = 0;   ///< in which the memory channel moved bytes
  std::int64_t bank_conflicts = 0;   ///< cycles lost to them
  std::int64_t pipeline_stalls = 0;  ///< cycles in which an engine waited for its own result
  trace::timeline timeline;          ///< lane = engine, tick = cycle

  /// The part of all cycles in which the engine worked.
  [[nodiscard]] double utilisation(int unit) const {
    return cycles == 0 ? 0.0
                       : static_cast<double>(engines[static_cast<std::size_t>(unit)].busy) /
                             static_cast<double>(cycles);
  }
  friend bool operator==(const run_report&, const run_report&) = default;
};

}  // namespace ashlar::chip::npu_isa
