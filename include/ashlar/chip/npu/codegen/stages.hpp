// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/detail/timing.hpp"
#include "ashlar/core/ceil_div.hpp"

/// How many rounds of a loop should be on their way at a time.
namespace ashlar::chip::npu_codegen {

/// What one round of a region keeps busy, by the simulator's rules for time [cycles].
struct round_cost {
  std::int64_t channel = 0;  ///< of the memory channel
  std::int64_t vector = 0, matrix = 0;
  std::int64_t latency = 0;  ///< of whatever the round waits for

  friend round_cost operator+(const round_cost& a, const round_cost& b) {
    return {a.channel + b.channel, a.vector + b.vector, a.matrix + b.matrix, a.latency + b.latency};
  }
  /// Of either: whichever takes longer.
  friend round_cost larger(const round_cost& a, const round_cost& b) {
    return {std::max(a.channel, b.channel), std::max(a.vector, b.vector),
            std::max(a.matrix, b.matrix), std::max(a.latency, b.latency)};
  }
};

namespace detail {

inline round_cost cost_of(const npu_description& d, const isa::instruction& code) {
  const isa::unit_kind unit = isa::kind_of(code.unit);
  if (unit == isa::unit_kind::control) {
    return {};
  }
  const isa::program alone{{code}, {}};
  const isa::detail::job job = isa::detail::resolve(d, alone, 0, {});
  const isa::detail::timing times(d);
  round_cost cost;
  if (unit == isa::unit_kind::dma) {
    cost.channel = times.transfer(job.rows, job.cols * isa::size_of(code.type));
    return cost;
  }
  const isa::detail::charge c = unit == isa::unit_kind::matrix
                                    ? times.matrix(job)
                                    : times.vector(isa::detail::scratchpad(0), job);
  (unit == isa::unit_kind::matrix ? cost.matrix : cost.vector) = c.cycles;
  cost.latency = c.latency;
  return cost;
}

}  // namespace detail

/// Returns: for each region, what one run of its body costs. Nobody knows how often an inner loop
/// runs: it counts once.
inline std::vector<round_cost> costs_of(const chip_program& c) {
  std::vector<round_cost> all(c.regions.size());
  // Regions inside others come later.
  for (std::size_t r = c.regions.size(); r-- > 0;) {
    for (const step& s : c.regions[r].steps) {
      round_cost cost;
      if (s.kind == step_kind::operation) {
        cost = detail::cost_of(c.machine, s.code);
      }
      for (const int inner : s.regions) {
        if (inner >= 0) {
          cost = larger(cost, all[static_cast<std::size_t>(inner)]);
        }
      }
      all[r] = all[r] + cost;
    }
    all[r].latency +=
        all[r].channel > 0 && c.regions[r].kind == region_kind::loop ? c.machine.dma_latency : 0;
  }
  return all;
}

/// Returns: how many rounds of a body to keep on their way.
///
/// The busiest of memory channel, vector and matrix unit sets the pace. As many rounds overlap as
/// one takes longer than that; one more is there for transfers that have to let others pass.
inline int stages_for(const npu_description& d, const round_cost& round) {
  constexpr std::int64_t most = 8;
  const std::int64_t units = std::max(round.vector, round.matrix);
  const std::int64_t pace = std::max<std::int64_t>(
      1, d.copy_uses_compute ? round.channel + units : std::max(round.channel, units));
  const std::int64_t whole = round.channel + round.vector + round.matrix + round.latency;
  return static_cast<int>(std::clamp<std::int64_t>(ceil_div(whole, pace) + 1, 1, most));
}

}  // namespace ashlar::chip::npu_codegen
