// SPDX-License-Identifier: Apache-2.0
// Random graphs as text and as JSON, and back.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "ashlar/graph/json.hpp"
#include "ashlar/graph/parse.hpp"
#include "support/random_graph.hpp"

namespace graph = ashlar::graph;
using ashlar::testing::random_graph;

TEST_CASE("graph/text_random: random graphs come back from text and from JSON, and run alike") {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const random_graph program(seed);
    const std::string text = to_text(program.captured);
    CAPTURE(seed);
    CAPTURE(text);
    const auto words = graph::vocabulary::of(program.captured);
    const graph::named_tensors tensors = graph::tensors_of(program.captured);
    const graph::graph parsed = graph::parse(text, words, tensors);
    verify(parsed);
    REQUIRE(to_text(parsed) == text);
    const std::string json = to_json(program.captured);
    const graph::graph read = graph::from_json(json, words, tensors);
    REQUIRE(to_json(read) == json);
    REQUIRE(to_text(read) == text);
    if (seed % 10 == 0) {
      REQUIRE(program.run(parsed) == program.run(program.captured));
    }
  }
}
