// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/prefix_cache.hpp"
#include "ashlar/serve/request.hpp"

namespace ashlar::serve {

/// A request on its way through an engine.
template <kv::CachePolicy Cache>
struct sequence {
  static constexpr bool remembers =
      requires(typename Cache::table& t, std::span<const token> known, kv::prefix_scope scope) {
        t.adopt(known, scope);
        t.publish(known, scope);
      };

  sequence(request_id number, request&& asked, std::uint64_t random_seed,
           typename Cache::pool& pool)
      : id(number),
        wish(std::move(asked)),
        tokens(std::move(wish.tokens)),
        prompt_tokens(static_cast<std::int32_t>(tokens.size())),
        seed(random_seed),
        table(pool, Cache::block_tokens) {}

  /// Tokens whose keys and values are not in the cache yet.
  [[nodiscard]] std::int32_t remaining() const {
    return static_cast<std::int32_t>(tokens.size()) - computed;
  }
  [[nodiscard]] std::int32_t generated() const {
    return static_cast<std::int32_t>(tokens.size()) - prompt_tokens;
  }

  /// Begins with what the cache still knows of the tokens, where it is one that remembers.
  void reuse() {
    if constexpr (remembers) {
      if (table.blocks().empty()) {
        computed = table.adopt(tokens, {.salt = wish.cache_salt});
      }
    }
  }
  /// Leaves what is computed to those who come.
  void publish() {
    if constexpr (remembers) {
      table.publish(std::span(tokens).first(static_cast<std::size_t>(computed)),
                    {.salt = wish.cache_salt});
    }
  }

  request_id id;
  request wish;
  std::vector<token> tokens;  ///< prompt, then output
  std::int32_t prompt_tokens;
  std::uint64_t seed;
  typename Cache::table table;
  std::int32_t computed = 0;   ///< tokens in the cache
  std::int32_t scheduled = 0;  ///< tokens of the step that is being made
};

}  // namespace ashlar::serve
