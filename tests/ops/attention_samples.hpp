// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

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

/// Sequences in a paged cache, and the rows of one step: tokens of some, chunks of others.
struct paged_step {
  using X = attention_sample::tensor;
  X keys, values;
  twins::plain<std::int32_t> tables, sequence, position;

  /// A row for each (sequence, position).
  paged_step(std::int64_t width, std::int64_t length,
             const std::vector<std::pair<std::int32_t, std::int32_t>>& rows) {
    constexpr std::int64_t sequences = 3;
    constexpr std::int64_t tokens = 70;
    const std::int64_t each = (tokens + length - 1) / length;
    keys = twins::numbers<X>({sequences * each, 2, width, length}, 2);
    values = twins::numbers<X>({sequences * each, 2, length, width}, 3);
    tables = al::empty<twins::plain<std::int32_t>>({sequences, each});
    for (std::int64_t i = 0; i < tables.size(); ++i) {  // blocks of all sequences alternate
      tables.data()[i] = static_cast<std::int32_t>(i % each * sequences + i / each);
    }
    const auto n = static_cast<std::int64_t>(rows.size());
    sequence = al::empty<twins::plain<std::int32_t>>({n});
    position = al::empty<twins::plain<std::int32_t>>({n});
    for (std::int64_t i = 0; i < n; ++i) {
      sequence.data()[i] = rows[static_cast<std::size_t>(i)].first;
      position.data()[i] = rows[static_cast<std::size_t>(i)].second;
    }
  }
  /// A token of one sequence, whole prompts and chunks of others, one of them in two places.
  static std::vector<std::pair<std::int32_t, std::int32_t>> mixed() {
    std::vector<std::pair<std::int32_t, std::int32_t>> rows{{1, 66}};
    for (std::int32_t i = 0; i < 37; ++i) {
      rows.emplace_back(2, i);
    }
    rows.emplace_back(1, 67);
    for (std::int32_t i = 62; i < 70; ++i) {
      rows.emplace_back(0, i);
    }
    return rows;
  }
};

}  // namespace tile_test
