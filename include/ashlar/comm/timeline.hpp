// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::comm {

/// Lanes and categories of timelines of runs.
namespace lanes {
inline constexpr const char* compute = "compute";  ///< a category, and lane 0
inline constexpr const char* collective = "collective";
inline constexpr int first_channel = 3;  ///< behind computation, sends and receives

/// The lane of a collective with this tag, and what it is called.
inline std::pair<int, std::string> of_collective(int tag) {
  const int group = tag / tags::of_each_group;
  const int own = tag % tags::of_each_group;
  const int channel = own >= tags::first ? (own - tags::first) / 8 : 0;
  return {first_channel + group * tags::channels + channel,
          "collectives, " + (group == 0 ? "" : "group " + std::to_string(group) + ", ") +
              "channel " + std::to_string(channel)};
}
}  // namespace lanes

/// Throws: `argument_error` for what is no time, or is after the last tick of 64 bits.
inline std::int64_t ticks_of(double seconds, double ticks_per_second) {
  const double ticks = seconds * ticks_per_second;
  if (!(std::abs(ticks) < 0x1p62)) {
    throw argument_error(
        "ashlar::comm::ticks_of",
        "a time is none, or beyond 2^62 ticks; are the rates what they should be?");
  }
  return std::llround(ticks);
}

/// How much of a rank's communication lies behind its computation.
struct overlap {
  std::int64_t communication = 0;  ///< [ticks] in which a collective is under way
  std::int64_t hidden = 0;         ///< of these, in which the rank computes
  [[nodiscard]] double share() const {
    return communication == 0 ? 1.0
                              : static_cast<double>(hidden) / static_cast<double>(communication);
  }
};

/// Looks at the events of one rank, by their categories.
///
/// Cost: O(n log n) in the number of events.
inline overlap overlap_of(const trace::timeline& t, int rank) {
  struct edge {
    std::int64_t at;
    int computing;
    int communicating;
  };
  std::vector<edge> edges;
  for (const trace::event& e : t.events()) {
    const bool computes = e.category == lanes::compute;
    if (e.process == rank && (computes || e.category == lanes::collective)) {
      edges.push_back({e.start, computes ? 1 : 0, computes ? 0 : 1});
      edges.push_back({e.end(), computes ? -1 : 0, computes ? 0 : -1});
    }
  }
  std::ranges::sort(edges, {}, &edge::at);
  overlap found;
  int computing = 0;
  int communicating = 0;
  std::int64_t since = 0;
  for (const edge& e : edges) {
    if (communicating > 0) {
      found.communication += e.at - since;
      found.hidden += computing > 0 ? e.at - since : 0;
    }
    computing += e.computing;
    communicating += e.communicating;
    since = e.at;
  }
  return found;
}

/// Collects a simulated collective as a timeline: a process per rank, with what it sends, receives
/// and reduces. An observer for `simulate`; ticks are picoseconds.
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
    for (const int rank : {from, to}) {
      double& last = arrived_[rank];
      last = std::max(last, end);
    }
  }
  void ended(int rank, const round_steps& /*steps*/, double begin, double end) {
    // Messages first, then the round's reductions.
    const double from = std::max(begin, arrived_[rank]);
    if (end > from) {
      timeline_.add({"reduce", lanes::compute, rank, 2, ticks(from), ticks(end) - ticks(from)});
      timeline_.name_lane(rank, 2, "rank " + std::to_string(rank) + " reduces");
    }
    timeline_.name_lane(rank, 0, "rank " + std::to_string(rank) + " sends");
    timeline_.name_lane(rank, 1, "rank " + std::to_string(rank) + " receives");
  }

  [[nodiscard]] const trace::timeline& timeline() const { return timeline_; }

 private:
  static std::int64_t ticks(double seconds) { return ticks_of(seconds, 1e12); }

  std::size_t element_bytes_;
  std::map<int, double> arrived_;  // each rank's last message
  trace::timeline timeline_;
};

}  // namespace ashlar::comm
