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
  std::int64_t named = 0;  ///< places in the blocks of all tables: what nobody shared would take

  /// The share of the memory in use that holds no token; 0 where none is in use.
  [[nodiscard]] constexpr double waste() const {
    return slots == 0 ? 0.0 : static_cast<double>(slots - held) / static_cast<double>(slots);
  }
  /// The share of blocks that sharing saves; 0 where nothing is shared.
  [[nodiscard]] constexpr double sharing() const {
    return named == 0 ? 0.0 : static_cast<double>(named - slots) / static_cast<double>(named);
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
  usage result{.slots = pool.used() * block_tokens,
               .named = pool.total_references() * block_tokens};
  if (!pool.any_shared()) {
    for (const auto& sequence : sequences) {
      const block_table& table = table_of(sequence);
      result.held += table.tokens() - table.dropped();
    }
    return result;
  }
  std::vector<std::int32_t> filled(static_cast<std::size_t>(pool.size()));
  for (const auto& sequence : sequences) {
    const block_table& table = table_of(sequence);
    std::int32_t left = table.tokens();
    for (const block_id id : table.blocks()) {
      if (!pool.is_null(id)) {
        std::int32_t& most = filled[static_cast<std::size_t>(id)];
        most = std::max(most, std::min(left, block_tokens));
      }
      left -= block_tokens;
    }
  }
  for (const std::int32_t tokens : filled) {
    result.held += tokens;
  }
  return result;
}

/// Checks a pool, and that its blocks' references are those of `sequences`' tables: none is lost,
/// none counted twice.
///
/// Requires: as for `measure`; tables of another pool (swapped out) are passed by.
/// Throws:   `broken_invariant`. Cost: O(blocks + tables' lengths).
template <class Sequences, class TableOf = detail::itself>
void validate(const block_pool& pool, const Sequences& sequences, const TableOf& table_of = {}) {
  const auto require = [](bool holds, const char* rule) {
    if (!holds) {
      throw broken_invariant("ashlar::kv::validate", rule);
    }
  };
  pool.validate();
  std::vector<std::int32_t> held(static_cast<std::size_t>(pool.size()));
  for (const auto& sequence : sequences) {
    const block_table& table = table_of(sequence);
    if (!table.in(pool)) {
      continue;
    }
    require(table.room() >= table.tokens(), "every token has a place");
    require(table.dropped() <= table.tokens(), "no more tokens are dropped than there are");
    std::int64_t position = 0;
    for (const block_id id : table.blocks()) {
      require(id >= 0 && id < pool.size(), "tables hold blocks of the pool");
      require(pool.is_null(id) == (position < table.dropped()),
              "null blocks stand for dropped ones");
      held[static_cast<std::size_t>(id)] += pool.is_null(id) ? 0 : 1;
      position += table.block_tokens();
    }
  }
  for (block_id id = 0; id < pool.size(); ++id) {
    require(held[static_cast<std::size_t>(id)] == pool.references(id),
            "a block has as many references as tables hold it");
  }
}

}  // namespace ashlar::kv
