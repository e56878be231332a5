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
    for (std::size_t v = 0; v < past_.size(); ++v) {
      if (static_cast<int>(v) == unit) {
        continue;
      }
      for (const bool kind : {true, false}) {
        const history& theirs = past_[v][kind];
        if ((kind || write) && now.at[v] < theirs.newest) {
          for (const access& a : theirs.accesses) {
            if (now.at[v] < a.clock && overlap(a.bytes, f)) {
              return a.instruction;
            }
          }
        }
      }
    }
    history& own = past_[static_cast<std::size_t>(unit)][write];
    own.newest = now.at[static_cast<std::size_t>(unit)];
    for (access& a : own.accesses) {
      // A later access of the same engine to the same bytes stands for the earlier one.
      if (a.bytes.base == f.base && a.bytes == f) {  // they begin apart, most of them
        a.clock = own.newest;
        a.instruction = instruction;
        return none;
      }
    }
    own.accesses.push_back({f, own.newest, instruction});
    ++size_;
    return none;
  }

  /// Forgets what every engine knows to be over; worth a call only where `large()`.
  void prune(const std::array<vector_clock, max_units>& clocks) {
    size_ = 0;
    for (std::size_t v = 0; v < past_.size(); ++v) {
      for (history& h : past_[v]) {
        std::erase_if(h.accesses, [&](const access& a) {
          for (std::size_t u = 0; u < clocks.size(); ++u) {
            if (engines_[u] && u != v && clocks[u].at[v] < a.clock) {
              return false;
            }
          }
          return true;
        });
        size_ += h.accesses.size();
      }
    }
    limit_ = std::max<std::size_t>(64, 2 * size_);
  }
  [[nodiscard]] bool large() const { return size_ >= limit_; }

 private:
  struct access {
    footprint bytes;
    std::uint64_t clock;
    std::size_t instruction;
  };
  struct history {
    std::vector<access> accesses;
    std::uint64_t newest = 0;  // no clock in `accesses` is later
  };
  std::array<bool, max_units> engines_;
  std::array<std::array<history, 2>, max_units> past_;  // of each engine: reads, writes
  std::size_t size_ = 0;
  std::size_t limit_ = 64;
};

}  // namespace ashlar::chip::npu_isa::detail
