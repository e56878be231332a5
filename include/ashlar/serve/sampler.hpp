// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/serve/request.hpp"

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

/// A token that may still be chosen.
struct candidate {
  token id;
  float logit;
};

/// One stage of sampling: narrows or rescales the candidates, which stand in order of their ids
/// and are never none. Laws: tests/laws/sampling_filter.hpp.
template <class F>
concept SamplingFilter =
    requires(std::vector<candidate>& candidates, const sampling_options& options) {
      { F::apply(candidates, options) } -> std::same_as<void>;
    };

/// Each is a template, so that a file that samples nothing does not compile sorts and heaps.
namespace filters {

float best_logit(const auto& candidates) {
  float best = candidates.front().logit;
  for (const candidate& c : candidates) {
    best = std::max(best, c.logit);
  }
  return best;
}

/// Divides the logits by the temperature, but never by less than 0.01.
struct temperature {
  static void apply(auto& candidates, const sampling_options& options) {
    const auto t = static_cast<float>(std::max(options.temperature, 0.01));
    const float best = best_logit(candidates);
    for (candidate& c : candidates) {
      c.logit = (c.logit - best) / t;  // at most 0, so that no division overflows upwards
    }
  }
};

/// Drops what is less likely than `min_p` times the likeliest.
struct min_p {
  static void apply(auto& candidates, const sampling_options& options) {
    if (options.min_p <= 0) {
      return;
    }
    const double least = best_logit(candidates) + std::log(options.min_p);
    std::erase_if(candidates, [least](const candidate& c) { return c.logit < least; });
  }
};

/// Keeps the `top_k` likeliest and all that tie with the last of them.
struct top_k {
  static void apply(auto& candidates, const sampling_options& options) {
    const auto k = static_cast<std::ptrdiff_t>(options.top_k);
    if (k <= 0 || k >= std::ssize(candidates)) {
      return;
    }
    std::vector<float> logits(candidates.size());
    std::ranges::transform(candidates, logits.begin(), &candidate::logit);
    std::ranges::nth_element(logits, logits.begin() + (k - 1), std::ranges::greater{});
    const float least = logits[static_cast<std::size_t>(k - 1)];
    std::erase_if(candidates, [least](const candidate& c) { return c.logit < least; });
  }
};

/// Keeps the fewest likeliest tokens whose probabilities add up to `top_p`; of equal ones, those
/// with lower ids.
struct top_p {
  static void apply(auto& candidates, const sampling_options& options) {
    if (options.top_p >= 1) {
      return;
    }
    const double best = best_logit(candidates);
    double total = 0;
    for (const candidate& c : candidates) {
      total += std::exp(c.logit - best);
    }
    // A heap in place of a sort: the kept tokens are few and the vocabulary is large.
    const auto less_likely = [](const candidate& a, const candidate& b) {
      return a.logit != b.logit ? a.logit < b.logit : a.id > b.id;
    };
    std::ranges::make_heap(candidates, less_likely);
    auto rest = candidates.end();
    double kept = 0;
    while (rest != candidates.begin() && kept < options.top_p * total) {
      std::ranges::pop_heap(candidates.begin(), rest, less_likely);
      --rest;
      kept += std::exp(rest->logit - best);
    }
    candidates.erase(candidates.begin(), rest);
    std::ranges::sort(candidates, {}, &candidate::id);
  }
};

}  // namespace filters

/// What a sampler must know besides logits and options.
struct sampling_state {
  std::span<const token> history;    ///< prompt and output so far
  std::span<const token> forbidden;  ///< tokens that may not be chosen now
  std::uint64_t seed = 0;
};

/// Chooses tokens: forbidden tokens, repetition penalty, then greedily or through `Filters`.
///
/// Greedy decoding takes the largest logit, of equal ones the lowest id. A random choice uses one
/// number, made from the seed and the position alone, so a request's tokens do not depend on the
/// requests beside it. The order of the filters matters, and engines differ in it.
template <class... Filters>
class sampler {
  static_assert((SamplingFilter<Filters> && ...),
                "ashlar::serve::sampler<Filters...>: a filter must model SamplingFilter "
                "(`static void apply(std::vector<candidate>&, const sampling_options&)`)");

 public:
  /// Returns: the token for position `state.history.size()`.
  /// Requires: `options` are valid; the tokens in `state` are smaller than `logits.size()`.
  /// Throws: `bad_logits`.
  token operator()(std::span<const float> logits, const sampling_options& options,
                   const sampling_state& state) {
    if (options.repetition_penalty != 1 || !state.forbidden.empty()) {
      logits = adjusted(logits, options, state);
    }
    const token best = argmax(logits, state);
    if (options.temperature < 1e-5) {
      return best;
    }
    candidates_.clear();
    for (std::size_t id = 0; id < logits.size(); ++id) {
      if (logits[id] > -std::numeric_limits<float>::infinity()) {
        candidates_.push_back({static_cast<token>(id), logits[id]});
      }
    }
    (Filters::apply(candidates_, options), ...);
    return draw(philox_uniform(state.seed, state.history.size()));
  }

 private:
  std::span<const float> adjusted(std::span<const float> logits, const sampling_options& options,
                                  const sampling_state& state) {
    adjusted_.assign(logits.begin(), logits.end());
    if (options.repetition_penalty != 1) {
      seen_.assign(logits.size(), false);
      const auto penalty = static_cast<float>(options.repetition_penalty);
      for (const token t : state.history) {
        const auto at = static_cast<std::size_t>(t);
        if (!seen_[at]) {
          seen_[at] = true;
          float& logit = adjusted_[at];
          logit = logit > 0 ? logit / penalty : logit * penalty;
        }
      }
    }
    for (const token t : state.forbidden) {
      adjusted_[static_cast<std::size_t>(t)] = -std::numeric_limits<float>::infinity();
    }
    return adjusted_;
  }

  static token argmax(std::span<const float> logits, const sampling_state& state) {
    float best = -std::numeric_limits<float>::infinity();
    std::size_t at = 0;
    bool nan = false;
    for (std::size_t id = 0; id < logits.size(); ++id) {
      nan = nan || std::isnan(logits[id]);
      if (logits[id] > best) {
        best = logits[id];
        at = id;
      }
    }
    if (nan || !std::isfinite(best)) {
      throw bad_logits(static_cast<std::int64_t>(state.history.size()));
    }
    return static_cast<token>(at);
  }

  [[nodiscard]] token draw(double u) const {
    const double best = filters::best_logit(candidates_);
    double total = 0;
    for (const candidate& c : candidates_) {
      total += std::exp(c.logit - best);
    }
    double sum = 0;
    for (const candidate& c : candidates_) {
      sum += std::exp(c.logit - best);
      if (u * total < sum) {
        return c.id;
      }
    }
    return candidates_.back().id;
  }

  std::vector<candidate> candidates_;
  std::vector<float> adjusted_;
  std::vector<bool> seen_;
};

/// The order of vLLM v1, the default.
using vllm_sampler = sampler<filters::temperature, filters::min_p, filters::top_k, filters::top_p>;
/// The order of llama.cpp.
using llama_cpp_sampler =
    sampler<filters::top_k, filters::top_p, filters::min_p, filters::temperature>;

}  // namespace ashlar::serve
