// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/attention_backward.hpp"
#include "ops/attention_samples.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using tile_test::exact;
using tile_test::tolerance;
using X = twins::plain<float>;

}  // namespace

TEST_CASE("chip/operators: attention, forward and backward, on every chip") {
  for (const tile_test::attention_sample& s : tile_test::attention_samples) {
    const auto q = s.q();
    const auto k = s.k();
    const auto v = s.v();
    const auto g = twins::numbers<X>({2, s.heads, s.queries, s.width}, 4);
    const double factor = 1.0 / std::sqrt(static_cast<double>(s.width));
    // Chains over Dh for scores and their gradients, then over keys, or over all queries that read
    // a key; a term is a weight times a gradient of at most 4 Dh times a number of at most 2.
    const tolerance forward{static_cast<double>(s.keys + 4 * s.width) + 16, 4};
    const auto over = static_cast<double>(s.keys + s.queries * s.heads + 4 * s.width) + 16;
    const tolerance backward{over, 16 * std::sqrt(static_cast<double>(s.width))};
    for (const bool causal : {false, true}) {
      const auto attend = [&](const auto&... x) {
        return al::scaled_dot_product_attention(x..., causal, factor);
      };
      check<ops::scaled_dot_product_attention>(forward, attend, q, k, v);
      check<ops::scaled_dot_product_attention_backward>(
          backward,
          [&](const auto&... x) {
            return al::call<ops::scaled_dot_product_attention_backward>(x..., causal, factor);
          },
          g, q, k, v, attend(q, k, v));
    }
  }
  replay::check_on_every_chip();
  replay::check_seen<ops::scaled_dot_product_attention,
                     ops::scaled_dot_product_attention_backward>();
}

TEST_CASE("chip/operators: attention over a paged cache, and writing to it, on every chip") {
  const auto attend = [](const auto&... x) { return al::paged_attention(x..., 0.3); };
  for (const std::int64_t width : {5, 66}) {
    const std::vector<std::pair<std::int32_t, std::int32_t>> tokens{{2, 0}, {0, 40}, {1, 69}};
    for (const auto& rows : {tokens, tile_test::paged_step::mixed()}) {
      const tile_test::paged_step step(width, 16, rows);
      const auto q = twins::numbers<X>({step.sequence.size(), 4, width}, 1);
      check<ops::paged_attention>({static_cast<double>(70 + 4 * width) + 16, 4}, attend, q,
                                  step.keys, step.values, step.tables, step.sequence,
                                  step.position);
    }
  }
  const tile_test::paged_step step(5, 3, {{0, 0}});
  check<ops::cache_write>(
      exact,
      [](const auto& keys, const auto& values, const auto& k, const auto& v, const auto& slots) {
        const std::tuple caches{al::clone(keys), al::clone(values)};
        al::cache_write(std::get<0>(caches), std::get<1>(caches), k, v, slots);
        return caches;
      },
      step.keys, step.values, twins::numbers<X>({4, 2, 5}, 4), twins::numbers<X>({4, 2, 5}, 5),
      al::from_values<twins::plain<std::int64_t>>({4}, {7, 0, 30, 11}));
  replay::check_on_every_chip();
  replay::check_seen<ops::paged_attention, ops::cache_write>();
}
