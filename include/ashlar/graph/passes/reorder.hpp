// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

/// Other orders of the same calls.
namespace ashlar::graph {

namespace detail {

/// The bytes that the calls of a graph keep alive, as they run one after the other.
class live_bytes {
 public:
  explicit live_bytes(const graph& g)
      : g_(g), of_(g), bytes_(g.values.size()), reads_(g.nodes.size()), left_(g.values.size()) {
    for (std::size_t i = 0; i < g.nodes.size(); ++i) {
      const node& n = g.nodes[i];
      auto& touched = reads_[i];
      for (const value_id v : n.in) {
        touched.push_back(of_.base(v));
      }
      for (const value_id v : n.out) {
        const auto b = static_cast<std::size_t>(of_.base(v));
        touched.push_back(of_.base(v));
        if (of_.base(v) == v && n.kind == node_kind::call) {
          bytes_[b] = g.spec(v).size * static_cast<std::int64_t>(size_of(g.spec(v).type));
        }
      }
      std::sort(touched.begin(), touched.end());
      touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
      for (const value_id b : touched) {
        ++left_[static_cast<std::size_t>(b)];
      }
    }
    for (const value_id v : g.outputs) {
      ++left_[static_cast<std::size_t>(of_.base(v))];  // which is never taken back
    }
  }

  [[nodiscard]] const effects& elements() const { return of_; }
  /// What a node adds while it runs, and what is left of that afterwards.
  [[nodiscard]] std::int64_t made(std::size_t i) const {
    std::int64_t bytes = 0;
    for (const value_id v : g_.nodes[i].out) {
      bytes += of_.base(v) == v ? bytes_[static_cast<std::size_t>(v)] : 0;
    }
    return bytes;
  }
  [[nodiscard]] std::int64_t freed(std::size_t i) const {
    std::int64_t bytes = 0;
    for (const value_id b : reads_[i]) {
      bytes += left_[static_cast<std::size_t>(b)] == 1 ? bytes_[static_cast<std::size_t>(b)] : 0;
    }
    return bytes;
  }
  /// Runs a node.
  void run(std::size_t i) {
    now_ += made(i);
    peak_ = std::max(peak_, now_);
    now_ -= freed(i);
    for (const value_id b : reads_[i]) {
      --left_[static_cast<std::size_t>(b)];
    }
  }
  [[nodiscard]] std::int64_t peak() const { return peak_; }

 private:
  const graph& g_;
  effects of_;
  std::vector<std::int64_t> bytes_;           // of a base that a call makes
  std::vector<std::vector<value_id>> reads_;  // of a node: the bases that it needs
  std::vector<std::int32_t> left_;            // of a base: nodes to come that need it
  std::int64_t now_ = 0;
  std::int64_t peak_ = 0;
};

/// An order that keeps `dependencies`: of the nodes that could be next the one whose `rank` is
/// least, and among those the first of the graph.
template <class Rank, class Done>
std::vector<std::int32_t> scheduled(const graph& g, const effects& of, const Rank& rank,
                                    const Done& done) {
  const std::vector<std::vector<std::int32_t>> before = dependencies(g, of);
  std::vector<std::vector<std::int32_t>> after(g.nodes.size());
  std::vector<std::size_t> waits(g.nodes.size());
  std::vector<std::int32_t> ready;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    waits[i] = before[i].size();
    for (const std::int32_t b : before[i]) {
      after[static_cast<std::size_t>(b)].push_back(static_cast<std::int32_t>(i));
    }
    if (waits[i] == 0) {
      ready.push_back(static_cast<std::int32_t>(i));
    }
  }
  std::vector<std::int32_t> order;
  while (!ready.empty()) {
    const auto next = std::min_element(ready.begin(), ready.end(), [&](auto a, auto b) {
      return std::tuple(rank(static_cast<std::size_t>(a)), a) <
             std::tuple(rank(static_cast<std::size_t>(b)), b);
    });
    const std::int32_t i = *next;
    ready.erase(next);
    order.push_back(i);
    done(static_cast<std::size_t>(i));
    for (const std::int32_t a : after[static_cast<std::size_t>(i)]) {
      if (--waits[static_cast<std::size_t>(a)] == 0) {
        ready.push_back(a);
      }
    }
  }
  return order;
}

}  // namespace detail

/// The most bytes of results that are alive at once when the nodes run in their order.
///
/// Elements live from the call that makes them to the last that needs them; outputs to the end. Of
/// arguments, parameters and constants nothing is counted: they are there anyway.
[[nodiscard]] inline std::int64_t peak_bytes(const graph& g) {
  detail::live_bytes alive(g);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    alive.run(i);
  }
  return alive.peak();
}

/// An order of the nodes that needs less memory at its peak, or the same graph.
///
/// Greedy: of the calls that could be next the one that leaves the fewest bytes.
/// Returns: a graph whose `peak_bytes` is at most that of `g`.
/// Cost:    the number of nodes times how many are ready at once.
[[nodiscard]] inline graph reorder_for_memory(const graph& g) {
  detail::live_bytes alive(g);
  const std::vector<std::int32_t> order = detail::scheduled(
      g, alive.elements(),
      [&](std::size_t i) {
        // Placeholders and the like in front; then by what is left, then by what it takes.
        const bool call = g.nodes[i].kind == node_kind::call;
        return std::tuple(call, alive.made(i) - alive.freed(i), alive.made(i));
      },
      [&](std::size_t i) { alive.run(i); });
  graph now = in_order(g, order);
  return peak_bytes(now) < peak_bytes(g) ? now : g;
}

/// Calls that go on by themselves start as early as they can, and who reads their results comes as
/// late as that can be: what does not wait for them runs in between.
///
/// `is_asynchronous` says which calls those are: collectives, copies between chips.
/// Cost: the number of nodes times how many are ready at once.
[[nodiscard]] inline graph reorder_for_overlap(
    const graph& g, const std::function<bool(const node&)>& is_asynchronous) {
  const effects of(g);
  const std::vector<std::vector<std::int32_t>> before = dependencies(g, of);
  std::vector<bool> starts(g.nodes.size());
  std::vector<bool> leads(g.nodes.size());  // to one that starts
  std::vector<bool> waits(g.nodes.size());  // for one
  for (std::size_t i = g.nodes.size(); i-- > 0;) {
    starts[i] = g.nodes[i].kind == node_kind::call && is_asynchronous(g.nodes[i]);
    for (const std::int32_t b : before[i]) {
      const auto u = static_cast<std::size_t>(b);
      leads[u] = leads[u] || starts[i] || leads[i];
    }
  }
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    for (const std::int32_t b : before[i]) {
      waits[i] = waits[i] || starts[static_cast<std::size_t>(b)];
    }
  }
  return in_order(g, detail::scheduled(
                         g, of,
                         [&](std::size_t i) {
                           if (starts[i] || g.nodes[i].kind != node_kind::call) {
                             return 0;
                           }
                           return waits[i] ? 3 : leads[i] ? 1 : 2;
                         },
                         [](std::size_t) {}));
}

}  // namespace ashlar::graph
