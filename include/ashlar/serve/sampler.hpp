// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>
#include <vector>

#include "ashlar/core/philox.hpp"
#include "ashlar/serve/detail/weights.hpp"
#include "ashlar/serve/filters.hpp"
#include "ashlar/serve/processors.hpp"
#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

/// A token and how likely it is.
struct weighted_token {
  token id;
  double probability;
};

namespace detail {

template <class... Stages>
inline constexpr bool processors_first = true;
template <class First, class... Rest>
inline constexpr bool processors_first<First, Rest...> =
    LogitsProcessor<First> ? processors_first<Rest...> : (!LogitsProcessor<Rest> && ...);

}  // namespace detail

/// Chooses tokens through `Stages`: processors, which change logits, then filters, which narrow a
/// random choice.
///
/// `state.forbidden` is ruled out whatever the stages are. Greedy decoding takes the largest logit
/// after the processors, of equal ones the lowest id. A
/// random choice uses one number, made from the seed and the position alone, so a request's tokens
/// do not depend on the requests beside it. The order of stages matters, and engines differ in it.
template <class... Stages>
class sampler {
  static_assert(((LogitsProcessor<Stages> || SamplingFilter<Stages>)&&...),
                "ashlar::serve::sampler<Stages...>: a stage must model LogitsProcessor or "
                "SamplingFilter (a filter: `static void apply(std::vector<candidate>&, const "
                "sampling_options&)`)");
  static_assert(detail::processors_first<Stages...>,
                "ashlar::serve::sampler<Stages...>: processors change logits before any filter; "
                "put them first");

 public:
  /// Returns: the token for position `state.history.size()`.
  /// Requires: `options` are valid; the tokens in `state` are smaller than `logits.size()`.
  /// Throws: `bad_logits`; what a mask throws.
  token operator()(std::span<const float> logits, const sampling_options& options,
                   const sampling_state& state) {
    logits = processed(logits, options, state);
    const token best = argmax(logits, state);
    if (greedy(options)) {
      return best;
    }
    weigh(logits, options);
    const double u = philox_uniform(state.seed, state.history.size()) * total_;
    double sum = 0;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      sum += weights_[i];
      if (u < sum) {
        return candidates_[i].id;
      }
    }
    return candidates_.back().id;
  }

  /// What the call above chooses from: tokens in order of their ids with what is above 0 of their
  /// probabilities; a single one where decoding is greedy. Valid until the next call.
  ///
  /// Requires, Throws: as the call above.
  std::span<const weighted_token> distribution(std::span<const float> logits,
                                               const sampling_options& options,
                                               const sampling_state& state) {
    logits = processed(logits, options, state);
    const token best = argmax(logits, state);
    distribution_.clear();
    if (greedy(options)) {
      distribution_.push_back({best, 1});
      return distribution_;
    }
    weigh(logits, options);
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] > 0) {
        distribution_.push_back({candidates_[i].id, weights_[i] / total_});
      }
    }
    return distribution_;
  }

  /// Whether the likeliest token is taken without a random number.
  static bool greedy(const sampling_options& options) { return options.temperature < 1e-5; }

 private:
  template <class Stage>
  static bool wanted(const sampling_options& options, const sampling_state& state) {
    if constexpr (LogitsProcessor<Stage>) {
      return Stage::wanted(options, state);
    }
    return false;
  }
  template <class Stage>
  void process(const sampling_options& options, const sampling_state& state) {
    if constexpr (LogitsProcessor<Stage>) {
      if (Stage::wanted(options, state)) {
        std::get<Stage>(stages_).apply(std::span(processed_), options, state);
      }
    }
  }
  template <class Stage>
  void filter(const sampling_options& options) {
    if constexpr (!LogitsProcessor<Stage>) {
      Stage::apply(candidates_, options);
    }
  }

  std::span<const float> processed(std::span<const float> logits, const sampling_options& options,
                                   const sampling_state& state) {
    if (state.forbidden.empty() && !(wanted<Stages>(options, state) || ...)) {
      return logits;
    }
    processed_.assign(logits.begin(), logits.end());
    (process<Stages>(options, state), ...);
    for (const token t : state.forbidden) {
      processed_[static_cast<std::size_t>(t)] = processors::ruled_out;
    }
    return processed_;
  }

  static token argmax(std::span<const float> logits, const sampling_state& state) {
    // Several at once, which compilers turn into vectors. A NaN is never the larger.
    constexpr std::size_t lanes = 16;
    std::array<float, lanes> best;
    best.fill(-std::numeric_limits<float>::infinity());
    std::array<std::uint32_t, lanes> nan{};
    std::size_t id = 0;
    for (; id + lanes <= logits.size(); id += lanes) {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const float logit = logits[id + lane];
        best[lane] = logit > best[lane] ? logit : best[lane];
        nan[lane] |= logit != logit ? 1u : 0u;
      }
    }
    float most = std::ranges::max(best);
    bool bad = std::ranges::max(nan) != 0;
    for (; id < logits.size(); ++id) {
      most = logits[id] > most ? logits[id] : most;
      bad = bad || std::isnan(logits[id]);
    }
    if (bad || !std::isfinite(most)) {
      throw bad_logits(static_cast<std::int64_t>(state.history.size()));
    }
    return static_cast<token>(std::ranges::find(logits, most) - logits.begin());
  }

  /// Fills `candidates_`, their `weights_` and the `total_` of these.
  void weigh(std::span<const float> logits, const sampling_options& options) {
    candidates_.resize(logits.size());
    std::size_t count = 0;
    for (std::size_t id = 0; id < logits.size(); ++id) {
      candidates_[count] = {static_cast<token>(id), logits[id]};
      count += logits[id] > processors::ruled_out ? 1 : 0;
    }
    candidates_.resize(count);
    (filter<Stages>(options), ...);
    const float most = filters::best_logit(candidates_);
    weights_.resize(candidates_.size());
    total_ = detail::sum_of(candidates_.size(), [&](std::size_t i) {
      return weights_[i] = detail::exp_weight(candidates_[i].logit - most);
    });
  }

  std::tuple<Stages...> stages_;
  std::vector<candidate> candidates_;
  std::vector<float> processed_;
  std::vector<float> weights_;  // by candidate
  std::vector<weighted_token> distribution_;
  double total_ = 0;
};

/// The order of vLLM v1, the default.
using vllm_sampler = sampler<processors::allowed_tokens, processors::mask, processors::bad_words,
                             processors::logit_bias, processors::penalties, filters::temperature,
                             filters::typical, filters::min_p, filters::top_k, filters::top_p>;
/// The order of vLLM 0.5.
using vllm_v0_sampler = sampler<processors::allowed_tokens, processors::mask, processors::bad_words,
                                processors::logit_bias, processors::penalties, filters::temperature,
                                filters::top_k, filters::top_p, filters::typical, filters::min_p>;
/// The order of llama.cpp, whose penalties count the last 64 tokens.
using llama_cpp_sampler =
    sampler<processors::logit_bias, processors::allowed_tokens, processors::mask,
            processors::bad_words, processors::window_penalties<64>, filters::top_k,
            filters::typical, filters::top_p, filters::min_p, filters::temperature>;

}  // namespace ashlar::serve
