// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/serve/step.hpp"

namespace ashlar::serve {

/// Thrown where logits hold a NaN or +infinity, or leave no token to choose.
struct bad_logits final : error {
  std::int64_t position;  ///< of the token that was to be chosen, counted from the prompt's first

  explicit bad_logits(std::int64_t at, std::source_location where = std::source_location::current())
      : error(where), position(at) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::serve::sampler: no token can be chosen for position " +
           std::to_string(position) +
           "; the model's logits hold a NaN or an infinity, or every token is ruled out";
  }
};

/// Which tokens of a vocabulary may be chosen: a bit per token.
class token_mask {
 public:
  /// Requires: `vocabulary >= 0`.
  explicit token_mask(std::int64_t vocabulary, bool allowed = false)
      : words_(static_cast<std::size_t>((vocabulary + 63) / 64), allowed ? ~std::uint64_t{0} : 0),
        vocabulary_(vocabulary) {
    if (allowed && vocabulary % 64 != 0) {
      words_.back() >>= 64 - vocabulary % 64;
    }
  }

  /// Requires, as the next two: `0 <= t < vocabulary()`.
  void allow(token t) { words_[word(t)] |= bit(t); }
  void forbid(token t) { words_[word(t)] &= ~bit(t); }
  [[nodiscard]] bool allows(token t) const { return (words_[word(t)] & bit(t)) != 0; }

  [[nodiscard]] std::int64_t vocabulary() const { return vocabulary_; }
  /// How many tokens are allowed.
  [[nodiscard]] std::int64_t count() const {
    std::int64_t sum = 0;
    for (const std::uint64_t w : words_) {
      sum += std::popcount(w);
    }
    return sum;
  }
  /// Token `t` is bit `t % 64` of word `t / 64`; bits behind the vocabulary are 0.
  [[nodiscard]] std::span<const std::uint64_t> words() const { return words_; }

  friend bool operator==(const token_mask&, const token_mask&) = default;

 private:
  static std::size_t word(token t) { return static_cast<std::size_t>(t) / 64; }
  static std::uint64_t bit(token t) { return std::uint64_t{1} << (static_cast<unsigned>(t) % 64); }

  std::vector<std::uint64_t> words_;
  std::int64_t vocabulary_;
};

/// Constrained decoding: which tokens may follow what was generated so far.
///
/// The answer, null for "any", is read before the next call. It must depend on the tokens alone:
/// after a preemption or a rejected draft the same question is asked again.
using mask_source = std::function<const token_mask*(std::span<const token> generated)>;

/// Added to a token's logit.
struct token_bias {
  serve::token token;
  float bias;  ///< cut to [-100, 100]
};

/// How the next token is chosen. The defaults are greedy decoding.
struct sampling_options {
  double temperature = 0;         ///< 0 or more; below 1e-5: greedy, and the next four do nothing
  int top_k = 0;                  ///< keep the `top_k` best and what ties with them; 0, -1: all
  double top_p = 1;               ///< keep the best that add up to this probability; (0, 1]
  double min_p = 0;               ///< drop what is below this share of the best one's; [0, 1]
  double typical_p = 1;           ///< keep the least surprising that add up to this; (0, 1]
  double repetition_penalty = 1;  ///< [1e-6, 1e6]; for every token of prompt and output
  double frequency_penalty = 0;   ///< [-2, 2]; for each time that a token is in the output
  double presence_penalty = 0;    ///< [-2, 2]; for every token of the output
  std::optional<std::uint64_t> seed{};  ///< by default made from the engine's seed and the id
  std::vector<token_bias> logit_bias{};
  std::vector<token> allowed_tokens{};          ///< no others are chosen; empty: all are allowed
  std::vector<std::vector<token>> bad_words{};  ///< sequences that the output will not hold
  mask_source mask{};
};

/// What a sampler must know besides logits and options.
struct sampling_state {
  std::span<const token> history{};  ///< prompt and output so far
  std::span<const token>
      forbidden{};  ///< not to be chosen now: what would end a text before `min_tokens`
  std::uint64_t seed = 0;
  std::size_t prompt_tokens = 0;  ///< how many of `history` are the prompt

  [[nodiscard]] std::span<const token> generated() const { return history.subspan(prompt_tokens); }
};

}  // namespace ashlar::serve
