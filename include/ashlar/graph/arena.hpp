// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/plan/arena.hpp"

/// Where the values of a graph lie, worked out before it runs: one arena by the planner that
/// scratchpads and allocator traces use, too.
namespace ashlar::graph {

/// A place for what a graph makes.
///
/// A buffer holds a value and the views of it. What belongs to others is outside: arguments,
/// parameters, constants and what comes out.
struct memory_plan {
  static constexpr std::int32_t outside = -1;

  std::vector<std::int32_t> buffer_of;    ///< by value; a view is in its base's
  std::vector<value_id> made_as;          ///< the value that each buffer is made as
  std::vector<plan::lifetime> lifetimes;  ///< of each buffer, in places of nodes
  plan::arena layout;                     ///< of the buffers, with the bound and the ratio

  /// Where a buffer's value begins, from the arena's start; `outside` for what lies elsewhere. A
  /// view begins its spec's offset later.
  [[nodiscard]] std::int64_t offset_of(value_id v) const {
    const std::int32_t b = buffer_of[static_cast<std::size_t>(v)];
    return b == outside ? outside : layout.offsets[static_cast<std::size_t>(b)];
  }
};

/// What a plan is for.
struct plan_options {
  std::int64_t alignment = 64;  ///< of every buffer [bytes]
  /// Arguments and results have places, too, of their own: for calls that are replayed.
  bool with_ends = false;
  /// What an operation would allocate on its own is outside.
  bool launched_only = false;
};

/// The value whose elements each value shows: itself, or what it is a view of.
[[nodiscard]] inline std::vector<value_id> bases(const graph& g) {
  std::vector<value_id> base(g.values.size());
  for (const node& n : g.nodes) {
    for (const value_id v : n.out) {
      const bool looks = n.kind == node_kind::call && n.op->view;
      base[static_cast<std::size_t>(v)] = looks ? base[static_cast<std::size_t>(n.in[0])] : v;
    }
  }
  return base;
}

/// Lifetimes from the graph, offsets from `plan::plan_arena`.
///
/// Requires: operations with `view` and no others return their arguments' elements.
/// Cost:     O(n^2 log n) in values.
[[nodiscard]] inline memory_plan plan_memory(const graph& g, const plan_options& options = {}) {
  const std::vector<value_id> base = bases(g);
  const auto end = static_cast<std::int64_t>(g.nodes.size());
  const auto at = [](value_id v) { return static_cast<std::size_t>(v); };
  std::vector<std::int64_t> last(g.values.size());
  std::vector<bool> comes_out(g.values.size());
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    for (const value_id v : g.nodes[i].in) {
      last[at(base[at(v)])] = static_cast<std::int64_t>(i);
    }
    for (const value_id v : g.nodes[i].out) {
      last[at(base[at(v)])] = static_cast<std::int64_t>(i);
    }
  }
  for (const value_id v : g.outputs) {
    comes_out[at(base[at(v)])] = true;
  }

  memory_plan p;
  p.buffer_of.assign(g.values.size(), memory_plan::outside);
  for (std::size_t v = 0; v < g.values.size(); ++v) {
    const value_id self = static_cast<value_id>(v);
    if (base[v] != self) {
      p.buffer_of[v] = p.buffer_of[at(base[v])];
      continue;
    }
    const node& n = g.maker(self);
    const bool argument = n.kind == node_kind::placeholder;
    const bool made = n.kind == node_kind::call && (n.op->launches || !options.launched_only);
    if (!(made || (argument && options.with_ends)) || (comes_out[v] && !options.with_ends)) {
      continue;
    }
    p.buffer_of[v] = static_cast<std::int32_t>(p.lifetimes.size());
    p.made_as.push_back(self);
    const tensor_spec& s = g.spec(self);
    // A replay may leave an argument as it was: nobody else gets its place.
    p.lifetimes.push_back({argument ? 0 : g.values[v].node,
                           argument || comes_out[v] ? end : last[v],
                           static_cast<std::int64_t>(ashlar::detail::reach(s)) *
                               static_cast<std::int64_t>(size_of(s.type))});
  }
  p.layout = plan::plan_arena(p.lifetimes, options.alignment);
  return p;
}

}  // namespace ashlar::graph
