// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"
#include "ashlar/graph/passes/propagate.hpp"
#include "ashlar/graph/recorder.hpp"
#include "ashlar/ops/fwd.hpp"

namespace ashlar::graph {

/// Whether a node is a call of an operator of the core set, `ops::prims`.
[[nodiscard]] inline bool is_core(const node& n) {
  return is_cast(n) || []<class... Op>(const node& call, ops::operators<Op...>) {
    return (is_call_of<Op>(call) || ...);
  }(n, ops::prims{});
}

/// Calls in terms of others, until what has parts is kept.
///
/// `keep` says which nodes stay; the core set unless told. In-place and `out=` calls have no parts:
/// `functionalise` first. Results differ by roundings, as with `decomposition`.
/// Requires: `ashlar/ops/decompositions.hpp` was included before the graph was captured.
/// Throws:   `graph_error` where a decomposition has another shape or type than its operator.
[[nodiscard]] inline graph decompose(const graph& g,
                                     const std::function<bool(const node&)>& keep = is_core) {
  const effects of(g);
  bool again = false;
  graph now;
  copier to(g, now);
  {
    recorder rec(now);
    for (std::size_t i = 0; i < g.nodes.size(); ++i) {
      const node& n = g.nodes[i];
      if (n.kind != node_kind::call || !n.op->has_parts() || keep(n)) {
        detail::call_again(to, now, n);
        continue;
      }
      again = true;
      const std::size_t first = now.nodes.size();
      std::vector<value_id> in;
      bool alias_matters = false;
      for (const value_id v : n.in) {
        in.push_back(to(v));
        alias_matters = alias_matters || of.written(v);
      }
      std::vector<value_id> made = n.op->take_apart(rec, in, n.attributes);
      for (std::size_t r = 0; r < made.size(); ++r) {
        const tensor_spec& promised = g.spec(n.out[r]);
        value_id root = made[r];
        while (now.maker(root).op && now.maker(root).op->view) {
          root = now.maker(root).in[0];
        }
        const bool is_argument =
            static_cast<std::size_t>(now.values[static_cast<std::size_t>(root)].node) < first;
        if (is_argument && !n.op->view &&
            (alias_matters || of.written(n.out[r]) || of.shown(n.out[r]))) {
          made[r] = now.call(n.op->cloning(), {made[r]})[0];
        }
        if (now.spec(made[r]).type != promised.type || !same_shape(now.spec(made[r]), promised)) {
          throw graph_error(static_cast<std::int32_t>(i),
                            "the decomposition of " + std::string(n.op->name) + " makes " +
                                to_string(now.spec(made[r]).shape()) + ", not " +
                                to_string(promised.shape()));
        }
        to.set(n.out[r], made[r]);
      }
      for (std::size_t p = first; p < now.nodes.size(); ++p) {
        now.nodes[p].where = n.where;
      }
    }
  }
  to.copy_outputs();
  return again ? decompose(now, keep) : now;
}

}  // namespace ashlar::graph
