// SPDX-License-Identifier: Apache-2.0
// A million calls of each preset, in pools from roomy to tiny.
#include <doctest/doctest.h>

#include <cstdint>

#include "kv/random_calls.hpp"

namespace kv = ashlar::kv;
using ashlar::testing::random_calls;

TEST_CASE("kv/presets: a million random calls of vLLM v0's cache") {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    const auto blocks = static_cast<kv::block_id>(6 + 5 * seed);
    CHECK(random_calls<kv::vllm_v0<3>>(100 + seed, blocks, blocks / 2).run(100'000).hits > 0);
  }
}

TEST_CASE("kv/presets: a million random calls of vLLM v1's cache") {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    const auto blocks = static_cast<kv::block_id>(6 + 5 * seed);
    CHECK(random_calls<kv::vllm_v1<4>>(200 + seed, blocks, 0).run(100'000).hits > 0);
  }
}
