// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/errors.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"

namespace ashlar::parallel::pipeline {

/// What a valid schedule says about itself.
struct outline {
  int stages = 0;
  int micro_batches = 0;
  std::vector<int> rank_of;         ///< by stage
  bool backward = false;            ///< whether there is any backward pass
  bool explicit_transfers = false;  ///< whether sends and receives are written out
  std::vector<int> most_in_flight;  ///< by stage: micro-batches forward and not yet fully backward
  std::vector<int> most_pending;    ///< by stage: of those, the ones that wait for `W` alone
  std::vector<int> most_on_rank;    ///< by rank: in flight over all its stages

  [[nodiscard]] bool crosses(int from) const {
    return from >= 0 && from + 1 < stages &&
           rank_of[static_cast<std::size_t>(from)] != rank_of[static_cast<std::size_t>(from) + 1];
  }
};

namespace detail {

/// What has been done for every stage and micro-batch.
class progress {
 public:
  explicit progress(const outline& o)
      : outline_(&o),
        done_(static_cast<std::size_t>(o.stages) * static_cast<std::size_t>(o.micro_batches)) {}

  [[nodiscard]] bool has(int stage, work w, int m) const {
    return (done_[at(stage, m)] & bit(w)) != 0;
  }
  void add(const action& a) {
    if (of_micro_batch(a.what)) {
      done_[at(a.stage, a.micro_batch)] |= bit(a.what);
    }
  }
  /// What must be done before `a` and is not.
  [[nodiscard]] std::optional<action> missing(const action& a) const {
    const auto need = [&](int stage, work w) {
      return has(stage, w, a.micro_batch) ? std::nullopt
                                          : std::optional<action>({stage, w, a.micro_batch});
    };
    const bool written = outline_->explicit_transfers;
    switch (a.what) {
      case work::forward:
        return a.stage == 0                                ? std::nullopt
               : written && outline_->crosses(a.stage - 1) ? need(a.stage, work::recv_f)
                                                           : need(a.stage - 1, work::forward);
      case work::input_gradient:
      case work::backward:
        if (const auto own = need(a.stage, work::forward)) {
          return own;
        }
        return a.stage + 1 == outline_->stages         ? std::nullopt
               : written && outline_->crosses(a.stage) ? need(a.stage, work::recv_b)
                                                       : need(a.stage + 1, work::input_gradient);
      case work::weight_gradient:
      case work::send_b:
        return need(a.stage, work::input_gradient);
      case work::send_f:
        return need(a.stage, work::forward);
      case work::recv_f:
        return need(a.stage - 1, work::send_f);
      case work::recv_b:
        return need(a.stage + 1, work::send_b);
      default:
        return std::nullopt;
    }
  }

 private:
  static std::uint8_t bit(work w) {
    constexpr std::uint8_t both = 1u << static_cast<int>(work::input_gradient) |
                                  1u << static_cast<int>(work::weight_gradient);
    // A backward pass is both of its parts; its own bit makes room for the transfers' four.
    return w == work::backward ? both
                               : static_cast<std::uint8_t>(
                                     1u << (static_cast<int>(w) - (w > work::backward ? 1 : 0)));
  }
  [[nodiscard]] std::size_t at(int stage, int m) const {
    return static_cast<std::size_t>(stage) * static_cast<std::size_t>(outline_->micro_batches) +
           static_cast<std::size_t>(m);
  }

  const outline* outline_;
  std::vector<std::uint8_t> done_;
};

/// Goes through all lists, each as far as it comes: `visit(rank, position, action)`, an action
/// behind all that it needs.
///
/// Throws: `deadlock`.
/// Cost:   O(actions).
template <class Visit>
void walk(const schedule& s, const outline& o, const Visit& visit) {
  progress done(o);
  const auto ranks = s.ranks.size();
  std::vector<std::size_t> next(ranks, 0);
  std::vector<char> queued(ranks, 1);
  std::vector<int> ahead;
  for (std::size_t r = ranks; r-- > 0;) {
    ahead.push_back(static_cast<int>(r));
  }
  const auto wake = [&](int stage) {
    if (stage >= 0 && stage < o.stages) {
      const int rank = o.rank_of[static_cast<std::size_t>(stage)];
      if (queued[static_cast<std::size_t>(rank)] == 0) {
        queued[static_cast<std::size_t>(rank)] = 1;
        ahead.push_back(rank);
      }
    }
  };
  while (!ahead.empty()) {
    const int rank = ahead.back();
    const auto r = static_cast<std::size_t>(rank);
    ahead.pop_back();
    queued[r] = 0;
    while (next[r] < s.ranks[r].size() && !done.missing(s.ranks[r][next[r]])) {
      const action& a = s.ranks[r][next[r]];
      visit(rank, static_cast<int>(next[r]), a);
      done.add(a);
      ++next[r];
      wake(a.stage - 1);
      wake(a.stage + 1);
    }
  }
  std::vector<deadlock::wait> waiting;
  for (std::size_t r = 0; r < ranks; ++r) {
    if (next[r] < s.ranks[r].size()) {
      const action& a = s.ranks[r][next[r]];
      waiting.push_back({static_cast<int>(r), static_cast<int>(next[r]), a, *done.missing(a)});
    }
  }
  if (!waiting.empty()) {
    throw deadlock(std::move(waiting));
  }
}

/// How much there is, and who has which stage.
inline outline measure(const schedule& s) {
  std::int64_t forwards = 0;
  std::vector<int> stages;
  outline o;
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    for (std::size_t i = 0; i < s.ranks[r].size(); ++i) {
      const action& a = s.ranks[r][i];
      constexpr int most = std::numeric_limits<int>::max();
      if (a.stage < 0 || a.stage == most || of_micro_batch(a.what) != (a.micro_batch >= 0) ||
          a.micro_batch == most) {
        throw invalid_schedule(static_cast<int>(r), static_cast<int>(i),
                               "a stage or micro-batch that cannot be");
      }
      if (computes(a.what)) {
        stages.push_back(a.stage);
        o.micro_batches = std::max(o.micro_batches, a.micro_batch + 1);
      }
      forwards += a.what == work::forward ? 1 : 0;
      o.backward |= computes(a.what) && a.what != work::forward;
      o.explicit_transfers |= transfers(a.what);
    }
  }
  std::ranges::sort(stages);
  stages.erase(std::unique(stages.begin(), stages.end()), stages.end());
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (stages[i] != static_cast<int>(i)) {
      throw invalid_schedule(-1, -1,
                             "nobody computes stage " + std::to_string(i) +
                                 ", though there is stage " + std::to_string(stages[i]));
    }
  }
  o.stages = static_cast<int>(stages.size());
  // Before anything is allocated by these numbers.
  if (forwards != static_cast<std::int64_t>(o.stages) * o.micro_batches) {
    throw invalid_schedule(
        -1, -1,
        std::to_string(forwards) + " forward passes; " + std::to_string(o.stages) + " stages and " +
            std::to_string(o.micro_batches) + " micro-batches make " +
            std::to_string(static_cast<std::int64_t>(o.stages) * o.micro_batches));
  }
  o.rank_of.assign(static_cast<std::size_t>(o.stages), -1);
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    for (std::size_t i = 0; i < s.ranks[r].size(); ++i) {
      const action& a = s.ranks[r][i];
      const int rank = static_cast<int>(r);
      if (a.stage >= o.stages) {
        throw invalid_schedule(rank, static_cast<int>(i),
                               text_of(a) + " is of a stage that nobody computes");
      }
      int& owner = o.rank_of[static_cast<std::size_t>(a.stage)];
      owner = owner < 0 ? rank : owner;
      if (owner != rank) {
        throw invalid_schedule(rank, static_cast<int>(i),
                               text_of(a) + ", but stage " + std::to_string(a.stage) +
                                   " belongs to rank " + std::to_string(owner));
      }
    }
  }
  return o;
}

/// Each list alone: nothing twice, nothing missing, parameters there when they are used.
inline void check_lists(const schedule& s, const outline& o) {
  progress done(o);
  enum class shards : char { whole, gathered, apart };
  std::vector<shards> is(static_cast<std::size_t>(o.stages), shards::whole);
  for (const auto& list : s.ranks) {
    for (const action& a : list) {
      if (a.what == work::unshard) {
        is[static_cast<std::size_t>(a.stage)] = shards::apart;
      }
    }
  }
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    for (std::size_t i = 0; i < s.ranks[r].size(); ++i) {
      const action& a = s.ranks[r][i];
      const auto refuse = [&](const char* why) {
        throw invalid_schedule(static_cast<int>(r), static_cast<int>(i), text_of(a) + why);
      };
      shards& here = is[static_cast<std::size_t>(a.stage)];
      if (a.what == work::unshard || a.what == work::reshard) {
        if (here != (a.what == work::unshard ? shards::apart : shards::gathered)) {
          refuse(a.what == work::unshard ? ", but its parameters are there already"
                                         : ", but its parameters were never gathered");
        }
        here = a.what == work::unshard ? shards::gathered : shards::apart;
        continue;
      }
      if (!of_micro_batch(a.what)) {
        continue;
      }
      if (a.micro_batch >= o.micro_batches) {
        refuse(" is of a micro-batch that nobody computes");
      }
      if (computes(a.what) && here == shards::apart) {
        refuse(" without its parameters; put UNSHARD before it");
      }
      if (transfers(a.what)) {
        const bool behind = a.what == work::send_f || a.what == work::recv_b;
        if (!o.crosses(behind ? a.stage : a.stage - 1)) {
          refuse(", but there is no other rank to exchange it with");
        }
        if (!o.backward && a.what >= work::send_b) {
          refuse(" without a backward pass");
        }
      }
      const bool again = a.what == work::backward
                             ? done.has(a.stage, work::input_gradient, a.micro_batch) ||
                                   done.has(a.stage, work::weight_gradient, a.micro_batch)
                             : done.has(a.stage, a.what, a.micro_batch);
      if (again) {
        refuse(" is done a second time");
      }
      done.add(a);
    }
  }
  for (int stage = 0; stage < o.stages; ++stage) {
    for (int m = 0; m < o.micro_batches; ++m) {
      const auto require = [&](bool wanted, work w) {
        if (wanted && !done.has(stage, w, m)) {
          throw invalid_schedule(o.rank_of[static_cast<std::size_t>(stage)], -1,
                                 text_of({stage, w, m}) + " is missing");
        }
      };
      require(true, work::forward);
      require(o.backward, work::input_gradient);
      require(o.backward, work::weight_gradient);
      require(o.explicit_transfers && o.crosses(stage), work::send_f);
      require(o.explicit_transfers && o.crosses(stage - 1), work::recv_f);
      require(o.explicit_transfers && o.backward && o.crosses(stage), work::recv_b);
      require(o.explicit_transfers && o.backward && o.crosses(stage - 1), work::send_b);
    }
  }
}

/// The peaks; they follow from the lists alone, whatever the times.
inline void count_in_flight(const schedule& s, outline& o) {
  o.most_in_flight.assign(static_cast<std::size_t>(o.stages), 0);
  o.most_pending.assign(static_cast<std::size_t>(o.stages), 0);
  o.most_on_rank.assign(s.ranks.size(), 0);
  if (!o.backward) {
    return;
  }
  std::vector<int> in_flight(static_cast<std::size_t>(o.stages), 0), pending = in_flight;
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    int all = 0;
    for (const action& a : s.ranks[r]) {
      const auto stage = static_cast<std::size_t>(a.stage);
      const bool ends = a.what == work::weight_gradient || a.what == work::backward;
      const int step = a.what == work::forward ? 1 : ends ? -1 : 0;
      in_flight[stage] += step;
      all += step;
      pending[stage] += a.what == work::input_gradient    ? 1
                        : a.what == work::weight_gradient ? -1
                                                          : 0;
      o.most_in_flight[stage] = std::max(o.most_in_flight[stage], in_flight[stage]);
      o.most_pending[stage] = std::max(o.most_pending[stage], pending[stage]);
      o.most_on_rank[r] = std::max(o.most_on_rank[r], all);
    }
  }
}

}  // namespace detail

/// Checks that the schedule can be run to its end by ranks that wait for nothing but their inputs:
/// every stage on one rank, every micro-batch once through each stage, there and back, no two
/// ranks waiting for each other, sends and receives (where written) complete, parameters gathered
/// when they are used.
///
/// Sends do not wait for their receivers. `most_in_flight`: the most micro-batches that may be in
/// flight on a rank, over its stages.
/// Returns: what the schedule is.
/// Throws:  `invalid_schedule`, `deadlock`.
/// Cost:    O(actions), memory for one byte per stage and micro-batch.
inline outline validate(const schedule& s, int most_in_flight = std::numeric_limits<int>::max()) {
  outline o = detail::measure(s);
  detail::check_lists(s, o);
  detail::walk(s, o, [](int, int, const action&) {});
  detail::count_in_flight(s, o);
  for (std::size_t r = 0; r < o.most_on_rank.size(); ++r) {
    if (o.most_on_rank[r] > most_in_flight) {
      throw invalid_schedule(static_cast<int>(r), -1,
                             std::to_string(o.most_on_rank[r]) +
                                 " micro-batches are in flight at once; there is room for " +
                                 std::to_string(most_in_flight));
    }
  }
  return o;
}

/// Returns: the schedule with sends written behind the actions that make their data, and receives
///          before the actions that read them.
/// Throws:  as `validate`; `invalid_schedule` where transfers are written already.
[[nodiscard]] inline schedule with_transfers(const schedule& s) {
  const outline o = validate(s);
  if (o.explicit_transfers) {
    throw invalid_schedule(-1, -1, "transfers are written already");
  }
  schedule out;
  for (const auto& list : s.ranks) {
    auto& to = out.ranks.emplace_back();
    for (const action& a : list) {
      const bool gradient = a.what == work::backward || a.what == work::input_gradient;
      if (a.what == work::forward && o.crosses(a.stage - 1)) {
        to.push_back({a.stage, work::recv_f, a.micro_batch});
      }
      if (gradient && o.crosses(a.stage)) {
        to.push_back({a.stage, work::recv_b, a.micro_batch});
      }
      to.push_back(a);
      if (a.what == work::forward && o.crosses(a.stage)) {
        to.push_back({a.stage, work::send_f, a.micro_batch});
      }
      if (gradient && o.crosses(a.stage - 1)) {
        to.push_back({a.stage, work::send_b, a.micro_batch});
      }
    }
  }
  return out;
}

}  // namespace ashlar::parallel::pipeline
