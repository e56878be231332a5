// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"

namespace ashlar::kv {

/// How much of the key-value memory in use holds tokens.
struct usage {
  std::int64_t slots = 0;  ///< places for tokens in blocks that are in use
  std::int64_t held = 0;   ///< those that hold a token; a shared one counts once

  /// The share of the memory in use that holds no token; 0 where none is in use.
  [[nodiscard]] constexpr double waste() const {
    return slots == 0 ? 0.0 : static_cast<double>(slots - held) / static_cast<double>(slots);
  }
  friend constexpr bool operator==(const usage&, const usage&) = default;
};

namespace detail {
struct itself {
  const auto& operator()(const auto& x) const { return x; }
};
}  // namespace detail

/// Measures the tables of one pool.
///
/// Requires: `table_of(item)` for the items of `sequences` are all tables of `pool`, with
///           `block_tokens`.
/// Cost: O(tables); O(blocks) where blocks are shared.
template <class Sequences, class TableOf = detail::itself>
usage measure(const block_pool& pool, std::int32_t block_tokens, const Sequences& sequences,
              const TableOf& table_of = {}) {
  usage result{.slots = pool.used() * block_tokens};
  if (!pool.any_shared()) {
    for (const auto& sequence : sequences) {
      const block_table& table = table_of(sequence);
      result.held += table.tokens();
    }
    return result;
  }
  std::vector<std::int32_t> filled(static_cast<std::size_t>(pool.capacity()));
  for (const auto& sequence : sequences) {
    const block_table& table = table_of(sequence);
    std::int32_t left = table.tokens();
    for (const block_id id : table.blocks()) {
      std::int32_t& most = filled[static_cast<std::size_t>(id)];
      most = std::max(most, std::min(left, block_tokens));
      left -= block_tokens;
    }
  }
  for (const std::int32_t tokens : filled) {
    result.held += tokens;
  }
  return result;
}

}  // namespace ashlar::kv
