// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"

namespace ashlar::kv {

/// A refinement of `paged`: it names the type of paged cache that it makes out of another one.
///
/// `P::apply<Base>` derives from `Base` and may replace `pool`, `table` and what else it changes.
template <class P, class Base>
concept PagedPolicy = requires { typename P::template apply<Base>; } &&
                      std::derived_from<typename P::template apply<Base>, Base>;

/// In place of a number of tokens: each pool says its own (`pool_options::block_tokens`).
inline constexpr int at_run_time = -1;

namespace detail {

template <int BlockTokens>
struct plain_pages {
  static constexpr std::int32_t block_tokens = BlockTokens;
  using pool = block_pool;
  using table = block_table;
};

template <class Base, class... Policies>
struct layered : std::type_identity<Base> {};
template <class Base, class First, class... Rest>
struct layered<Base, First, Rest...> {
  static_assert(PagedPolicy<First, Base>,
                "ashlar::kv::paged<BlockTokens, Policies...>: a policy must model PagedPolicy "
                "(a member template `apply<Base>` that derives from Base)");
  using type = typename layered<typename First::template apply<Base>, Rest...>::type;
};

}  // namespace detail

/// What an engine needs to know of a cache: its block size, and the types that manage blocks.
template <class C>
concept CachePolicy = requires {
  typename C::pool;
  typename C::table;
  { C::block_tokens } -> std::convertible_to<std::int32_t>;
} && std::constructible_from<typename C::table, typename C::pool&, std::int32_t>;

/// Tokens per block of a cache `C` whose pool has these options.
template <class C>
constexpr std::int32_t block_tokens_of(const pool_options& options) {
  return C::block_tokens == at_run_time ? options.block_tokens : std::int32_t{C::block_tokens};
}

/// Key-value memory in blocks of `BlockTokens` tokens, which a sequence takes as it grows.
/// `at_run_time` leaves the number to each pool.
///
/// Source: PagedAttention (Kwon et al., 2023).
template <int BlockTokens, class... Policies>
struct paged : detail::layered<detail::plain_pages<BlockTokens>, Policies...>::type {
  static_assert(BlockTokens > 0 || BlockTokens == at_run_time,
                "ashlar::kv::paged<BlockTokens>: a block must hold at least one token");
};

/// One block of `MaxTokens` tokens per sequence: what a cache without pages costs.
template <int MaxTokens, class... Policies>
using contiguous = paged<MaxTokens, Policies...>;

}  // namespace ashlar::kv
