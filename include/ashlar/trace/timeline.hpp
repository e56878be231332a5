// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ashlar::trace {

/// Something that took time: one bar of a timeline.
struct event {
  std::string name;
  std::string category;
  int process = 0;            ///< a device, a rank
  int lane = 0;               ///< a thread, a queue, an engine of it
  std::int64_t start = 0;     ///< [ticks]
  std::int64_t duration = 0;  ///< [ticks]
  std::vector<std::pair<std::string, std::string>> details = {};

  [[nodiscard]] std::int64_t end() const { return start + duration; }
  friend bool operator==(const event&, const event&) = default;
};

/// Events on named lanes, in the order in which they were added.
///
/// A tick is whatever the producer counts (cycles, nanoseconds); `ticks_per_microsecond` says how
/// many of them a viewer shows as one microsecond.
class timeline {
 public:
  struct lane_name {
    int process = 0;
    int lane = 0;
    std::string name;
    friend bool operator==(const lane_name&, const lane_name&) = default;
  };

  double ticks_per_microsecond = 1.0;

  void add(event e) { events_.push_back(std::move(e)); }

  /// Effects: names a lane; the last name given stays.
  void name_lane(int process, int lane, std::string name) {
    for (lane_name& known : lanes_) {
      if (known.process == process && known.lane == lane) {
        known.name = std::move(name);
        return;
      }
    }
    lanes_.push_back({process, lane, std::move(name)});
  }

  [[nodiscard]] const std::vector<event>& events() const { return events_; }
  [[nodiscard]] const std::vector<lane_name>& lanes() const { return lanes_; }

  /// The last tick of any event; 0 when there is none.
  [[nodiscard]] std::int64_t end() const {
    std::int64_t last = 0;
    for (const event& e : events_) {
      last = std::max(last, e.end());
    }
    return last;
  }

  /// Ticks in which at least one event of the lane was running: overlaps count once.
  ///
  /// Cost: O(n log n) in the number of events.
  [[nodiscard]] std::int64_t busy(int process, int lane) const {
    std::vector<std::pair<std::int64_t, std::int64_t>> spans;
    for (const event& e : events_) {
      if (e.process == process && e.lane == lane && e.duration > 0) {
        spans.emplace_back(e.start, e.end());
      }
    }
    std::sort(spans.begin(), spans.end());
    std::int64_t total = 0;
    std::int64_t reached = spans.empty() ? 0 : spans.front().first;
    for (const auto& [first, last] : spans) {
      total += std::max<std::int64_t>(0, last - std::max(first, reached));
      reached = std::max(reached, last);
    }
    return total;
  }

  friend bool operator==(const timeline&, const timeline&) = default;

 private:
  std::vector<event> events_;
  std::vector<lane_name> lanes_;
};

}  // namespace ashlar::trace
