// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

/// A stage of sampling that changes logits, greedy decoding included.
///
/// `wanted` says whether `apply` would do anything: where no processor is wanted, the row of logits
/// is not even copied. A processor may keep memory between calls, but nothing that changes results.
/// Laws: tests/laws/logits_processor.hpp.
template <class P>
concept LogitsProcessor = std::default_initializable<P> &&
                          requires(P& p, std::span<float> logits, const sampling_options& options,
                                   const sampling_state& state) {
                            { P::wanted(options, state) } -> std::convertible_to<bool>;
                            { p.apply(logits, options, state) } -> std::same_as<void>;
                          };

/// Tokens that options and state name must be smaller than `logits.size()`.
namespace processors {

inline constexpr float ruled_out = -std::numeric_limits<float>::infinity();

/// Rules out what is not in `allowed_tokens`.
class allowed_tokens {
 public:
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return !o.allowed_tokens.empty();
  }
  void apply(std::span<float> logits, const sampling_options& o, const sampling_state&) {
    if (o.allowed_tokens.empty()) {
      return;
    }
    kept_.clear();
    for (const token t : o.allowed_tokens) {
      kept_.push_back(logits[static_cast<std::size_t>(t)]);
    }
    std::ranges::fill(logits, ruled_out);
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      logits[static_cast<std::size_t>(o.allowed_tokens[i])] = kept_[i];
    }
  }

 private:
  std::vector<float> kept_;
};

/// Rules out the last token of each of `bad_words` whose other tokens have just been generated.
struct bad_words {
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return !o.bad_words.empty();
  }
  static void apply(std::span<float> logits, const sampling_options& o, const sampling_state& s) {
    const auto output = s.generated();
    for (const std::vector<token>& word : o.bad_words) {
      if (!word.empty() && word.size() <= output.size() + 1 &&
          std::ranges::equal(output.last(word.size() - 1),
                             std::span(word).first(word.size() - 1))) {
        logits[static_cast<std::size_t>(word.back())] = ruled_out;
      }
    }
  }
};

/// Rules out what `mask` does not allow after the tokens generated so far.
///
/// Throws: `argument_error` where the mask is for another vocabulary; what `mask` throws.
struct mask {
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return static_cast<bool>(o.mask);
  }
  static void apply(std::span<float> logits, const sampling_options& o, const sampling_state& s) {
    const token_mask* const allowed = o.mask ? o.mask(s.generated()) : nullptr;
    if (allowed == nullptr) {
      return;
    }
    if (allowed->vocabulary() != std::ssize(logits)) {
      throw argument_error("ashlar::serve::processors::mask",
                           "the mask is for " + std::to_string(allowed->vocabulary()) +
                               " tokens, there are " + std::to_string(logits.size()) + " logits");
    }
    const auto words = allowed->words();
    for (std::size_t id = 0; id < logits.size(); ++id) {
      logits[id] = ((words[id / 64] >> (id % 64)) & 1) != 0 ? logits[id] : ruled_out;
    }
  }
};

struct logit_bias {
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return !o.logit_bias.empty();
  }
  static void apply(std::span<float> logits, const sampling_options& o, const sampling_state&) {
    for (const token_bias& b : o.logit_bias) {
      logits[static_cast<std::size_t>(b.token)] += std::clamp(b.bias, -100.0F, 100.0F);
    }
  }
};

namespace detail {

/// Repetition, frequency and presence, for tokens that somebody counts.
class penalizer {
 public:
  static bool wanted(const sampling_options& o) {
    return o.repetition_penalty != 1 || o.frequency_penalty != 0 || o.presence_penalty != 0;
  }
  /// Tokens are in `seen`; those of its last `output` count for frequency and presence.
  void apply(std::span<float> logits, const sampling_options& o, std::span<const token> seen,
             std::size_t output) {
    if (!wanted(o)) {
      return;
    }
    if (counts_.size() < logits.size()) {
      counts_.resize(logits.size());
    }
    for (std::size_t i = 0; i < seen.size(); ++i) {
      std::int32_t& count = counts_[static_cast<std::size_t>(seen[i])];
      if (count == 0) {
        touched_.push_back(seen[i]);
        count = 1;
      }
      count += i + output >= seen.size() ? 1 : 0;
    }
    const auto repetition = static_cast<float>(o.repetition_penalty);
    for (const token t : touched_) {
      float& logit = logits[static_cast<std::size_t>(t)];
      const std::int32_t count = std::exchange(counts_[static_cast<std::size_t>(t)], 0) - 1;
      logit = logit > 0 ? logit / repetition : logit * repetition;
      if (count > 0) {
        logit -= static_cast<float>(o.frequency_penalty * count + o.presence_penalty);
      }
    }
    touched_.clear();
  }

 private:
  std::vector<std::int32_t> counts_;  // by token: 0, or 1 and the times it is in the output
  std::vector<token> touched_;        // those that are not 0
};

}  // namespace detail

/// Divides positive logits by `repetition_penalty` and multiplies others, for tokens of prompt and
/// output; subtracts `frequency_penalty` per occurrence in the output and `presence_penalty` once.
///
/// Cost: O(history), whatever the vocabulary.
class penalties {
 public:
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return detail::penalizer::wanted(o);
  }
  void apply(std::span<float> logits, const sampling_options& o, const sampling_state& s) {
    penalizer_.apply(logits, o, s.history, s.generated().size());
  }

 private:
  detail::penalizer penalizer_;
};

/// As `penalties`, but all three count the last `Tokens` tokens, of prompt or output.
template <int Tokens>
class window_penalties {
  static_assert(Tokens > 0,
                "ashlar::serve::processors::window_penalties<Tokens>: Tokens must be "
                "positive");

 public:
  static bool wanted(const sampling_options& o, const sampling_state&) {
    return detail::penalizer::wanted(o);
  }
  void apply(std::span<float> logits, const sampling_options& o, const sampling_state& s) {
    const auto window = s.history.last(std::min<std::size_t>(s.history.size(), Tokens));
    penalizer_.apply(logits, o, window, window.size());
  }

 private:
  detail::penalizer penalizer_;
};

}  // namespace processors

}  // namespace ashlar::serve
