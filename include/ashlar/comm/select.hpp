// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/exchange.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// An all-reduce to choose, by name.
struct candidate {
  std::string name;
  std::function<schedule(const problem&)> all_reduce;
};

template <class A>
candidate make_candidate(std::string name, A how) {
  return {std::move(name), [how](const problem& q) { return how.all_reduce(q); }};
}

/// What the library has, without what only serves caches or a fixed order.
inline std::vector<candidate> all_candidates() {
  return {make_candidate("ring", ring{}),
          make_candidate("rabenseifner", rabenseifner{}),
          make_candidate("recursive_doubling", recursive_doubling{}),
          make_candidate("double_tree", double_tree{}),
          make_candidate("binomial", binomial{}),
          make_candidate("chain", chain{})};
}

/// A candidate and what it costs.
struct estimate {
  std::string name;
  double seconds;
  bool exact;  ///< simulated; else a bound from below, which was enough to refuse it
};

/// Simulates candidates on a network, the most promising first.
///
/// Returns: estimates, the cheapest first. A candidate is not simulated where one rank's messages
///          alone, on free links, take longer than the best so far.
/// Cost:    `simulate` of the candidates that are left.
inline std::vector<estimate> rank_candidates(const network& net,
                                             const std::vector<candidate>& candidates,
                                             std::size_t count, std::size_t element_bytes) {
  double latency = std::numeric_limits<double>::infinity();
  double bandwidth = 0;
  for (const dimension& d : net.wires.dimensions()) {
    if (d.size > 1) {
      latency = std::min(latency, d.latency);
      const double width = d.how == wiring::fat_tree ? d.size : 1;
      bandwidth = std::max(bandwidth, d.bandwidth * width);
    }
  }
  const int ranks = net.wires.ranks();
  const auto problem_of = [&](int rank) {
    return problem::even(ranks, rank, count, element_bytes);
  };
  std::vector<std::pair<double, const candidate*>> order;
  for (const candidate& c : candidates) {
    const schedule plan = c.all_reduce(problem_of(0));
    round_steps steps;
    double bound = 0;
    for (int i = 0; i < plan.rounds(); ++i) {
      plan.round(i, steps);
      std::size_t most = 0;
      bool any = false;
      for (const step& s : steps) {
        most = s.sends() || s.receives() ? std::max(most, s.count) : most;
        any = any || s.sends() || s.receives();
      }
      bound +=
          any ? net.overhead + latency + static_cast<double>(most * element_bytes) / bandwidth : 0;
    }
    order.emplace_back(bound, &c);
  }
  std::ranges::stable_sort(order, {}, [](const auto& o) { return o.first; });
  std::vector<estimate> result;
  double best = std::numeric_limits<double>::infinity();
  for (const auto& [bound, c] : order) {
    if (bound > best) {
      result.push_back({c->name, bound, false});
      continue;
    }
    const outcome o = simulate(
        net, [&, how = c](int r) { return how->all_reduce(problem_of(r)); }, element_bytes);
    best = std::min(best, o.seconds);
    result.push_back({c->name, o.seconds, true});
  }
  std::ranges::stable_sort(result, {},
                           [](const estimate& e) { return std::pair(!e.exact, e.seconds); });
  return result;
}

namespace detail {
inline const candidate& named(const std::vector<candidate>& all, const std::string& name) {
  const auto at = std::ranges::find(all, name, &candidate::name);
  if (at == all.end()) {
    throw argument_error("ashlar::comm", "there is no all-reduce named '" + name + "'");
  }
  return *at;
}
}  // namespace detail

/// Picks by a table of sizes. Models `ReduceAlgorithm`.
class by_table {
 public:
  struct row {
    std::size_t up_to_bytes;  ///< of the whole message, inclusive
    std::string name;
  };

  /// Messages longer than the last row's take the last row.
  /// Throws: `argument_error` where the table is empty or names what is not among `candidates`.
  explicit by_table(std::vector<row> rows, std::vector<candidate> candidates = all_candidates())
      : rows_(std::move(rows)), candidates_(std::move(candidates)) {
    if (rows_.empty()) {
      throw argument_error("ashlar::comm::by_table", "the table has no row");
    }
    std::ranges::sort(rows_, {}, &row::up_to_bytes);
    for (const row& r : rows_) {
      detail::named(candidates_, r.name);
    }
  }

  [[nodiscard]] const std::string& pick(std::size_t bytes) const {
    const auto at = std::ranges::lower_bound(rows_, bytes, {}, &row::up_to_bytes);
    return (at == rows_.end() ? rows_.back() : *at).name;
  }
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    return detail::named(candidates_, pick(q.count * q.element_bytes)).all_reduce(q);
  }

 private:
  std::vector<row> rows_;
  std::vector<candidate> candidates_;
};

/// Picks what a simulated network runs in the least time. Models `ReduceAlgorithm`.
///
/// Copies share what they have found out; a size is simulated once.
class by_cost {
 public:
  /// Throws: `argument_error` without candidates.
  explicit by_cost(network net, std::vector<candidate> candidates = all_candidates())
      : state_(std::make_shared<state>()) {
    if (candidates.empty()) {
      throw argument_error("ashlar::comm::by_cost", "there is no candidate");
    }
    state_->net = std::make_unique<const network>(std::move(net));
    state_->candidates = std::move(candidates);
  }

  /// Throws: `argument_error` where the network has another number of ranks.
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    if (q.ranks != state_->net->wires.ranks()) {
      throw argument_error("ashlar::comm::by_cost",
                           "the network has " + std::to_string(state_->net->wires.ranks()) +
                               " ranks, the group " + std::to_string(q.ranks));
    }
    return detail::named(state_->candidates, pick(q.count, q.element_bytes)).all_reduce(q);
  }
  [[nodiscard]] std::string pick(std::size_t count, std::size_t element_bytes) const {
    const std::lock_guard lock(state_->mutex);
    std::string& known = state_->found[{count, element_bytes}];
    if (known.empty()) {
      known = rank_candidates(*state_->net, state_->candidates, count, element_bytes).front().name;
    }
    return known;
  }

 private:
  struct state {
    std::unique_ptr<const network> net;
    std::vector<candidate> candidates;
    std::mutex mutex;
    std::map<std::pair<std::size_t, std::size_t>, std::string> found;
  };
  std::shared_ptr<state> state_;
};

}  // namespace ashlar::comm
