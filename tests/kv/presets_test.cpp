// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include "kv/random_calls.hpp"

namespace kv = ashlar::kv;
using ashlar::testing::call_counts;
using ashlar::testing::random_calls;

static_assert(kv::CachePolicy<kv::vllm_v0<16>> && kv::CachePolicy<kv::vllm_v1<16>>);

template <class Table>
concept Forks = requires(const Table& t) { t.fork(); };
static_assert(Forks<kv::vllm_v0<16>::table>);
static_assert(!Forks<kv::vllm_v1<16>::table>);

TEST_CASE("kv/presets: the pools are what the names say") {
  const kv::vllm_v0<16>::pool v0(400, {.host_blocks = 3});
  CHECK(v0.capacity() == 400);
  CHECK(v0.watermark() == 4);
  CHECK(v0.options().order == kv::free_order::empty_first);
  CHECK(v0.host.host().capacity() == 3);
  const kv::vllm_v1<16>::pool v1(400);
  CHECK(v1.capacity() == 399);
  CHECK(v1.watermark() == 0);
  CHECK(v1.options().order == kv::free_order::oldest_first);
}

TEST_CASE("kv/presets: random calls of vLLM v0's cache keep every rule and every byte") {
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    const call_counts n = random_calls<kv::vllm_v0<3>>(seed, 24, 9).run(15'000);
    CHECK(n.hits > 100);
    CHECK(n.shortages > 100);
    CHECK(n.copies > 100);
    CHECK(n.forks > 100);
    CHECK(n.swaps > 100);
    CHECK(n.faults > 100);
  }
}

TEST_CASE("kv/presets: random calls of vLLM v1's cache keep every rule and every byte") {
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    const call_counts n = random_calls<kv::vllm_v1<4>>(seed, 20, 0).run(15'000);
    CHECK(n.hits > 100);
    CHECK(n.shortages > 100);
    CHECK(n.drops > 100);
    CHECK(n.faults > 100);
  }
}
