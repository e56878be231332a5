// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/graph/arena.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace arena_test {

namespace al = ashlar;
namespace graph = ashlar::graph;

/// Views of intermediates, one written to, a view that comes out, and many sizes.
inline constexpr auto busy = [](const auto& x) {
  auto a = al::add(x, x);
  auto b = al::matmul(a, al::transpose(a, 0, 1));
  auto part = al::slice(b, 0, 1, 3);
  al::scale.in_place(part, 0.5, 0.25);
  const auto c = al::softmax(b);
  const auto d = al::matmul(c, al::mul(a, x));
  const auto e = al::reshape(al::mul(d, d), al::shape{x.size()});
  return std::tuple(al::sum(e), al::slice(al::add(d, a), 1, 0, 2), d);
};

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
