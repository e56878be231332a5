// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/detail/outcome.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/sampling.hpp"
#include "ashlar/serve/speculative.hpp"

namespace ashlar::serve::detail {

/// Whether token `t` ends a text that it makes `generated` tokens long.
template <class Sequence>
std::optional<finish_reason> ended_by(const Sequence& s, token t, std::int32_t generated,
                                      std::span<const token> eos_tokens) {
  const bool may_end = generated >= s.wish.min_tokens;
  if (may_end && !s.wish.ignore_eos && std::ranges::count(eos_tokens, t) != 0) {
    return finish_reason::eos;
  }
  if (may_end && std::ranges::count(s.wish.stop_tokens, t) != 0) {
    return finish_reason::stop_token;
  }
  if (s.prompt_tokens + generated >= s.most_tokens) {
    return finish_reason::length;
  }
  return std::nullopt;
}

/// Turns rows of logits into tokens for an engine.
template <class Sampler, bool Speculates>
class chooser {
 public:
  explicit chooser(std::vector<token> eos_tokens) : eos_tokens_(std::move(eos_tokens)) {}

  /// What follows a sequence, and its accepted drafts: `logits` has a row for each of them.
  /// Whatever is thrown here ends this request only.
  template <class Sequence>
  void choose(const Sequence& s, outcome& o, std::span<const float> logits, std::size_t width,
              const beam* search) try {
    if (search != nullptr) {
      o.continuations = search->continuations(logits, forbidden(s, s.generated()));
      return;
    }
    std::span<const token> history = s.tokens;
    if (o.drafts > 0) {
      history_ = s.tokens;
      const auto& drafts = s.output.drafts.tokens;
      history_.insert(history_.end(), drafts.begin(), drafts.begin() + o.drafts);
      history = history_;
    }
    const sampling_options& wish = s.wish.sampling;
    sampling_state state{.seed = s.seed,
                         .prompt_tokens = static_cast<std::size_t>(s.prompt_tokens)};
    const auto note = [&](std::span<const float> row, token t) {
      if (s.wish.logprobs) {
        o.logprobs.push_back(logprobs_of(row, t, *s.wish.logprobs));
      }
    };
    for (std::int32_t i = 0; i <= o.drafts; ++i) {
      const auto row = logits.subspan(static_cast<std::size_t>(i) * width, width);
      state.history = history.first(s.tokens.size() + static_cast<std::size_t>(i));
      state.forbidden = forbidden(s, s.generated() + i);
      verdict v{0, false};
      if constexpr (Speculates) {
        if (i < o.drafts) {
          const auto at = static_cast<std::size_t>(i);
          v = verify(sampler_, row, s.output.drafts.tokens[at], s.output.drafts.from(at), wish,
                     state);
        }
      }
      if (i == o.drafts) {
        v.chosen = sampler_(row, wish, state);
      }
      o.tokens.push_back(v.chosen);
      o.accepted += v.accepted ? 1 : 0;
      note(row, v.chosen);
      if (!v.accepted || ended_by(s, v.chosen, s.generated() + i + 1, eos_tokens_)) {
        break;
      }
    }
    if (s.generated() == 0) {
      for (std::int32_t b = 1; b < s.wish.n; ++b) {
        state.seed = branch_seed(s.seed, static_cast<std::uint64_t>(b));
        o.siblings.push_back(sampler_(logits, wish, state));
        note(logits, o.siblings.back());
      }
    }
  } catch (...) {
    if (s.generated() == 0) {  // some of its completions alone would not be what was asked for
      o.tokens.clear();
      o.siblings.clear();
      o.logprobs.clear();
    }
    o.error = std::current_exception();
  }

 private:
  /// What may not be chosen as output token `index`.
  template <class Sequence>
  std::span<const token> forbidden(const Sequence& s, std::int32_t index) {
    forbidden_.clear();
    if (index < s.wish.min_tokens) {
      forbidden_ = s.wish.stop_tokens;
      if (!s.wish.ignore_eos) {
        forbidden_.insert(forbidden_.end(), eos_tokens_.begin(), eos_tokens_.end());
      }
    }
    return forbidden_;
  }

  std::vector<token> eos_tokens_;
  Sampler sampler_;
  std::vector<token> forbidden_;
  std::vector<token> history_;
};

}  // namespace ashlar::serve::detail
