// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/sampling.hpp"
#include "ashlar/serve/step.hpp"

namespace ashlar::serve {

/// Thrown where a request cannot be served as written; the engine is as it was.
struct invalid_request final : error {
  std::string field;   ///< of `request` or `sampling_options`
  std::string reason;  ///< what it holds and what it may hold

  invalid_request(std::string name, std::string why,
                  std::source_location where = std::source_location::current())
      : error(where), field(std::move(name)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::serve::request: " + field + " " + reason;
  }
};

/// What a caller asks of an engine. `prompt` or `tokens` must be given.
struct request {
  std::string prompt{};         ///< text, for an engine that has a tokenizer
  std::vector<token> tokens{};  ///< used in place of `prompt` where not empty
  std::int32_t max_tokens = 16;
  std::int32_t min_tokens = 0;  ///< until then nothing ends the text
  sampling_options sampling{};
  std::vector<token> stop_tokens{};
  bool ignore_eos = false;  ///< go on after the end-of-text token
  /// Weights added to the model's, for a model that has some of this name (`kv::AdaptedModel`).
  /// Only requests of the same adapter share what a prefix cache knows.
  std::string adapter{};
  std::string cache_salt{};   ///< only requests of the same salt share what a prefix cache knows
  std::int32_t priority = 0;  ///< lower ones go first, where the schedule asks (`by_priority`)
  std::uint32_t tenant = 0;   ///< whose it is, where the schedule asks (`fair_by_tenant`)
  /// The text ends before the first of these; for an engine that has a tokenizer.
  std::vector<std::string> stop_strings{};
  bool keep_stop_string = false;         ///< the text ends behind it
  std::optional<int> logprobs{};         ///< of chosen tokens, and of so many of the likeliest
  std::optional<int> prompt_logprobs{};  ///< the same of the prompt's tokens, but the first
  std::int32_t n = 1;                    ///< completions; they share the blocks of the prompt
  /// 1 or more: a beam search for so many texts in place of sampling, without what constrains or
  /// reweighs tokens. Its tokens are known when it ends; stop tokens count as end of text.
  std::int32_t beam_width = 0;
  double length_penalty = 1;  ///< see `beam_options`
};

/// Why a request is over. The first three are the ways to stop.
enum class finish_reason : std::uint8_t {
  eos,          ///< the model ended the text
  stop_token,   ///< one of `request::stop_tokens` was generated
  stop_string,  ///< one of `request::stop_strings` is complete
  length,       ///< `max_tokens`, or the model's context is full
  aborted,      ///< `engine::abort`
  ignored,      ///< the cache can never hold the prompt; see `finished::error`
  error         ///< see `finished::error`
};

/// A request that is over, or one of its completions.
struct finished {
  request_id id = 0;
  std::int64_t prompt_tokens = 0;
  std::vector<token> tokens{};  ///< generated; those that ended the text included
  std::string text{};           ///< without what ended it; empty where there is no tokenizer
  finish_reason reason = finish_reason::length;
  /// `ignored` and `error` only: `kv::out_of_blocks`, `bad_logits`, or what `decode` threw.
  std::exception_ptr error{};
  std::int32_t branch = 0;                    ///< which completion; of a beam search the best is 0
  std::vector<position_logprobs> logprobs{};  ///< by token, where asked for
  std::vector<position_logprobs> prompt_logprobs{};  ///< entry `i` is of token `i + 1`
  double score = 0;                                  ///< of a beam search, see `beam::score`
};

/// Checks a request whose prompt is in `tokens`.
///
/// Throws: `invalid_request` naming the first field that is wrong.
inline void validate(const request& r, std::int64_t vocabulary, std::int64_t context_length) {
  const auto check = [](bool holds, const char* field, auto value, const char* range) {
    if (!holds) {
      throw invalid_request(field, "is " + std::to_string(value) + "; it must be " + range);
    }
  };
  const auto check_tokens = [vocabulary](const std::vector<token>& tokens, const char* field) {
    for (const token t : tokens) {
      if (t < 0 || t >= vocabulary) {
        throw invalid_request(field, "hold token " + std::to_string(t) + "; the vocabulary has " +
                                         std::to_string(vocabulary));
      }
    }
  };
  if (r.tokens.empty()) {
    throw invalid_request("tokens", "are empty; a prompt has at least one token");
  }
  if (static_cast<std::int64_t>(r.tokens.size()) >= context_length) {
    throw invalid_request("tokens",
                          "are " + std::to_string(r.tokens.size()) + "; the model's context of " +
                              std::to_string(context_length) + " must hold them and one more");
  }
  check_tokens(r.tokens, "tokens");
  check_tokens(r.stop_tokens, "stop_tokens");
  check(r.max_tokens >= 1, "max_tokens", r.max_tokens, "at least 1");
  check(r.min_tokens >= 0 && r.min_tokens <= r.max_tokens, "min_tokens", r.min_tokens,
        "from 0 to max_tokens");
  check(r.n >= 1, "n", r.n, "at least 1");
  check(r.beam_width >= 0 && r.beam_width <= beam_limits::width, "beam_width", r.beam_width,
        "0, or the number of texts, at most 2^20");
  check(r.beam_width == 0 || (r.n == 1 && r.stop_strings.empty() && !r.logprobs), "beam_width",
        r.beam_width, "0 where completions, stop strings or log probabilities are asked for");
  const sampling_options& s = r.sampling;
  check(r.beam_width == 0 ||
            (!s.mask && s.allowed_tokens.empty() && s.bad_words.empty() && s.logit_bias.empty() &&
             s.repetition_penalty == 1 && s.frequency_penalty == 0 && s.presence_penalty == 0),
        "beam_width", r.beam_width,
        "0 where a mask, allowed tokens, bad words, biases or penalties are asked for");
  check(std::abs(r.length_penalty) <= beam_limits::length_penalty, "length_penalty",
        r.length_penalty, "from -100 to 100");
  check(r.logprobs.value_or(0) >= 0, "logprobs", r.logprobs.value_or(0), "0 or more");
  check(r.prompt_logprobs.value_or(0) >= 0, "prompt_logprobs", r.prompt_logprobs.value_or(0),
        "0 or more");
  for (const std::string& stop : r.stop_strings) {
    if (stop.empty()) {
      throw invalid_request("stop_strings", "hold an empty one; leave it out");
    }
  }
  check(s.temperature >= 0 && std::isfinite(s.temperature), "sampling.temperature", s.temperature,
        "0 or more, and finite");
  check(s.top_k >= -1, "sampling.top_k", s.top_k, "positive, or 0 or -1 for all");
  check(s.top_p > 0 && s.top_p <= 1, "sampling.top_p", s.top_p, "above 0 and at most 1");
  check(s.min_p >= 0 && s.min_p <= 1, "sampling.min_p", s.min_p, "from 0 to 1");
  check(s.typical_p > 0 && s.typical_p <= 1, "sampling.typical_p", s.typical_p,
        "above 0 and at most 1");
  const auto penalty = static_cast<float>(s.repetition_penalty);  // as logits are divided by it
  check(penalty >= 1e-6F && penalty <= 1e6F, "sampling.repetition_penalty", s.repetition_penalty,
        "from 1e-6 to 1e6");
  check(std::abs(s.frequency_penalty) <= 2, "sampling.frequency_penalty", s.frequency_penalty,
        "from -2 to 2");
  check(std::abs(s.presence_penalty) <= 2, "sampling.presence_penalty", s.presence_penalty,
        "from -2 to 2");
  check_tokens(s.allowed_tokens, "sampling.allowed_tokens");
  for (const token_bias& b : s.logit_bias) {
    check_tokens({b.token}, "sampling.logit_bias");
    check(!std::isnan(b.bias), "sampling.logit_bias", b.bias, "a number");
  }
  for (const std::vector<token>& word : s.bad_words) {
    check_tokens(word, "sampling.bad_words");
    check(!word.empty(), "sampling.bad_words", 0, "sequences of one token at least");
  }
}

}  // namespace ashlar::serve
