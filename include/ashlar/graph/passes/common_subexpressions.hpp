// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

namespace ashlar::graph {

/// Of calls with the same operation, arguments and attributes the first alone.
///
/// Two calls are the same only where nothing was written to their arguments' elements in between
/// (views look at elements and read none, so writes are nothing to them). What is written to later
/// stays apart, and so do two results that both come out: the caller may write to one. Random
/// numbers are a function of their seed and offset, so equal calls are equal.
/// Cost: linear.
[[nodiscard]] inline graph common_subexpressions(const graph& g) {
  const effects of(g);
  graph now;
  copier to(g, now);
  std::unordered_multimap<std::size_t, std::size_t> seen;  // places of nodes in `g`
  std::vector<bool> comes_out(g.values.size());            // also in the place of another result
  for (std::size_t v = 0; v < g.values.size(); ++v) {
    comes_out[v] = of.shown(static_cast<value_id>(v));
  }
  const auto hash = [&](const node& n) {
    std::size_t h = std::hash<const void*>{}(n.op.get());
    for (const value_id v : n.in) {
      h = h * 1000003 + static_cast<std::size_t>(to(v));
    }
    return h;
  };
  const auto same = [&](std::size_t first, std::size_t second) {
    const node& a = g.nodes[first];
    const node& b = g.nodes[second];
    if (a.op != b.op || a.attributes != b.attributes) {
      return false;
    }
    for (std::size_t i = 0; i < a.in.size(); ++i) {
      if (to(a.in[i]) != to(b.in[i]) ||
          (!a.op->view && of.writes_before(a.in[i], static_cast<std::int32_t>(first)) !=
                              of.writes_before(b.in[i], static_cast<std::int32_t>(second)))) {
        return false;
      }
    }
    for (std::size_t r = 0; !a.op->view && r < a.out.size(); ++r) {
      if (comes_out[static_cast<std::size_t>(a.out[r])] &&
          comes_out[static_cast<std::size_t>(b.out[r])]) {
        return false;
      }
    }
    return true;
  };
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    bool candidate = n.kind == node_kind::call && n.op->writes == 0;
    for (const value_id v : n.out) {
      candidate = candidate && (n.op->view || !of.written(v));
    }
    if (!candidate) {
      to.copy(n);
      continue;
    }
    const std::size_t h = hash(n);
    auto [at, end] = seen.equal_range(h);
    while (at != end && !same(at->second, i)) {
      ++at;
    }
    if (at == end) {
      to.copy(n);
      seen.emplace(h, i);
      continue;
    }
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      const value_id first = g.nodes[at->second].out[r];
      to.set(n.out[r], to(first));
      if (of.shown(n.out[r])) {
        comes_out[static_cast<std::size_t>(first)] = true;
      }
    }
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph
