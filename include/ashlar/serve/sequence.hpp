// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ashlar/kv/paged.hpp"
#include "ashlar/serve/request.hpp"

namespace ashlar::serve {

/// A request on its way through an engine.
template <kv::CachePolicy Cache>
struct sequence {
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
