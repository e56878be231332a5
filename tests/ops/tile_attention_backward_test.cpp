// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <tuple>

#include "ashlar/ops/tile/attention_backward.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;
using X = twins::plain<float>;

TEST_CASE("ops/tile_attention_backward: any lengths, causal or not, grouped queries") {
  struct sample {
    std::int64_t heads, kv_heads, queries, keys, width;
  };
  for (const sample& s : {sample{1, 1, 1, 1, 1},
                          {2, 2, 17, 17, 5},
                          {4, 2, 15, 65, 16},
                          {3, 1, 5, 3, 64},
                          {2, 1, 3, 70, 65},
                          {2, 2, 3, 0, 4},
                          {1, 1, 0, 4, 4}}) {
    const auto q = twins::numbers<X>({2, s.heads, s.queries, s.width}, 1);
    const auto k = twins::numbers<X>({2, s.kv_heads, s.keys, s.width}, 2);
    const auto v = twins::numbers<X>({2, s.kv_heads, s.keys, s.width}, 3);
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
