// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/sampling.hpp"

/// Speculative decoding: a cheap proposer guesses tokens, the model computes what follows each of
/// them in one step, and what it agrees with is kept.
namespace ashlar::serve {

/// What a proposer is told of a sequence.
struct proposal_context {
  std::uint64_t sequence = 0;     ///< the same number for as long as the text only grows
  std::span<const token> text{};  ///< prompt and output so far; never empty
  std::size_t prompt_tokens = 0;
  const sampling_options* options = nullptr;
  std::uint64_t seed = 0;
};

/// Tokens that may follow a text.
struct proposal {
  std::vector<token> tokens{};
  /// What each was drawn from, in order of ids, its own probability above 0; empty altogether where
  /// nothing was drawn.
  std::vector<std::vector<weighted_token>> drawn_from{};

  void clear() {
    tokens.clear();
    drawn_from.clear();
  }
  /// What draft `i` was drawn from; empty where it was not drawn.
  [[nodiscard]] std::span<const weighted_token> from(std::size_t i) const {
    return drawn_from.empty() ? std::span<const weighted_token>() : drawn_from[i];
  }
};

/// Guesses how texts go on. `propose` adds up to `most` tokens to an empty proposal; `finish` says
/// that a sequence is over. Laws: tests/laws/proposer.hpp. An engine drops what is more than `most`
/// and what follows a token outside the vocabulary.
template <class P>
concept Proposer =
    requires(P& p, const proposal_context& context, int most, proposal& out, std::uint64_t s) {
      { p.propose(context, most, out) } -> std::same_as<void>;
      { p.finish(s) } -> std::same_as<void>;
    };

/// Proposes nothing.
struct no_proposer {
  static void propose(const proposal_context&, int, proposal&) {}
  static void finish(std::uint64_t) {}
};

/// Random numbers of a seed for other purposes than the sampler's own draws.
enum class random_stream : std::uint32_t { accept = 1, replace = 2, draft = 3 };

/// A number in [0, 1) for one position.
constexpr double uniform_of(random_stream stream, std::uint64_t seed, std::uint64_t position) {
  const auto bits =
      philox({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
              static_cast<std::uint32_t>(stream), 0},
             seed);
  const std::uint64_t word = (std::uint64_t{bits[1]} << 32) | bits[0];
  return static_cast<double>(word >> 11) * 0x1p-53;
}

/// Draws from weights that need not add up to 1. Requires: one is above 0; `u` is in [0, 1).
inline token draw(std::span<const weighted_token> weights, double u) {
  double total = 0;
  for (const weighted_token& w : weights) {
    total += w.probability;
  }
  double sum = 0;
  token last = weights.front().id;
  for (const weighted_token& w : weights) {
    sum += w.probability;
    last = w.probability > 0 ? w.id : last;
    if (u * total < sum) {
      return w.id;
    }
  }
  return last;
}

/// What the target has too much of beside the draft's distribution, `max(p - q, 0)`, token by
/// token.
inline std::vector<weighted_token> residual(std::span<const weighted_token> p,
                                            std::span<const weighted_token> q) {
  std::vector<weighted_token> rest;
  auto other = q.begin();
  for (const weighted_token& mine : p) {
    while (other != q.end() && other->id < mine.id) {
      ++other;
    }
    const double less = other != q.end() && other->id == mine.id ? other->probability : 0;
    if (mine.probability > less) {
      rest.push_back({mine.id, mine.probability - less});
    }
  }
  return rest;
}

/// The probability of `t` in a distribution in order of ids.
inline double probability_of(std::span<const weighted_token> distribution, token t) {
  const auto at =
      std::lower_bound(distribution.begin(), distribution.end(), t,
                       [](const weighted_token& w, token wanted) { return w.id < wanted; });
  return at != distribution.end() && at->id == t ? at->probability : 0;
}

struct verdict {
  token chosen;   ///< the draft, or what stands in its place
  bool accepted;  ///< where not, the drafts behind it are void
};

/// Decides about one draft, given the logits of its position.
///
/// Greedy decoding, a draft that was not drawn at random, and a sampler without `distribution`:
/// the sampler chooses as if there were no draft, which is accepted where it is that token; so
/// tokens are those of plain decoding to the bit. A draft that was drawn: it is accepted with
/// probability `min(1, p / q)`, and what replaces it is drawn from the residual, so that tokens are
/// distributed as in plain decoding.
/// A caller goes on to the next draft after an accepted one, and samples one more token when all
/// were.
///
/// Requires: `state.history` ends before the draft, whose probability in `drawn_from` is above 0.
/// Throws:   `bad_logits`; what a mask throws.
/// Source:   Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding"
///           (2023); Chen et al., "Accelerating Large Language Model Decoding" (2023).
template <class Sampler>
verdict verify(Sampler& sample, std::span<const float> logits, token draft,
               std::span<const weighted_token> drawn_from, const sampling_options& options,
               const sampling_state& state) {
  if constexpr (requires {
                  { Sampler::greedy(options) } -> std::same_as<bool>;
                }) {
    if (!drawn_from.empty() && !Sampler::greedy(options)) {
      const auto target = sample.distribution(logits, options, state);
      const double p = probability_of(target, draft);
      const double q = probability_of(drawn_from, draft);
      const std::uint64_t position = state.history.size();
      if (p > 0 && p >= uniform_of(random_stream::accept, state.seed, position) * q) {
        return {draft, true};
      }
      const auto rest = residual(target, drawn_from);
      const double u = uniform_of(random_stream::replace, state.seed, position);
      // Rounding may leave no residual where the two distributions are as good as equal.
      return {draw(rest.empty() ? target : std::span<const weighted_token>(rest), u), false};
    }
  }
  const token chosen = sample(logits, options, state);
  return {chosen, chosen == draft};
}

/// How many drafts are worth while, from how many were accepted lately.
///
/// With a share `a` of drafts accepted, `n` of them give `(1 - a^(n+1)) / (1 - a)` tokens a step
/// for `1 + n * cost`: the best `n` is taken. Where that is none, one is tried every 16th time.
/// Source: the expectation is that of Leviathan et al. (2023).
class draft_length {
 public:
  /// `cost`: of one draft, proposed and verified, in steps of the model.
  ///
  /// Throws: `argument_error` where `most` is negative or `cost` not above 0.
  explicit draft_length(int most, double cost = 0.1) : most_(most), cost_(cost) {
    if (most < 0 || !(cost > 0)) {
      throw argument_error("ashlar::serve::draft_length",
                           "at most " + std::to_string(most) + " drafts at a cost of " +
                               std::to_string(cost) + "; give none or more, and a cost above 0");
    }
  }

  /// Returns: how many to propose now, at most `most`.
  [[nodiscard]] int next() {
    const double a = acceptance();
    double tokens = 1;
    double power = 1;
    double best = 1;
    int length = 0;
    for (int n = 1; n <= most_; ++n) {
      power *= a;
      tokens += power;
      if (const double speed = tokens / (1 + n * cost_); speed > best) {
        best = speed;
        length = n;
      }
    }
    skipped_ = length == 0 ? skipped_ + 1 : 0;
    if (skipped_ == 16) {
      skipped_ = 0;
      return std::min(1, most_);
    }
    return length;
  }

  /// Takes into account that the first `accepted` of `proposed` drafts were accepted.
  void record(int proposed, int accepted) {
    if (proposed > 0) {
      accepted_ = 0.9 * accepted_ + accepted;
      rejected_ = 0.9 * rejected_ + (accepted < proposed ? 1 : 0);
    }
  }
  /// The share of drafts that is expected to be accepted.
  [[nodiscard]] double acceptance() const { return accepted_ / (accepted_ + rejected_); }

 private:
  int most_;
  double cost_;
  double accepted_ = 3;  // a guess of three in four, soon forgotten
  double rejected_ = 1;
  int skipped_ = 0;
};

}  // namespace ashlar::serve
