// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

/// The largest of each; of the penalty in size.
struct beam_limits {
  static constexpr int width = 1 << 20;
  static constexpr double length_penalty = 100;
};

struct beam_options {
  int width = 4;              ///< texts that go on at once, and results; at most 2^20
  double length_penalty = 1;  ///< scores are divided by the length to this power; [-100, 100]
  std::int32_t max_tokens = 16;
  std::vector<token> eos_tokens{};  ///< these end a text; none: all texts have `max_tokens`
};

/// A text of a beam search, without the prompt.
struct hypothesis {
  std::vector<token> tokens{};  ///< the one that ended it included
  double logprob = 0;           ///< of all its tokens
  double score = 0;             ///< see `beam::score`
};

/// The texts of a beam search: which go on, which are over, which are the best.
///
/// Knows nothing of models or memory: it takes logits and says which text goes on from which. Each
/// live text proposes its `2 * width` likeliest tokens; what ends with an end-of-text token is
/// complete, and the `width` likeliest of the others live on. Of equals the one whose parent comes
/// first wins, then the lowest token. It is over when nothing lives, or no live text can come to
/// score better than the `width` best complete ones.
/// Source: as in vLLM v1 (whose search has no such early end; the results are the same).
class beam {
 public:
  /// A live text, in terms of the live ones before.
  struct step {
    std::size_t parent;
    serve::token token;
  };

  /// Throws: `argument_error` where a number is out of range.
  beam(beam_options options, std::int64_t prompt_tokens)
      : options_(std::move(options)), prompt_tokens_(prompt_tokens), live_(1) {
    if (options_.width < 1 || options_.width > beam_limits::width || options_.max_tokens < 1 ||
        prompt_tokens < 1 || !(std::abs(options_.length_penalty) <= beam_limits::length_penalty)) {
      throw argument_error(
          "ashlar::serve::beam",
          "width " + std::to_string(options_.width) + ", max_tokens " +
              std::to_string(options_.max_tokens) + ", prompt of " + std::to_string(prompt_tokens) +
              ", length_penalty " + std::to_string(options_.length_penalty) +
              "; give at least 1 of the first three, a width of at most 2^20, and a "
              "penalty from -100 to 100");
    }
  }

  /// The texts that go on; one without tokens at first.
  [[nodiscard]] const std::vector<hypothesis>& live() const { return live_; }
  [[nodiscard]] bool over() const { return live_.empty(); }

  /// The log probability of a text by its length, with the prompt and without an end-of-text token,
  /// to the power of the penalty.
  [[nodiscard]] double score(const hypothesis& h) const {
    return h.logprob / power(std::ssize(h.tokens) - (ended(h) ? 1 : 0));
  }

  /// What the text with this row of logits may go on with, none of `never`; for `advance`.
  ///
  /// Requires: `logits` are not empty, and the search is not over.
  /// Throws:   `bad_logits`.
  [[nodiscard]] std::vector<token_logprob> continuations(std::span<const float> logits,
                                                         std::span<const token> never = {}) const {
    const int most = 2 * options_.width;
    auto found = logprobs_of(logits, 0, most + static_cast<int>(never.size())).top;
    if (!std::isfinite(found.front().logprob)) {
      throw bad_logits(prompt_tokens_ + std::ssize(live_.front().tokens));
    }
    std::erase_if(found, [never](const token_logprob& t) {
      return std::isinf(t.logprob) || std::ranges::count(never, t.token) != 0;
    });
    found.resize(std::min(found.size(), static_cast<std::size_t>(most)));
    return found;
  }

  /// One token more for all live texts.
  ///
  /// Requires: `next[i]` is what `continuations` gave for live text `i`.
  /// Returns: where the texts that live now come from, by their place.
  std::vector<step> advance(std::span<const std::vector<token_logprob>> next) {
    std::vector<hypothesis> all;
    std::vector<step> from;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      for (const token_logprob& t : next[i]) {
        hypothesis h = live_[i];
        h.tokens.push_back(t.token);
        h.logprob += t.logprob;
        h.score = score(h);
        if (ended(h)) {
          complete(std::move(h));
        } else {
          all.push_back(std::move(h));
          from.push_back({i, t.token});
        }
      }
    }
    std::vector<std::size_t> order(all.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return all[a].logprob != all[b].logprob   ? all[a].logprob > all[b].logprob
             : from[a].parent != from[b].parent ? from[a].parent < from[b].parent
                                                : from[a].token < from[b].token;
    });
    order.resize(std::min(order.size(), static_cast<std::size_t>(options_.width)));
    live_.clear();
    std::vector<step> steps;
    for (const std::size_t i : order) {
      live_.push_back(std::move(all[i]));
      steps.push_back(from[i]);
    }
    if (!live_.empty() && std::ssize(live_.front().tokens) >= options_.max_tokens) {
      finish();
    } else if (!live_.empty() && decided()) {
      live_.clear();
    }
    if (live_.empty()) {
      steps.clear();
    }
    return steps;
  }

  /// Gives up: texts that are live are complete as they are, if they have a token.
  void finish() {
    for (hypothesis& h : live_) {
      if (!h.tokens.empty()) {
        complete(std::move(h));
      }
    }
    live_.clear();
  }

  /// The complete texts, the best first, of equal ones the one that was complete first; at most
  /// `width`.
  [[nodiscard]] const std::vector<hypothesis>& best() const { return complete_; }

 private:
  [[nodiscard]] double power(std::int64_t generated) const {
    return std::pow(static_cast<double>(prompt_tokens_ + generated), options_.length_penalty);
  }
  [[nodiscard]] bool ended(const hypothesis& h) const {
    return !h.tokens.empty() && std::ranges::count(options_.eos_tokens, h.tokens.back()) != 0;
  }
  /// Puts a text behind those that are as good, and drops the last of more than `width`.
  void complete(hypothesis&& h) {
    const auto at =
        std::upper_bound(complete_.begin(), complete_.end(), h.score,
                         [](double score, const hypothesis& other) { return score > other.score; });
    complete_.insert(at, std::move(h));
    if (std::ssize(complete_) > options_.width) {
      complete_.pop_back();
    }
  }
  /// Log probabilities are 0 or less and only fall, so a live text scores at best what it has now,
  /// over the largest divisor that it can come to.
  [[nodiscard]] bool decided() const {
    if (std::ssize(complete_) < options_.width) {
      return false;
    }
    const double divisor =
        std::max(power(std::ssize(live_.front().tokens)), power(options_.max_tokens));
    return live_.front().logprob / divisor <= complete_.back().score;
  }

  beam_options options_;
  std::int64_t prompt_tokens_;
  std::vector<hypothesis> live_;
  std::vector<hypothesis> complete_;
};

}  // namespace ashlar::serve
