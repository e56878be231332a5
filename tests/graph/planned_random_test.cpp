// SPDX-License-Identifier: Apache-2.0
// Random graphs in arenas and as replays.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph/planned.hpp"
#include "graph/arena_check.hpp"
#include "support/random_graph.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;

TEST_CASE(
    "graph/planned: 2000 random graphs leave the bits of the interpreter, in an arena as replays") {
  double ratios = 0;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    CAPTURE(seed);
    const al::testing::random_graph random(seed, {.calls = 10 + static_cast<int>(seed % 30)});
    const graph::graph& g = random.captured;
    const graph::memory_plan plan = plan_memory(g, {.alignment = 64});
    CHECK(arena_test::apart(g, plan));
    CHECK(plan.layout.bytes >= plan.layout.bound);
    ratios += plan_memory(g, {.alignment = 1}).layout.ratio();
    const al::testing::run_result expected = random.run(g);

    auto arranged = graph::planned<host>{}.compile(g);
    for (int again = 0; again < 2; ++again) {
      random.reset();
      const auto given = random.arguments();
      const auto results = arranged(std::span<const al::tensor_handle>(given));
      CHECK(random.look_at(results, given) == expected);
    }

    graph::replayed<host> recorded(g);
    for (int again = 0; again < 2; ++again) {
      random.reset();
      const auto places = recorded.arguments();
      const auto given = random.arguments();
      for (std::size_t i = 0; i < given.size(); ++i) {
        REQUIRE(given[i].contiguous());
        std::memcpy(places[i].bytes(), given[i].bytes(),
                    static_cast<std::size_t>(given[i].size()) * al::size_of(given[i].spec().type));
      }
      recorded.replay();
      CHECK(random.look_at(recorded.results(), places) == expected);
    }
  }
  CHECK(ratios / 2000 < 1.02);  // in one-byte steps; a tensor of a few numbers fills 64 of them
}
