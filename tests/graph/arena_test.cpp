// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/arena.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"
#include "graph/arena_check.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;
using real = al::tensor<float, al::make_key_set<al::keys::backend<host>>>;

namespace {

using arena_test::busy;

}  // namespace

TEST_CASE("graph/arena: whoever reads a value finds it whole, and arenas come near the bound") {
  for (const std::int64_t rows : {1, 3, 7, 32}) {
    const real x = al::randn<real>({rows, rows + 4}, 1);
    const graph::graph g =
        rows < 3
            ? graph::capture([](const auto& a) { return al::sum(al::mul(al::add(a, a), a)); }, x)
            : graph::capture(busy, x);
    for (const std::int64_t alignment : {1, 64, 512}) {
      const graph::memory_plan p = plan_memory(g, {.alignment = alignment});
      CHECK(arena_test::apart(g, p));
      CHECK(p.layout.bytes >= p.layout.bound);
      CHECK(p.layout.bound == al::plan::peak_live(p.lifetimes));
      for (const std::int64_t at : p.layout.offsets) {
        CHECK(at % alignment == 0);
      }
    }
    CHECK(plan_memory(g).layout.bytes <= 2 * plan_memory(g).layout.bound + 64 * 20);
  }
}

TEST_CASE("graph/arena: what belongs to others is outside, unless a plan is for replays") {
  const real x = al::randn<real>({6, 10}, 1);
  const graph::graph g = graph::capture(busy, x);
  const graph::memory_plan p = plan_memory(g);
  for (const graph::node& n : g.nodes) {
    if (n.kind != graph::node_kind::call) {
      CHECK(p.offset_of(n.out[0]) == graph::memory_plan::outside);
    }
  }
  for (const graph::value_id v : g.outputs) {
    CHECK(p.offset_of(v) == graph::memory_plan::outside);
  }
  const graph::memory_plan whole = plan_memory(g, {.with_ends = true});
  CHECK(arena_test::apart(g, whole));
  for (const graph::value_id v : g.outputs) {
    CHECK(whole.offset_of(v) != graph::memory_plan::outside);
  }
  CHECK(whole.offset_of(g.nodes[0].out[0]) != graph::memory_plan::outside);
}
