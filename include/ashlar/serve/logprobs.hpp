// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

struct token_logprob {
  serve::token token;
  double logprob;
  friend bool operator==(const token_logprob&, const token_logprob&) = default;
};

/// How likely a token was, and what else was likely in its place.
struct position_logprobs {
  token_logprob chosen;
  std::int64_t rank = 1;             ///< 1 and how many tokens were likelier
  std::vector<token_logprob> top{};  ///< the likeliest first, of equal ones the lowest id
};

/// The logarithm of the sum of all exponentials: logits less this are log probabilities.
///
/// Requires: at least one logit is finite, none is NaN or +infinity.
inline double log_total(std::span<const float> logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float l : logits) {
    total += std::exp(l - best);
  }
  return best + std::log(total);
}

/// Log probabilities of a row of logits, for `chosen` and the `top` likeliest.
///
/// Requires: as `log_total`; `chosen` is in the vocabulary, `top >= 0`.
/// Cost:     O(V + top log V).
inline position_logprobs logprobs_of(std::span<const float> logits, token chosen, int top = 0) {
  const double total = log_total(logits);
  const float mine = logits[static_cast<std::size_t>(chosen)];
  position_logprobs result{.chosen = {chosen, mine - total}};
  result.rank += std::count_if(logits.begin(), logits.end(), [mine](float l) { return l > mine; });
  const auto before = [](const token_logprob& a, const token_logprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  // The best so far, the last of them in front; in order of ids, so a later equal one loses.
  const std::size_t wanted = std::min(static_cast<std::size_t>(top), logits.size());
  auto& best = result.top;
  for (std::size_t id = 0; wanted > 0 && id < logits.size(); ++id) {
    const token_logprob here{static_cast<token>(id), logits[id] - total};
    if (best.size() == wanted) {
      if (!before(here, best.front())) {
        continue;
      }
      std::pop_heap(best.begin(), best.end(), before);
      best.pop_back();
    }
    best.push_back(here);
    std::push_heap(best.begin(), best.end(), before);
  }
  std::sort_heap(best.begin(), best.end(), before);
  return result;
}

/// Log probabilities of a prompt: entry `i` is of `tokens[i + 1]`, after the tokens before it.
///
/// Shapes:   `logits`: (tokens - 1 or more, V), row `i` is what follows token `i`.
/// Requires: as `logprobs_of`, for every row.
inline std::vector<position_logprobs> prompt_logprobs(std::span<const float> logits,
                                                      std::span<const token> tokens,
                                                      std::int64_t vocabulary, int top = 0) {
  std::vector<position_logprobs> result;
  const auto width = static_cast<std::size_t>(vocabulary);
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    result.push_back(logprobs_of(logits.subspan(i * width, width), tokens[i + 1], top));
  }
  return result;
}

}  // namespace ashlar::serve
