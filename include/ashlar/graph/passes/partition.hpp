// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/passes/effects.hpp"

namespace ashlar::graph {

/// A graph as one operation of another graph: what a backend compiles, and what runs by the
/// interpreter until one does. Has no attributes.
class subgraph final : public operation {
 public:
  explicit subgraph(graph body, std::string called)
      : body_(std::move(body)), text_(std::move(called)) {
    for (const value_id v : body_.source().made_by(node_kind::placeholder)) {
      takes_.push_back(body_.source().spec(v).type);
    }
    for (const value_id v : body_.source().outputs) {
      makes_.push_back(body_.source().spec(v).type);
    }
    name = text_;
    argument_types = takes_;
    result_types = makes_;
  }

  [[nodiscard]] const graph& body() const { return body_.source(); }
  void run(std::span<const tensor_handle> in, std::span<const attribute>,
           std::span<tensor_handle> out) const override {
    std::vector<tensor_handle> results = body_(in);
    std::move(results.begin(), results.end(), out.begin());
  }
  /// Throws: `guard_error` for other shapes than those the body was captured for.
  [[nodiscard]] std::vector<tensor_spec> meta(std::span<const tensor_spec> in,
                                              std::span<const attribute>) const override {
    const std::vector<value_id> takes = body().made_by(node_kind::placeholder);
    for (std::size_t i = 0; i < takes.size(); ++i) {
      if (!same_shape(in[i], body().spec(takes[i]))) {
        throw guard_error(text_ + ": argument " + std::to_string(i) + " is " +
                          to_string(body().spec(takes[i]).shape()) + ", not " +
                          to_string(in[i].shape()));
      }
    }
    std::vector<tensor_spec> specs;
    for (const value_id v : body().outputs) {
      specs.push_back(body().spec(v));
    }
    return specs;
  }

 private:
  mutable interpreted body_;  // whose calls keep nothing between them
  std::vector<dtype> takes_, makes_;
  std::string text_;
};

/// A graph in which supported calls are gathered.
struct partitioned {
  graph result;                           ///< calls of `subgraph`, and what is not supported
  std::vector<std::int32_t> subgraphs;    ///< the nodes of `result` that call one
  std::vector<std::int32_t> unsupported;  ///< the nodes of the graph before that nobody supports
};

namespace detail {

/// Which node belongs to which group, and what has to be before what, groups being units.
class grouping {
 public:
  explicit grouping(const graph& g) : g_(g), of_(g), before_(dependencies(g, of_)) {}

  /// Groups of supported calls. No two of them could be one: between them stands what is neither.
  void gather(const std::function<bool(const node&)>& supports) {
    unit_.assign(g_.nodes.size(), -1);
    for (std::size_t i = 0; i < g_.nodes.size(); ++i) {
      std::int32_t joined = -1;
      if (may_join(g_.nodes[i], supports)) {
        // A group is closed to a node that comes after something else that comes after the group.
        std::vector<bool> closed(units_.size());
        for (const std::int32_t p : before_[i]) {
          mark_before(unit_[static_cast<std::size_t>(p)], closed);
        }
        for (std::size_t u = 0; u < units_.size() && joined < 0; ++u) {
          joined = units_[u].group && !closed[u] ? static_cast<std::int32_t>(u) : -1;
        }
      }
      if (joined < 0) {
        joined = static_cast<std::int32_t>(units_.size());
        units_.push_back({.group = may_join(g_.nodes[i], supports)});
      }
      unit& u = units_[static_cast<std::size_t>(joined)];
      unit_[i] = joined;
      u.nodes.push_back(static_cast<std::int32_t>(i));
      for (const std::int32_t p : before_[i]) {
        const std::int32_t other = unit_[static_cast<std::size_t>(p)];
        if (other != joined) {
          u.before.push_back(other);
        }
      }
    }
  }

  struct unit {
    bool group = false;
    std::vector<std::int32_t> nodes{};
    std::vector<std::int32_t> before{};  ///< units
  };
  [[nodiscard]] const std::vector<unit>& units() const { return units_; }
  [[nodiscard]] std::int32_t unit_of(std::int32_t node) const {
    return unit_[static_cast<std::size_t>(node)];
  }
  [[nodiscard]] bool written(value_id v) const { return of_.written(v); }
  /// The units in an order in which they can run.
  [[nodiscard]] std::vector<std::int32_t> order() const {
    std::vector<std::int32_t> all;
    std::vector<bool> done(units_.size());
    const auto visit = [&](const auto& self, std::int32_t u) -> void {
      if (done[static_cast<std::size_t>(u)]) {
        return;
      }
      done[static_cast<std::size_t>(u)] = true;
      for (const std::int32_t b : units_[static_cast<std::size_t>(u)].before) {
        self(self, b);
      }
      all.push_back(u);
    };
    for (std::size_t i = 0; i < units_.size(); ++i) {
      visit(visit, static_cast<std::int32_t>(i));
    }
    return all;
  }

 private:
  /// Calls that write, and looks at what is written to, stay where everyone sees them.
  [[nodiscard]] bool may_join(const node& n,
                              const std::function<bool(const node&)>& supports) const {
    return n.kind == node_kind::call && n.op->writes == 0 &&
           !(n.op->view && of_.written(n.in[0])) &&
           std::none_of(n.out.begin(), n.out.end(), [&](value_id v) { return of_.written(v); }) &&
           supports(n);
  }
  void mark_before(std::int32_t u, std::vector<bool>& marked) const {
    std::vector<std::int32_t> ahead = units_[static_cast<std::size_t>(u)].before;
    while (!ahead.empty()) {
      const std::int32_t next = ahead.back();
      ahead.pop_back();
      if (!marked[static_cast<std::size_t>(next)]) {
        marked[static_cast<std::size_t>(next)] = true;
        const auto& more = units_[static_cast<std::size_t>(next)].before;
        ahead.insert(ahead.end(), more.begin(), more.end());
      }
    }
  }

  const graph& g_;
  effects of_;
  std::vector<std::vector<std::int32_t>> before_;
  std::vector<unit> units_;
  std::vector<std::int32_t> unit_;  // of a node
};

}  // namespace detail

/// Gathers calls that `supports` says yes to in subgraphs, as few as can be.
///
/// Each group is convex (what runs between two of its calls is in it), and no two groups could be
/// joined. Parameters and constants that a group reads and nobody writes to are in it; what writes,
/// or looks at what is written to, is in no group: `functionalise` first. Cost: quadratic in the
/// number of calls and groups.
[[nodiscard]] inline partitioned partition(const graph& g,
                                           const std::function<bool(const node&)>& supports) {
  detail::grouping groups(g);
  groups.gather(supports);
  const std::vector<std::vector<std::int32_t>> users = g.users();
  partitioned all;
  copier to(g, all.result);
  const auto outside_readers = [&](value_id v, std::int32_t unit) {
    return g.is_output(v) ||
           std::any_of(users[static_cast<std::size_t>(v)].begin(),
                       users[static_cast<std::size_t>(v)].end(),
                       [&](std::int32_t user) { return groups.unit_of(user) != unit; });
  };
  for (const std::int32_t u : groups.order()) {
    const auto& unit = groups.units()[static_cast<std::size_t>(u)];
    if (!unit.group) {
      const node& n = g.nodes[static_cast<std::size_t>(unit.nodes[0])];
      to.copy(n);
      if (n.kind == node_kind::call && !supports(n)) {
        all.unsupported.push_back(unit.nodes[0]);
      }
      continue;
    }
    graph body;
    copier inside(g, body);
    std::vector<value_id> arguments;
    std::vector<value_id> results;
    for (const std::int32_t i : unit.nodes) {
      const node& n = g.nodes[static_cast<std::size_t>(i)];
      for (const value_id v : n.in) {
        const node& maker = g.maker(v);
        if (inside(v) != no_value) {
          continue;
        }
        if (maker.data && !groups.written(v)) {
          inside.copy(maker);
          continue;
        }
        const std::int32_t place = body.add(
            {.kind = node_kind::placeholder, .name = "x" + std::to_string(arguments.size())},
            std::span(&g.spec(v), 1));
        inside.set(v, body.nodes[static_cast<std::size_t>(place)].out[0]);
        arguments.push_back(to(v));
      }
      inside.copy(n);
      for (const value_id v : n.out) {
        if (outside_readers(v, u)) {
          body.outputs.push_back(inside(v));
          results.push_back(v);
        }
      }
    }
    const auto op = std::make_shared<subgraph>(std::move(body),
                                               "subgraph_" + std::to_string(all.subgraphs.size()));
    all.subgraphs.push_back(static_cast<std::int32_t>(all.result.nodes.size()));
    const std::vector<value_id> made = all.result.call(op, std::move(arguments));
    for (std::size_t r = 0; r < made.size(); ++r) {
      to.set(results[r], made[r]);
    }
  }
  std::sort(all.unsupported.begin(), all.unsupported.end());
  to.copy_outputs();
  return all;
}

/// Puts each subgraph's calls where it is called.
[[nodiscard]] inline graph inline_subgraphs(const graph& g) {
  graph now;
  copier to(g, now);
  for (const node& n : g.nodes) {
    const auto* const sub =
        n.kind == node_kind::call ? dynamic_cast<const subgraph*>(n.op.get()) : nullptr;
    if (sub == nullptr) {
      to.copy(n);
      continue;
    }
    copier inner(sub->body(), now);
    std::size_t next = 0;
    for (const node& m : sub->body().nodes) {
      if (m.kind == node_kind::placeholder) {
        inner.set(m.out[0], to(n.in[next++]));
      } else {
        inner.copy(m);
      }
    }
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      to.set(n.out[r], inner(sub->body().outputs[r]));
    }
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph
