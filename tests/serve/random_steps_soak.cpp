// SPDX-License-Identifier: Apache-2.0
// Six million steps of schedulers over all their policies, in pools from tiny to roomy.
#include <doctest/doctest.h>

#include <cstdint>

#include "serve/random_steps.hpp"

namespace kv = ashlar::kv;
namespace testing = ashlar::testing;

TEST_CASE_TEMPLATE("serve/random_steps: six million random steps lose no block and no request",
                   Steps, testing::forks_by_swap, testing::all_by_swap, testing::appends_only,
                   testing::appends_and_swaps, testing::through_a_window, testing::promised) {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    const auto blocks = static_cast<kv::block_id>(8 + 5 * seed);
    const auto n = Steps(1000 + seed, blocks, blocks / 2).run(100'000);
    CHECK(n.ended > 1000);
  }
}
