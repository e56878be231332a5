// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/tiles.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "support/random_graph.hpp"

namespace graph = ashlar::graph;
using ashlar::testing::random_graph;

TEST_CASE("graph/tiles: random graphs have the operators' bits, with writes and views among them") {
  std::size_t kernels = 0;
  std::size_t programs = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    CAPTURE(seed);
    random_graph r(seed, {.calls = 18});
    const auto eager = r.run(r.captured);
    const bool blocks = seed % 2 == 0;
    auto compiled =
        graph::tiles<ashlar::chip::host>{.options = {.reorder_sums = false, .host_blocks = blocks}}
            .compile(r.captured);
    for (const auto* kernel : compiled.kernels()) {
      ++kernels;
      std::vector<ashlar::tensor_spec> in;
      for (const graph::node& n : kernel->calls().body.nodes) {
        if (n.kind == graph::node_kind::placeholder) {
          in.push_back(kernel->calls().body.spec(n.out[0]));
        }
      }
      programs += kernel->program(in) ? 1u : 0u;
      CHECK_MESSAGE((blocks || kernel->obstacle(in) == ""), kernel->obstacle(in));
    }
    r.reset();
    const auto given = r.arguments();
    const auto results = compiled(std::span<const ashlar::tensor_handle>(given));
    REQUIRE(r.look_at(results, given) == eager);
  }
  MESSAGE(kernels << " kernels, " << programs << " of them programs");
  CHECK(programs > 500);
}
