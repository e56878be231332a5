// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/graph/arena.hpp"
#include "ashlar/graph/graph.hpp"

namespace arena_test {

namespace al = ashlar;
namespace graph = ashlar::graph;

/// Whether whoever reads a value finds all of it in the arena: told from a run in which each byte
/// knows who wrote it last, and not from lifetimes.
inline bool apart(const graph::graph& g, const graph::memory_plan& p) {
  const auto bytes = [&](graph::value_id v) {
    return g.spec(v).size * static_cast<std::int64_t>(al::size_of(g.spec(v).type));
  };
  // holder[b]: who is in byte b of the arena
  std::vector<graph::value_id> holder(static_cast<std::size_t>(p.layout.bytes), graph::no_value);
  const auto base = [&](graph::value_id v) {
    while (g.maker(v).kind == graph::node_kind::call && g.maker(v).op->view) {
      v = g.maker(v).in[0];
    }
    return v;
  };
  const auto holds = [&](graph::value_id v) {
    const graph::value_id b = base(v);
    const std::int64_t at = p.offset_of(b);
    if (at == graph::memory_plan::outside) {
      return true;
    }
    for (std::int64_t i = 0; i < bytes(b); ++i) {
      if (holder[static_cast<std::size_t>(at + i)] != b) {
        return false;
      }
    }
    return true;
  };
  for (const graph::node& n : g.nodes) {
    for (const graph::value_id v : n.out) {
      if (base(v) == v && p.offset_of(v) != graph::memory_plan::outside) {
        for (std::int64_t i = 0; i < bytes(v); ++i) {
          holder[static_cast<std::size_t>(p.offset_of(v) + i)] = v;
        }
      }
    }
    for (const graph::value_id v : n.in) {  // after the results were written: they lie apart
      if (!holds(v)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace arena_test
