// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/timeline.hpp"
#include "ashlar/parallel/memory_model.hpp"
#include "ashlar/trace/timeline.hpp"

/// Training steps in simulated time, drawn: what is computed beside what moves. Every rank does the
/// same, so one is simulated.
namespace ashlar::parallel {

/// What a fully sharded unit costs.
struct unit_cost {
  double forward = 0;     ///< [s]
  double backward = 0;    ///< [s]
  double gather = 0;      ///< of its parameters [s]
  double scatter = 0;     ///< of its gradients [s]
  double parameters = 0;  ///< of the whole unit [bytes]
  double gradients = 0;   ///< likewise
};

/// How fully sharded units are handled.
struct fsdp_step_options {
  parallel::prefetch prefetch = parallel::prefetch::pre;
  bool forward_prefetch = true;       ///< gathers the next unit while one computes
  bool reshard_after_forward = true;  ///< else units stay whole until they have gone back
  bool copy_uses_compute = false;     ///< of the chip: nothing is computed while bytes move
};

/// A step as it went.
struct simulated_step {
  trace::timeline timeline;  ///< computation on lane 0; a tick is a nanosecond
  double seconds = 0;
  comm::overlap overlap;
  fsdp_peak_use peak;  ///< of units that are whole, and their gradients
};

namespace detail {

/// A rank that computes one thing after the other, and a network that does one transfer at a time.
class step_lanes {
 public:
  step_lanes(int process, const std::string& name, bool one_at_a_time)
      : process_(process), one_at_a_time_(one_at_a_time) {
    timeline_.ticks_per_microsecond = 1e3;
    timeline_.name_lane(process, 0, name + " computes");
    timeline_.name_lane(process, comm::lanes::first_channel, name + " moves");
  }

  /// Begins when its lane is free and `after` is over. Returns: when it ends.
  double compute(std::string name, double seconds, double after) {
    return add(0, std::move(name), seconds, after);
  }
  double move(std::string name, double seconds, double after) {
    return add(1, std::move(name), seconds, after);
  }

  /// Memory that is there from one time to another.
  void hold(double from, double to, double parameters, double gradients) {
    held_.push_back({from, parameters, gradients});
    held_.push_back({to, -parameters, -gradients});
  }

  [[nodiscard]] simulated_step finish() {
    simulated_step s;
    // At one time, what goes is gone before what comes.
    std::ranges::stable_sort(held_, [](const change& a, const change& b) {
      return std::pair(a.at, a.parameters + a.gradients) <
             std::pair(b.at, b.parameters + b.gradients);
    });
    double parameters = 0;
    double gradients = 0;
    for (const change& c : held_) {
      parameters += c.parameters;
      gradients += c.gradients;
      s.peak.parameters = std::max(s.peak.parameters, parameters);
      s.peak.together = std::max(s.peak.together, parameters + gradients);
    }
    s.seconds = std::max(free_[0], free_[1]);
    s.timeline = std::move(timeline_);
    s.overlap = comm::overlap_of(s.timeline, process_);
    return s;
  }

 private:
  struct change {
    double at;
    double parameters;
    double gradients;
  };

  double add(std::size_t lane, std::string name, double seconds, double after) {
    const double busy = one_at_a_time_ ? std::max(free_[0], free_[1]) : free_[lane];
    const double begin = std::max(busy, after);
    free_[lane] = begin + seconds;
    const std::int64_t from = comm::ticks_of(begin, 1e9);
    timeline_.add({std::move(name), lane == 0 ? comm::lanes::compute : comm::lanes::collective,
                   process_, lane == 0 ? 0 : comm::lanes::first_channel, from,
                   comm::ticks_of(begin + seconds, 1e9) - from});
    return free_[lane];
  }

  trace::timeline timeline_;
  int process_;
  bool one_at_a_time_;
  std::array<double, 2> free_{};
  std::vector<change> held_;
};

}  // namespace detail

/// Runs units forward and back as `fsdp` does: a unit's gradients are reduced while the next one
/// goes back, but for `prefetch::none`, which waits for every collective at once.
///
/// `process` and `name` are for the picture.
[[nodiscard]] inline simulated_step simulate_fsdp(std::span<const unit_cost> units,
                                                  const fsdp_step_options& how = {},
                                                  int process = 0,
                                                  const std::string& name = "FSDP") {
  detail::step_lanes lanes(process, name, how.copy_uses_compute);
  const std::size_t n = units.size();
  std::vector<double> since(n, 0);   // when its gather began
  std::vector<double> whole(n, -1);  // when it ended; -1: in parts
  double now = 0;                    // of the program that begins things
  const auto gather = [&](std::size_t i) {
    if (whole[i] < 0) {
      since[i] = now;
      whole[i] = lanes.move("gather " + std::to_string(i), units[i].gather, now);
    }
  };
  const auto drop = [&](std::size_t i) {
    lanes.hold(since[i], now, units[i].parameters, 0);
    whole[i] = -1;
  };
  for (std::size_t i = 0; i < n; ++i) {
    gather(i);
    now = std::max(now, whole[i]);
    if (how.forward_prefetch && i + 1 < n) {
      gather(i + 1);
    }
    now = lanes.compute("forward " + std::to_string(i), units[i].forward, now);
    if (how.reshard_after_forward) {
      drop(i);
    }
  }
  double reduced = 0;  // when the reduction under way ends
  for (std::size_t i = n; i-- > 0;) {
    gather(i);
    now = std::max(now, whole[i]);
    if (how.prefetch == prefetch::pre && i > 0) {
      gather(i - 1);
    }
    const double began = now;
    now = lanes.compute("backward " + std::to_string(i), units[i].backward, now);
    drop(i);
    now = std::max(now, reduced);
    if (how.prefetch == prefetch::post && i > 0) {
      gather(i - 1);
    }
    reduced = lanes.move("scatter " + std::to_string(i), units[i].scatter, now);
    lanes.hold(began, reduced, 0, units[i].gradients);
    if (how.prefetch == prefetch::none) {
      now = reduced;
    }
  }
  return lanes.finish();
}

/// What a layer costs whose halves, attention and feed-forward network, are divided over ranks.
struct divided_layer_cost {
  double forward = 0;   ///< of a rank's part of both halves [s]
  double backward = 0;  ///< likewise
  double reduce = 0;    ///< of what a half gives [s]
};

/// Runs layers forward and back on a tensor parallel group: four all-reduces a layer, each of which
/// the next computation waits for.
[[nodiscard]] inline simulated_step simulate_tensor_parallel(
    std::span<const divided_layer_cost> layers, int process = 0,
    const std::string& name = "Megatron") {
  detail::step_lanes lanes(process, name, true);
  double now = 0;
  const auto halves = [&](const char* what, std::size_t i, double seconds) {
    for (int half = 0; half < 2; ++half) {
      now = lanes.compute(what + std::to_string(i), seconds / 2, now);
      now = lanes.move("reduce", layers[i].reduce, now);
    }
  };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    halves("forward ", i, layers[i].forward);
  }
  for (std::size_t i = layers.size(); i-- > 0;) {
    halves("backward ", i, layers[i].backward);
  }
  return lanes.finish();
}

}  // namespace ashlar::parallel
