// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "ashlar/chip/npu/detail/dma_unit.hpp"
#include "ashlar/chip/npu/detail/footprint.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/races.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/report.hpp"

namespace ashlar::chip::npu_isa::detail {

/// The cycle of what cannot happen yet.
inline constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

/// An instruction in front of its engine.
struct entry {
  job w;
  std::int64_t dispatched = 0;
  vector_clock clock;
  std::size_t barrier = 0;
};

/// A result that is still in the pipeline.
struct in_flight {
  footprint bytes;
  std::int64_t ready = 0;
};

struct engine {
  std::deque<entry> queue;
  std::deque<dma_transfer> issued;
  std::vector<in_flight> flight;
  std::int64_t free = 0;      ///< when the next instruction can start
  std::int64_t occupied = 0;  ///< until then it computes, or a transfer uses it
  std::int64_t drain = 0;     ///< when the last result is there
  std::int64_t last_start = 0;
  bool at_barrier = false;
  vector_clock clock;
  engine_report stats;
};

using engines = std::array<engine, max_units>;

/// Engines that come to a barrier.
struct meeting {
  std::uint64_t mask = 0, arrived = 0;
  std::int64_t time = 0;
  vector_clock clock;
  std::array<std::int64_t, max_units> since{};
};

/// Counted tokens, each with the time of its signal and with what that signal knew to be over.
class semaphore_bank {
 public:
  explicit semaphore_bank(int count) : tokens_(static_cast<std::size_t>(count)) {}

  void give(const job& w, const engine& from) {
    auto& tokens = tokens_[static_cast<std::size_t>(w.x)];
    for (std::int64_t n = 0; n < w.y; ++n) {
      // Tokens are taken in the order of their times.
      const auto after =
          std::upper_bound(tokens.begin(), tokens.end(), from.free,
                           [](std::int64_t t, const token& k) { return t < k.time; });
      tokens.insert(after, {from.free, from.clock});
    }
  }

  void take(const job& w, engine& by) {
    auto& tokens = tokens_[static_cast<std::size_t>(w.x)];
    for (std::int64_t n = 0; n < w.y; ++n) {
      by.clock.join(tokens.front().clock);
      tokens.pop_front();
    }
  }

  /// Returns: when `count` tokens are there for somebody who asks at `ready`; `never` if nobody has
  /// given as many.
  [[nodiscard]] std::int64_t time(std::int64_t semaphore, std::int64_t count,
                                  std::int64_t ready) const {
    const auto& tokens = tokens_[static_cast<std::size_t>(semaphore)];
    if (static_cast<std::int64_t>(tokens.size()) < count) {
      return never;
    }
    return count == 0 ? ready : std::max(ready, tokens[static_cast<std::size_t>(count) - 1].time);
  }

 private:
  struct token {
    std::int64_t time;
    vector_clock clock;
  };
  std::vector<std::deque<token>> tokens_;
};

}  // namespace ashlar::chip::npu_isa::detail
