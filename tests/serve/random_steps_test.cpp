// SPDX-License-Identifier: Apache-2.0
#include "serve/random_steps.hpp"

#include <doctest/doctest.h>

#include <cstdint>

namespace kv = ashlar::kv;
namespace testing = ashlar::testing;

TEST_CASE("serve/random_steps: forks that are swapped out lose nothing") {
  for (std::uint32_t seed = 0; seed < 3; ++seed) {
    CAPTURE(seed);
    const auto n = testing::forks_by_swap(seed, 14, 8).run(4000);
    CHECK(n.ended > 100);
    CHECK(n.aborted > 100);
    CHECK(n.hopeless > 10);
    CHECK(n.forks > 100);
    CHECK(n.drafts > 100);
    CHECK(n.failed_steps > 10);
    CHECK(n.failed_copies > 10);
    CHECK(n.scheduler.recomputed > 10);
    CHECK(n.scheduler.swapped_out > 10);
    CHECK(n.scheduler.swapped_in > 10);
    CHECK(n.scheduler.blocks_copied > 100);
  }
}

TEST_CASE("serve/random_steps: neither do priorities, a host that is full, and chunks") {
  for (std::uint32_t seed = 0; seed < 3; ++seed) {
    CAPTURE(seed);
    const auto n = testing::all_by_swap(10 + seed, 11, 5).run(4000);
    CHECK(n.ended > 100);
    CHECK(n.failed_copies > 10);
    CHECK(n.scheduler.recomputed > 10);
    CHECK(n.scheduler.swapped_in > 10);
  }
}

TEST_CASE("serve/random_steps: nor sequences that only grow, served by tenant") {
  const auto n = testing::appends_only(20, 12, 0).run(4000);
  CHECK(n.ended > 100);
  CHECK(n.forks > 100);
  CHECK(n.scheduler.blocks_copied == 0);
  CHECK(n.hopeless > 10);
  CHECK(n.scheduler.recomputed > 10);
  CHECK(n.scheduler.resumed > 10);
  // A tenant's account goes down where its second request gives way in a step of its own.
  CHECK(testing::appends_only(5000, 8, 0).run(7000).ended > 100);
  // Branches that have lost their blocks give way again before they have found their beginning.
  const auto swapped = testing::appends_and_swaps(5, 6, 3).run(2000);
  CHECK(swapped.forks > 100);
  CHECK(swapped.scheduler.recomputed > 10);
  CHECK(swapped.scheduler.swapped_in > 10);
}

TEST_CASE("serve/random_steps: nor windows") {
  const auto n = testing::through_a_window(30, 16, 0).run(4000);
  CHECK(n.ended > 100);
  CHECK(n.forks > 100);
  CHECK(n.scheduler.recomputed > 10);
}

TEST_CASE("serve/random_steps: nor who is promised what they may need") {
  const auto n = testing::promised(40, 60, 0).run(4000);
  CHECK(n.ended > 100);
  CHECK(n.forks > 100);
  CHECK(n.scheduler.recomputed == 0);
  CHECK(n.scheduler.blocks_copied == 0);  // blocks of one token are never half full
}

TEST_CASE("serve/random_steps: what was written down is decided again") {
  const auto n = testing::written_down(50, 14, 6).run(3000);
  CHECK(n.ended > 100);
  CHECK(n.forks > 100);
  CHECK(n.failed_copies > 10);
  CHECK(n.scheduler.swapped_in > 10);
}

TEST_CASE_TEMPLATE("serve/random_steps: in a million random steps no block and no request is lost",
                   Steps, testing::forks_by_swap, testing::all_by_swap, testing::appends_only,
                   testing::appends_and_swaps, testing::through_a_window, testing::promised) {
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    const auto blocks = static_cast<kv::block_id>(8 + 10 * seed);
    CHECK(Steps(500 + seed, blocks, blocks / 2).run(34'000).ended > 500);
  }
}
