// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>

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
