// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/prefix_cache.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/scheduled.hpp"

namespace ashlar::serve {

/// One of the sequences of a request on its way through an engine.
template <kv::CachePolicy Cache>
struct sequence : scheduled_sequence<Cache> {
  static constexpr bool remembers =
      requires(typename Cache::table& t, std::span<const token> known, kv::prefix_scope scope) {
        t.adopt(known, scope);
        t.publish(known, scope);
      };

  static constexpr bool shares = requires(const typename Cache::table& t) { t.fork(); };

  sequence(const scheduling& asked, request&& what, std::uint64_t random_seed,
           typename Cache::pool& pool)
      : scheduled_sequence<Cache>(asked, pool),
        wish(std::move(what)),
        tokens(std::move(wish.tokens)),
        prompt_tokens(static_cast<std::int32_t>(tokens.size())),
        seed(random_seed) {}

  /// Tokens whose keys and values are not in the cache yet.
  [[nodiscard]] std::int32_t remaining() const {
    return static_cast<std::int32_t>(tokens.size()) - this->computed;
  }
  [[nodiscard]] std::int32_t generated() const {
    return static_cast<std::int32_t>(tokens.size()) - prompt_tokens;
  }

  /// A second sequence with the same tokens, of one scheduler's request: in the same blocks. Where
  /// tables only grow, in those full blocks that the cache knows, and computes the others again.
  /// As in `reuse`, what stands before a window is given back at once.
  [[nodiscard]] sequence fork() const
    requires(shares || remembers)
  {
    if constexpr (shares) {
      return sequence(*this, this->twin());
    } else {
      scheduled_sequence<Cache> other(*this, this->table.again(tokens, scope()));
      other.computed = other.table.tokens();
      give_back(other.table);
      other.lookahead = this->lookahead;
      return sequence(*this, std::move(other));
    }
  }

  /// Begins with what the cache still knows of the tokens, where it is one that remembers. Who
  /// wants log probabilities of the prompt computes all of it, until there is output. Behind a
  /// window only that is kept which the next token sees: a beginning may fill the pool.
  void reuse() {
    if constexpr (remembers) {
      if (this->table.blocks().empty() && (!wish.prompt_logprobs || generated() > 0)) {
        this->computed = this->table.adopt(tokens, scope());
        give_back(this->table);
      }
    }
  }
  /// Leaves what is computed to those who come.
  void publish() {
    if constexpr (remembers) {
      this->table.publish(std::span(tokens).first(static_cast<std::size_t>(this->computed)),
                          scope());
    }
  }

  /// What must be equal for blocks to be shared.
  [[nodiscard]] kv::prefix_scope scope() const {
    return {.adapter = wish.adapter, .salt = wish.cache_salt};
  }

  request wish;
  std::vector<token> tokens;  ///< prompt, then output
  std::int32_t prompt_tokens;
  std::uint64_t seed;
  generation output{};

 private:
  static void give_back(auto& table) {
    if constexpr (requires { table.slide(); }) {
      table.slide();
    }
  }
  sequence(const sequence& other, scheduled_sequence<Cache>&& twin)
      : scheduled_sequence<Cache>(std::move(twin)),
        wish(other.wish),
        tokens(other.tokens),
        prompt_tokens(other.prompt_tokens),
        seed(other.seed),
        output(other.output) {
    tokens.reserve(other.tokens.capacity());
  }
};

}  // namespace ashlar::serve
