// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

namespace ashlar::graph {

/// Without what nobody reads.
///
/// Kept are placeholders, what outputs need, and writes to elements that outlive a run (those of
/// placeholders, parameters and constants) or that something kept reads later.
/// Cost: linear.
[[nodiscard]] inline graph dead_code(const graph& g) {
  const effects of(g);
  std::vector<bool> node_lives(g.nodes.size());
  std::vector<bool> value_lives(g.values.size());
  std::vector<bool> elements_live(g.values.size());  // of a base, from here on
  const auto need = [&](value_id v) {
    value_lives[static_cast<std::size_t>(v)] = true;
    elements_live[static_cast<std::size_t>(of.base(v))] = true;
  };
  for (const value_id v : g.outputs) {
    need(v);
  }
  for (std::size_t i = g.nodes.size(); i-- > 0;) {
    const node& n = g.nodes[i];
    bool lives = n.kind == node_kind::placeholder;
    for (const value_id v : n.out) {
      lives = lives || value_lives[static_cast<std::size_t>(v)];
    }
    each_written(n, [&](value_id v) {
      lives = lives || of.outside(v) || elements_live[static_cast<std::size_t>(of.base(v))];
    });
    if (lives) {
      node_lives[i] = true;
      for (const value_id v : n.in) {
        need(v);
      }
    }
  }
  graph now;
  copier to(g, now);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (node_lives[i]) {
      to.copy(g.nodes[i]);
    }
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph
