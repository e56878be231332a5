// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/detail/footprint.hpp"
#include "ashlar/chip/npu/instruction.hpp"

namespace ashlar::chip::npu_isa::detail {

/// How much of each engine's past an event knows to be over.
struct vector_clock {
  std::array<std::uint64_t, max_units> at{};

  void join(const vector_clock& other) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      at[i] = std::max(at[i], other.at[i]);
    }
  }
};

/// What the engines have touched and some engine does not yet know to be over.
class access_log {
 public:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  /// `engines[u]` says whether unit `u` may still touch this memory.
  explicit access_log(std::array<bool, max_units> engines) : engines_(engines) {}

  /// Returns: the index of an instruction that races with this access, or `none`.
  ///
  /// Effects: remembers the access.
  /// Requires: `now.at[unit]` is the clock of this event.
  std::size_t add(const footprint& f, bool write, int unit, const vector_clock& now,
                  std::size_t instruction) {
    if (f.empty()) {
      return none;
    }
    for (const access& a : accesses_) {
      if (a.unit != unit && (a.write || write) &&
          now.at[static_cast<std::size_t>(a.unit)] < a.clock && overlap(a.bytes, f)) {
        return a.instruction;
      }
    }
    const std::uint64_t clock = now.at[static_cast<std::size_t>(unit)];
    for (access& a : accesses_) {
      // A later access of the same engine to the same bytes stands for the earlier one.
      if (a.unit == unit && a.write == write && a.bytes == f) {
        a.clock = clock;
        a.instruction = instruction;
        return none;
      }
    }
    accesses_.push_back({f, clock, instruction, unit, write});
    return none;
  }

  /// Forgets what every engine knows to be over; worth a call only where `large()`.
  void prune(const std::array<vector_clock, max_units>& clocks) {
    std::erase_if(accesses_, [&](const access& a) {
      for (std::size_t u = 0; u < clocks.size(); ++u) {
        if (engines_[u] && static_cast<int>(u) != a.unit &&
            clocks[u].at[static_cast<std::size_t>(a.unit)] < a.clock) {
          return false;
        }
      }
      return true;
    });
    limit_ = std::max<std::size_t>(64, 2 * accesses_.size());
  }
  [[nodiscard]] bool large() const { return accesses_.size() >= limit_; }

 private:
  struct access {
    footprint bytes;
    std::uint64_t clock;
    std::size_t instruction;
    int unit;
    bool write;
  };
  std::array<bool, max_units> engines_;
  std::vector<access> accesses_;
  std::size_t limit_ = 64;
};

}  // namespace ashlar::chip::npu_isa::detail
