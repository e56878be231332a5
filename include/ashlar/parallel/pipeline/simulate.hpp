// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"
#include "ashlar/parallel/pipeline/validate.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::parallel::pipeline {

/// How long a stage takes for one micro-batch [ticks]; a backward pass is both gradients.
struct stage_times {
  std::int64_t forward = 1;
  std::int64_t input_gradient = 1;
  std::int64_t weight_gradient = 1;
};

/// How long everything takes [ticks].
struct timing {
  std::vector<stage_times> stages = {{}};  ///< by stage, or one for all
  std::int64_t transfer = 0;     ///< of a tensor between stages: so long it has the link to itself
  std::int64_t latency = 0;      ///< from a transfer's end to its arrival
  std::int64_t unshard = 0;      ///< of a stage; the rank waits
  std::int64_t reduce_grad = 0;  ///< of a stage; the rank waits
};

/// From where to where something took place [ticks].
struct interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  friend bool operator==(const interval&, const interval&) = default;
};

/// A tensor on its way; its interval ends when it has arrived.
struct moved {
  action made_by;
  int from;
  int to;
  interval when;
  friend bool operator==(const moved&, const moved&) = default;
};

/// What a run of a schedule looks like.
struct simulation {
  outline shape;
  std::vector<std::vector<interval>> at;  ///< of each rank's actions
  std::vector<moved> transfers;
  std::int64_t makespan = 0;  ///< from the first action's begin to the last one's end
  /// The longest time that one rank takes from its first action's begin to its last one's end: what
  /// a step costs where the next one may begin before all ranks have ended this one.
  std::int64_t span = 0;
  std::vector<std::int64_t> busy;  ///< by rank

  /// Time of the makespan in which the busiest rank does nothing.
  [[nodiscard]] std::int64_t bubble() const { return makespan - most_busy(); }
  /// The same of the span.
  [[nodiscard]] std::int64_t span_bubble() const { return span - most_busy(); }
  /// The share of the ranks' time in a makespan that is idle.
  [[nodiscard]] double idle_share() const {
    double sum = 0;
    for (const std::int64_t b : busy) {
      sum += static_cast<double>(b);
    }
    const double all = static_cast<double>(makespan) * static_cast<double>(busy.size());
    return all > 0 ? 1.0 - sum / all : 0.0;
  }

 private:
  [[nodiscard]] std::int64_t most_busy() const {
    return busy.empty() ? 0 : *std::ranges::max_element(busy);
  }
};

namespace detail {

inline void check_timing(const schedule& s, const outline& o, const timing& t) {
  constexpr const char* entity = "ashlar::parallel::pipeline::simulate";
  if (t.stages.size() != 1 && t.stages.size() != static_cast<std::size_t>(o.stages)) {
    throw argument_error(entity, "times of " + std::to_string(t.stages.size()) + " stages for " +
                                     std::to_string(o.stages) + "; give one for all, or one each");
  }
  std::int64_t actions = 1;
  for (const auto& list : s.ranks) {
    actions += static_cast<std::int64_t>(list.size());
  }
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / 8 / actions;
  const auto check = [&](std::int64_t time) {
    if (time < 0 || time > most) {
      throw argument_error(entity, "a time of " + std::to_string(time) +
                                       " ticks; give 0 or more, and all within 2^60 together");
    }
  };
  for (const stage_times& each : t.stages) {
    check(each.forward);
    check(each.input_gradient);
    check(each.weight_gradient);
  }
  for (const std::int64_t time : {t.transfer, t.latency, t.unshard, t.reduce_grad}) {
    check(time);
  }
}

}  // namespace detail

/// Runs the schedule in simulated time: a rank begins its next action when it has ended the one
/// before and the inputs have arrived. Transfers run beside computation, one at a time on the link
/// from one rank to another, in the order in which they are sent.
///
/// Throws: as `validate`; `argument_error` where times are negative, too large or too few.
/// Cost:   O(actions log ranks).
[[nodiscard]] inline simulation simulate(const schedule& s, const timing& t = {}) {
  simulation sim;
  sim.shape = validate(s);
  const outline& o = sim.shape;
  detail::check_timing(s, o, t);
  const auto place = [&](int stage, int m) {
    return static_cast<std::size_t>(stage) * static_cast<std::size_t>(o.micro_batches) +
           static_cast<std::size_t>(m);
  };
  // When the next stage can read an output, and the stage before a gradient.
  std::vector<std::int64_t> output(place(o.stages, 0)), gradient = output;
  std::vector<std::int64_t> now(s.ranks.size()), begin = now;
  std::map<std::pair<int, int>, std::int64_t> link;
  sim.busy.resize(s.ranks.size());
  for (const auto& list : s.ranks) {
    sim.at.emplace_back(list.size());
  }
  const auto send = [&](const action& a, bool forward, std::int64_t from) {
    const int peer = forward ? a.stage + 1 : a.stage - 1;
    const int sender = o.rank_of[static_cast<std::size_t>(a.stage)];
    const int receiver = o.rank_of[static_cast<std::size_t>(peer)];
    std::int64_t& free = link[{sender, receiver}];
    const std::int64_t start = std::max(free, from);
    free = start + t.transfer;
    sim.transfers.push_back({a, sender, receiver, {start, free + t.latency}});
    return free + t.latency;
  };
  detail::walk(s, o, [&](int rank, int position, const action& a) {
    const auto r = static_cast<std::size_t>(rank);
    const auto& times =
        t.stages[t.stages.size() == 1 ? std::size_t{0} : static_cast<std::size_t>(a.stage)];
    const std::size_t here = of_micro_batch(a.what) ? place(a.stage, a.micro_batch) : 0;
    const bool goes_back = a.what == work::backward || a.what == work::input_gradient;
    std::int64_t ready = 0, takes = 0;
    if ((a.what == work::forward || a.what == work::recv_f) && a.stage > 0) {
      ready = output[place(a.stage - 1, a.micro_batch)];
    } else if ((goes_back || a.what == work::recv_b) && a.stage + 1 < o.stages) {
      ready = gradient[place(a.stage + 1, a.micro_batch)];
    }
    if (a.what == work::forward) {
      takes = times.forward;
    } else if (a.what == work::unshard || a.what == work::reduce_grad) {
      takes = a.what == work::unshard ? t.unshard : t.reduce_grad;
    } else if (computes(a.what)) {
      takes = (goes_back ? times.input_gradient : 0) +
              (a.what != work::input_gradient ? times.weight_gradient : 0);
    }
    const std::int64_t start = std::max(now[r], ready);
    const std::int64_t end = start + takes;
    sim.at[r][static_cast<std::size_t>(position)] = {start, end};
    begin[r] = position == 0 ? start : begin[r];
    now[r] = end;
    sim.busy[r] += takes;
    sim.makespan = std::max(sim.makespan, end);
    sim.span = std::max(sim.span, end - begin[r]);
    if (a.what == work::forward) {
      output[here] = o.crosses(a.stage) && !o.explicit_transfers ? send(a, true, end) : end;
    } else if (a.what == work::send_f) {
      output[here] = send(a, true, end);
    } else if (goes_back) {
      gradient[here] = o.crosses(a.stage - 1) && !o.explicit_transfers ? send(a, false, end) : end;
    } else if (a.what == work::send_b) {
      gradient[here] = send(a, false, end);
    }
  });
  return sim;
}

/// Returns: the run as a timeline: a process per rank, computation on lane 0, what the rank sends
/// on
///          lane 1.
[[nodiscard]] inline trace::timeline to_timeline(const schedule& s, const simulation& sim) {
  trace::timeline t;
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    t.name_lane(rank, 0, "rank " + std::to_string(rank));
    for (std::size_t i = 0; i < s.ranks[r].size(); ++i) {
      const action& a = s.ranks[r][i];
      const interval when = sim.at[r][i];
      if (!transfers(a.what)) {
        constexpr const char* categories[] = {"forward", "input gradient", "weight gradient",
                                              "backward"};
        t.add({text_of(a), computes(a.what) ? categories[static_cast<int>(a.what)] : "parameters",
               rank, 0, when.begin, when.end - when.begin});
      }
    }
  }
  for (const moved& m : sim.transfers) {
    t.name_lane(m.from, 1, "rank " + std::to_string(m.from) + " sends");
    if (m.when.end > m.when.begin) {
      t.add({text_of(m.made_by) + " to rank " + std::to_string(m.to), "transfer", m.from, 1,
             m.when.begin, m.when.end - m.when.begin});
    }
  }
  return t;
}

}  // namespace ashlar::parallel::pipeline
