// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ashlar/comm/schedule.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::comm {

/// Collects a simulated collective as a timeline: a process per rank, with what it sends and what
/// it receives. An observer for `simulate`; ticks are picoseconds.
class timeline_of_simulation {
 public:
  explicit timeline_of_simulation(std::size_t element_bytes) : element_bytes_(element_bytes) {
    timeline_.ticks_per_microsecond = 1e6;
  }

  void arrived(int from, const step& sent, int to, std::size_t /*number*/, const step& received,
               double begin, double end) {
    const auto bytes = std::to_string(sent.count * element_bytes_);
    const bool reduces = received.does == verb::receive_reduce;
    timeline_.add({"send to " + std::to_string(to),
                   "send",
                   from,
                   0,
                   ticks(begin),
                   ticks(end) - ticks(begin),
                   {{"bytes", bytes}}});
    timeline_.add({(reduces ? "reduce from " : "receive from ") + std::to_string(from),
                   "receive",
                   to,
                   1,
                   ticks(begin),
                   ticks(end) - ticks(begin),
                   {{"bytes", bytes}}});
  }
  void ended(int rank, const round_steps& /*steps*/, double /*begin*/, double /*end*/) {
    timeline_.name_lane(rank, 0, "sends");
    timeline_.name_lane(rank, 1, "receives");
  }

  [[nodiscard]] const trace::timeline& timeline() const { return timeline_; }

 private:
  static std::int64_t ticks(double seconds) { return std::llround(seconds * 1e12); }

  std::size_t element_bytes_;
  trace::timeline timeline_;
};

}  // namespace ashlar::comm
