// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "support/tile_chip.hpp"

namespace tile_test {

/// Extents of one attention over a batch of two.
struct attention_sample {
  std::int64_t heads, kv_heads, queries, keys, width;

  using tensor = twins::plain<float>;
  [[nodiscard]] tensor q() const { return twins::numbers<tensor>({2, heads, queries, width}, 1); }
  [[nodiscard]] tensor k() const { return twins::numbers<tensor>({2, kv_heads, keys, width}, 2); }
  [[nodiscard]] tensor v() const { return twins::numbers<tensor>({2, kv_heads, keys, width}, 3); }
};

/// One and none of everything, grouped queries, more queries than keys, heads over one block.
inline constexpr attention_sample attention_samples[] = {
    {1, 1, 1, 1, 1},   {2, 2, 17, 17, 5}, {4, 2, 15, 65, 16}, {3, 1, 5, 3, 64},
    {2, 1, 3, 70, 65}, {2, 2, 3, 0, 4},   {1, 1, 0, 4, 4}};

}  // namespace tile_test
