// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

namespace ashlar::graph {

/// The same calls on placeholders of other shapes or layouts: every `meta` is asked anew.
///
/// Attributes stay as they are, and so does what was decided when the graph was captured: extents
/// that a call names (`blank`, `view_as`, `expand`) do not follow.
/// Requires: `placeholders` has a spec for each placeholder, in order.
/// Throws:   `graph_error` that names the node whose `meta` refuses, with its words.
[[nodiscard]] inline graph propagate(const graph& g, std::span<const tensor_spec> placeholders) {
  graph now;
  copier to(g, now);
  std::size_t next = 0;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    const auto fail = [&](std::string rule) {
      throw graph_error(static_cast<std::int32_t>(i), std::move(rule));
    };
    if (n.kind == node_kind::placeholder) {
      if (next == placeholders.size()) {
        fail("there is no spec for placeholder " + n.name);
      }
      const tensor_spec& s = placeholders[next++];
      if (s.type != g.spec(n.out[0]).type) {
        fail(n.name + " is " + std::string(name_of(g.spec(n.out[0]).type)) + ", not " +
             std::string(name_of(s.type)));
      }
      node same = n;
      const std::int32_t place = now.add(std::move(same), std::span(&s, 1));
      to.set(n.out[0], now.nodes[static_cast<std::size_t>(place)].out[0]);
      continue;
    }
    if (n.kind != node_kind::call) {
      to.copy(n);
      continue;
    }
    std::vector<value_id> in;
    for (const value_id v : n.in) {
      in.push_back(to(v));
    }
    try {
      const std::vector<value_id> made = now.call(n.op, in, n.attributes, n.where);
      for (std::size_t r = 0; r < made.size(); ++r) {
        to.set(n.out[r], made[r]);
      }
    } catch (const error& e) {
      fail(std::string(n.op->name) + ": " + e.what());
    }
  }
  if (next != placeholders.size()) {
    throw graph_error(-1, "it has " + std::to_string(next) + " placeholders, not " +
                              std::to_string(placeholders.size()));
  }
  to.copy_outputs();
  return now;
}

namespace detail {

/// Appends a call of a view to `to`; of a copy where its argument lies so that it is none.
inline value_id look(graph& to, const node& n, value_id at) {
  try {
    return to.call(n.op, {at}, n.attributes, n.where)[0];
  } catch (const error&) {
    if (!n.op->cloning()) {
      throw;
    }
    const value_id dense = to.call(n.op->cloning(), {at}, {}, n.where)[0];
    return to.call(n.op, {dense}, n.attributes, n.where)[0];
  }
}

/// Appends a call on what stands for its arguments, with what `meta` says of those.
/// Effects: the copier knows its results.
inline void call_again(copier& map, graph& to, const node& n) {
  if (n.kind != node_kind::call) {
    map.copy(n);
    return;
  }
  std::vector<value_id> in;
  for (const value_id v : n.in) {
    in.push_back(map(v));
  }
  const std::vector<value_id> made =
      n.op->view ? std::vector{look(to, n, in[0])} : to.call(n.op, in, n.attributes, n.where);
  for (std::size_t r = 0; r < made.size(); ++r) {
    map.set(n.out[r], made[r]);
  }
}

}  // namespace detail

}  // namespace ashlar::graph
