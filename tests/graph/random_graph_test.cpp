// SPDX-License-Identifier: Apache-2.0
#include "support/random_graph.hpp"

#include <doctest/doctest.h>

TEST_CASE("graph/random_graph: captured graphs run to the bits of the calls, and leave the same") {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    CAPTURE(seed);
    const ashlar::testing::random_graph program(seed);
    verify(program.captured);
    REQUIRE(program.run(program.captured) == program.run_eagerly());
  }
}
