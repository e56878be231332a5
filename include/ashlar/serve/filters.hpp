// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <vector>

#include "ashlar/serve/detail/weights.hpp"
#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

/// A token that may still be chosen.
struct candidate {
  token id;
  float logit;
};

/// A stage of random sampling: narrows or rescales the candidates, which stand in order of their
/// ids and are never none. Laws: tests/laws/sampling_filter.hpp.
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

/// How likely a candidate is beside the best one.
inline double weight(const candidate& c, float best) { return detail::exp_weight(c.logit - best); }

/// Keeps the first of `candidates` in the order `before` until their weights add up to `share`; the
/// kept ones are in order of their ids again.
void keep_share(auto& candidates, double share, float best, const auto& before) {
  // A heap in place of a sort: the kept tokens are few.
  const auto later = [&before](const candidate& a, const candidate& b) { return before(b, a); };
  std::ranges::make_heap(candidates, later);
  auto rest = candidates.end();
  double kept = 0;
  while (rest != candidates.begin() && kept < share) {
    std::ranges::pop_heap(candidates.begin(), rest, later);
    --rest;
    kept += weight(*rest, best);
  }
  candidates.erase(candidates.begin(), rest);
  std::ranges::sort(candidates, {}, &candidate::id);
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
    // The k best seen so far, the least of them in front: nearly all others lose to it at once.
    std::vector<float> best(static_cast<std::size_t>(k));
    for (std::size_t i = 0; i < best.size(); ++i) {
      best[i] = candidates[i].logit;
    }
    const std::greater<float> larger;
    std::make_heap(best.begin(), best.end(), larger);
    for (auto c = candidates.begin() + k; c != candidates.end(); ++c) {
      if (c->logit > best.front()) {
        std::pop_heap(best.begin(), best.end(), larger);
        best.back() = c->logit;
        std::push_heap(best.begin(), best.end(), larger);
      }
    }
    const float least = best.front();
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
    const float best = best_logit(candidates);
    const double total = detail::sum_of(candidates.size(),
                                        [&](std::size_t i) { return weight(candidates[i], best); });
    // What is less likely than an equal part of what is to be dropped is among it, all of it.
    const double part =
        0.999 * (1 - options.top_p) * total / static_cast<double>(candidates.size());
    const double least = best + std::log(part);
    std::erase_if(candidates, [least](const candidate& c) { return c.logit < least; });
    keep_share(candidates, options.top_p * total, best, [](const candidate& a, const candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    });
  }
};

/// Keeps the tokens whose surprise is nearest to the expected one until their probabilities add up
/// to `typical_p`; of equally near ones, those with lower ids.
///
/// Source: Meister et al., "Locally Typical Sampling" (2023).
struct typical {
  static void apply(auto& candidates, const sampling_options& options) {
    if (options.typical_p >= 1) {
      return;
    }
    const float best = best_logit(candidates);
    double total = 0;
    double sum = 0;
    for (const candidate& c : candidates) {
      const double w = weight(c, best);
      total += w;
      sum += w > 0 ? w * (c.logit - best) : 0.0;  // 0 times infinity is no number
    }
    // Surprise and its mean, both less the logarithm of `total`.
    const double mean = -sum / total;
    const auto far = [best, mean](const candidate& c) {
      return std::abs(double{best} - c.logit - mean);
    };
    keep_share(candidates, options.typical_p * total, best,
               [&far](const candidate& a, const candidate& b) {
                 const double x = far(a);
                 const double y = far(b);
                 return x != y ? x < y : a.id < b.id;
               });
  }
};

}  // namespace filters

}  // namespace ashlar::serve
