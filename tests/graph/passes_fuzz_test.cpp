// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <string_view>

#include "ashlar/graph/passes.hpp"
#include "support/random_graph.hpp"

namespace graph = ashlar::graph;
using ashlar::testing::random_graph;

namespace {

struct named_pass {
  std::string_view name;
  graph::graph (*run)(const graph::graph&);
};
constexpr std::array passes{
    named_pass{"dead_code", [](const graph::graph& g) { return graph::dead_code(g); }},
    named_pass{"common_subexpressions",
               [](const graph::graph& g) { return graph::common_subexpressions(g); }},
    named_pass{
        "functionalise and fold",
        [](const graph::graph& g) { return graph::fold_constants(graph::functionalise(g)); }},
    named_pass{"freeze and fold",
               [](const graph::graph& g) { return graph::fold_constants(graph::freeze(g)); }},
    named_pass{"simplify", [](const graph::graph& g) { return graph::simplify(g); }},
    named_pass{"partition",
               [](const graph::graph& g) {
                 return partition(g, [](const graph::node& n) { return n.op->elementwise; }).result;
               }},
    named_pass{"functionalise and partition",
               [](const graph::graph& g) {
                 return partition(
                            graph::functionalise(g),
                            [](const graph::node& n) { return n.op->view || n.op->elementwise; })
                     .result;
               }},
    named_pass{"functionalise", [](const graph::graph& g) { return graph::functionalise(g); }},
};

}  // namespace

TEST_CASE(
    "graph/passes: each pass alone keeps every bit of random graphs, and so do all together") {
  std::array<int, passes.size()> changed{};
  int saved = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    CAPTURE(seed);
    const random_graph program(seed, {.calls = 8 + static_cast<int>(seed % 28)});
    const auto expected = program.run(program.captured);
    for (std::size_t i = 0; i < passes.size(); ++i) {
      CAPTURE(passes[i].name);
      const graph::graph now = passes[i].run(program.captured);
      verify(now);
      REQUIRE(program.run(now) == expected);
      changed[i] += now.nodes.size() != program.captured.nodes.size() ? 1 : 0;
    }
    const graph::graph less = graph::reorder_for_memory(program.captured);
    REQUIRE(program.run(less) == expected);
    REQUIRE(peak_bytes(less) <= peak_bytes(program.captured));
    saved += peak_bytes(less) < peak_bytes(program.captured) ? 1 : 0;
    const auto products = [](const graph::node& n) {
      return graph::is_call_of<ashlar::ops::matmul>(n);
    };
    REQUIRE(program.run(graph::reorder_for_overlap(program.captured, products)) == expected);
    graph::graph all = program.captured;
    for (const std::size_t round : {0u, 1u}) {
      for (std::size_t i = 0; i < passes.size(); ++i) {
        all = passes[(i + seed + round) % passes.size()].run(all);
      }
    }
    all = graph::dead_code(all);
    verify(all);
    REQUIRE(program.run(all) == expected);
    REQUIRE(is_functional(all));
  }
  CHECK(saved > 200);
  for (std::size_t i = 0; i < passes.size(); ++i) {
    CAPTURE(passes[i].name);
    CHECK(changed[i] > 200);  // the graphs give each of them something to do
  }
}
