// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/detail/chooser.hpp"
#include "ashlar/serve/engine_options.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/request.hpp"

namespace ashlar::serve::detail {

/// The text of an engine's sequences, and their results.
class results {
 public:
  /// `options` must outlive it.
  explicit results(const engine_options& options) : options_(options) {}

  std::vector<finished> take() { return std::exchange(finished_, {}); }

  /// The text that output token `at` shows; `reason` becomes `stop_string` where it completes one.
  template <class Sequence>
  std::string stream(Sequence& s, std::span<const token> output, std::size_t at,
                     std::optional<finish_reason>& reason) {
    std::string shown;
    if (reason != finish_reason::eos && reason != finish_reason::stop_token) {
      shown = s.output.stop.push(piece_of(options_.decode, output, at),
                                 static_cast<std::int32_t>(at) >= s.wish.min_tokens);
    }
    if (s.output.stop.stopped()) {
      reason = finish_reason::stop_string;
    } else if (reason) {
      shown += s.output.stop.finish();
    }
    s.output.text += shown;
    return shown;
  }

  /// Ends a sequence.
  template <class Sequence>
  void end(Sequence& s, finish_reason reason, std::exception_ptr error) {
    finished f{
        .id = s.id, .prompt_tokens = s.prompt_tokens, .reason = reason, .error = std::move(error)};
    f.tokens.assign(s.tokens.begin() + s.prompt_tokens, s.tokens.end());
    f.branch = s.branch;
    f.logprobs = std::move(s.output.logprobs);
    f.logprobs.resize(std::min(f.logprobs.size(), f.tokens.size()));
    f.prompt_logprobs = std::move(s.output.prompt_logprobs);
    if (s.output.streams) {
      f.text = s.output.text + s.output.stop.finish();
      finished_.push_back(std::move(f));
    } else {
      add(std::move(f));
    }
  }

  /// Ends a beam search; `first` is one of its sequences.
  template <class Sequence>
  void end_beam(const Sequence& first, beam& search, finish_reason reason,
                const std::exception_ptr& error) {
    search.finish();
    std::vector<hypothesis> best = search.best();
    best.resize(std::max<std::size_t>(best.size(), 1));
    for (std::size_t i = 0; i < best.size(); ++i) {
      finished f{.id = first.id, .prompt_tokens = first.prompt_tokens, .reason = reason};
      f.error = error;
      f.branch = static_cast<std::int32_t>(i);
      f.score = best[i].score;
      f.tokens = std::move(best[i].tokens);
      f.prompt_logprobs = first.output.prompt_logprobs;
      if (reason == finish_reason::length && !f.tokens.empty()) {
        f.reason = ended_by(first, f.tokens.back(), static_cast<std::int32_t>(f.tokens.size()),
                            options_.eos_tokens)
                       .value_or(reason);
      }
      add(std::move(f));
    }
  }

 private:
  /// With its text, where there is a tokenizer.
  void add(finished f) {
    if (options_.decode) {
      const bool ended = f.reason == finish_reason::eos || f.reason == finish_reason::stop_token;
      try {
        f.text = options_.decode(std::span(f.tokens).first(f.tokens.size() - (ended ? 1 : 0)));
      } catch (...) {
        f.reason = finish_reason::error;
        f.error = std::current_exception();
      }
    }
    finished_.push_back(std::move(f));
  }

  const engine_options& options_;
  std::vector<finished> finished_;
};

}  // namespace ashlar::serve::detail
