// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"
#include "ashlar/ops/fwd.hpp"

namespace ashlar::graph {

/// Parameters become constants, those aside that the graph writes to: what was captured stays as it
/// is now, also where the module is trained on.
[[nodiscard]] inline graph freeze(graph g) {
  const effects of(g);
  for (node& n : g.nodes) {
    if (n.kind == node_kind::parameter && !of.written(n.out[0])) {
      n.kind = node_kind::constant;
      n.name.clear();
    }
  }
  return g;
}

/// Calls whose arguments are all constants run once, here; their results are constants.
///
/// Left alone is what writes or is written to, what comes out (the caller may write to it), and
/// results of more than `most_bytes`. `fill` stays a call where it is all there is: it needs no
/// memory between runs. Constants that nobody needs any more are gone.
/// Effects: runs kernels. Bits do not change.
[[nodiscard]] inline graph fold_constants(const graph& g, std::int64_t most_bytes = 64 << 20) {
  enum class kind { unknown, known, geometry };  // of geometry the elements are not known
  const effects of(g);
  std::vector<tensor_handle> data(g.values.size());
  std::vector<kind> what(g.values.size(), kind::unknown);
  std::vector<tensor_handle> in;
  std::vector<tensor_handle> out;
  const auto folds = [&](const node& n) {
    if (n.kind == node_kind::constant) {
      return !of.written(n.out[0]);
    }
    bool all = n.kind == node_kind::call && n.op->writes == 0 && (!n.in.empty() || is_blank(n));
    for (const value_id v : n.in) {
      const kind k = what[static_cast<std::size_t>(v)];
      all = all && (k == kind::known || (k == kind::geometry && (n.op->view || takes_geometry(n))));
    }
    for (const value_id v : n.out) {
      const tensor_spec& s = g.spec(v);
      all = all && !of.written(v) && !of.shown(v) &&
            s.size * static_cast<std::int64_t>(size_of(s.type)) <= most_bytes;
    }
    return all;
  };

  graph now;
  copier to(g, now);
  const auto need = [&](const auto& self, value_id v) -> void {
    if (to(v) != no_value) {
      return;
    }
    const node& n = g.maker(v);
    if (n.kind == node_kind::constant || is_blank(n) || is_call_of<ops::fill>(n) ||
        what[static_cast<std::size_t>(v)] == kind::geometry) {
      for (const value_id x : n.in) {
        self(self, x);
      }
      to.copy(n);
    } else {
      const tensor_handle& x = data[static_cast<std::size_t>(v)];
      const std::int32_t place =
          now.add({.kind = node_kind::constant, .data = x, .where = n.where}, std::array{x.spec()});
      to.set(v, now.nodes[static_cast<std::size_t>(place)].out[0]);
    }
  };
  for (const node& n : g.nodes) {
    if (!folds(n)) {
      for (const value_id v : n.in) {
        need(need, v);
      }
      to.copy(n);
      continue;
    }
    out.assign(n.out.size(), n.data);
    kind k = kind::known;
    if (n.kind == node_kind::call) {
      in.clear();
      for (const value_id v : n.in) {
        in.push_back(data[static_cast<std::size_t>(v)]);
        k = n.op->view ? what[static_cast<std::size_t>(v)] : k;
      }
      k = is_blank(n) ? kind::geometry : k;
      n.op->run(in, n.attributes, out);
    }
    for (std::size_t r = 0; r < out.size(); ++r) {
      data[static_cast<std::size_t>(n.out[r])] = std::move(out[r]);
      what[static_cast<std::size_t>(n.out[r])] = k;
    }
  }
  for (const value_id v : g.outputs) {
    need(need, v);
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph
