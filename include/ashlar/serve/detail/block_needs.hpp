// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/swap.hpp"
#include "ashlar/serve/scheduled.hpp"

/// How many blocks requests hold and need.
namespace ashlar::serve::detail {

/// Places to hold ready behind the tokens of `s` in this step.
template <class Sequence>
std::int32_t reserve(const Sequence& s, bool bare) {
  return !bare && s.scheduled > 0 && s.scheduled >= s.remaining() ? s.lookahead : 0;
}

template <class Sequence>
std::vector<kv::block_table*> tables_of(const request_group<Sequence>& g) {
  std::vector<kv::block_table*> tables;
  for (const auto& s : g.branches) {
    tables.push_back(&s->table);
  }
  return tables;
}

/// Distinct blocks that a request's tokens are in.
template <class Sequence>
std::int64_t held(const request_group<Sequence>& g) {
  return kv::swap_space::blocks_needed(tables_of(g));
}

/// Free blocks that a request's share takes, its tables being those of `home`; `bare`: without
/// lookahead.
template <class Sequence>
std::int64_t needed(const request_group<Sequence>& g, const kv::block_pool& home, bool bare) {
  if (g.branches.size() == 1) {
    const Sequence& s = g.first();
    return s.table.blocks_needed(s.scheduled, reserve(s, bare));
  }
  std::int64_t count = 0;
  std::vector<kv::block_id> ends;  // half-filled blocks that are written to
  for (const auto& s : g.branches) {
    const auto& table = s->table;
    count += table.blocks_needed(s->scheduled, reserve(*s, bare));
    if (s->scheduled > 0 && table.tokens() % table.block_tokens() != 0) {
      const kv::block_id end =
          table.blocks()[static_cast<std::size_t>(table.tokens() / table.block_tokens())];
      ends.push_back(end);
      // Who writes last, when all others have their copies, writes to the block itself.
      const std::int32_t holders = home.references(end);
      const bool last = holders > 1 && !home.kept(end) && std::ranges::count(ends, end) == holders;
      count -= last ? 1 : 0;
    }
  }
  return count;
}

/// Whether one sequence has more tokens than the pool has places: to go on, it needs all of them in
/// the cache at once, but for what a window leaves out.
template <class Sequence>
bool never_fits(const request_group<Sequence>& g, const kv::block_pool& pool) {
  if constexpr (requires(Sequence& s) { s.table.slide(); }) {
    return false;
  } else {
    return std::ranges::any_of(g.branches, [&pool](const auto& s) {
      return kv::blocks_for(std::int64_t{s->computed} + s->remaining(), s->table.block_tokens()) >
             pool.capacity();
    });
  }
}

}  // namespace ashlar::serve::detail
