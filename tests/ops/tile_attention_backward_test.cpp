// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <tuple>

#include "ashlar/ops/tile/attention_backward.hpp"
#include "ops/attention_samples.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;
using X = twins::plain<float>;

TEST_CASE("ops/tile_attention_backward: any lengths, causal or not, grouped queries") {
  for (const attention_sample& s : attention_samples) {
    const auto q = s.q();
    const auto k = s.k();
    const auto v = s.v();
    const auto g = twins::numbers<X>({2, s.heads, s.queries, s.width}, 4);
    const double factor = 1.0 / std::sqrt(static_cast<double>(s.width));
    // Chains over Dh for scores and their gradients, then over keys, or over all queries that
    // read a key; a term is a weight times a gradient of at most 4 Dh times a number of at most 2.
    const auto over = static_cast<double>(s.keys + s.queries * s.heads + 4 * s.width) + 16;
    const tolerance near{over, 16 * std::sqrt(static_cast<double>(s.width))};
    for (const bool causal : {false, true}) {
      const auto y = al::scaled_dot_product_attention(q, k, v, causal, factor);
      const auto grads = [&](const auto&... x) {
        return al::call<al::ops::scaled_dot_product_attention_backward>(x..., causal, factor);
      };
      check_both(
          near, [&](const auto&... x) { return std::get<0>(grads(x...)); }, g, q, k, v, y);
      check_both(
          near, [&](const auto&... x) { return std::get<1>(grads(x...)); }, g, q, k, v, y);
      check_both(
          near, [&](const auto&... x) { return std::get<2>(grads(x...)); }, g, q, k, v, y);
    }
  }
}
