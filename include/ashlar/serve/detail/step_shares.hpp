// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "ashlar/serve/scheduled.hpp"

namespace ashlar::serve::detail {

/// How the tokens of one step are shared out: sets `scheduled` and `drafts` of sequences.
template <class Choices>
struct step_shares {
  std::int32_t budget = Choices::prefill::token_budget;  ///< tokens that are left
  bool has_prompt = false;  ///< more than one token of some sequence is in the step

  /// Sets `scheduled` and `drafts` of a request's sequences within the budget.
  ///
  /// Returns: all of its tokens; 0 where it has no part in this step.
  template <class Sequence>
  std::int32_t choose(request_group<Sequence>& g) const {
    if (g.branches.size() == 1) {
      return share(g.first());
    }
    if constexpr (requires(const Sequence& s) { s.fork(); }) {
      return share_branches(g);
    } else {
      return 0;
    }
  }

  template <class Sequence>
  static void unchoose(request_group<Sequence>& g) {
    for (const auto& s : g.branches) {
      s->scheduled = 0;
    }
  }

  /// Counts what a sequence got.
  template <class Sequence>
  void count(const Sequence& s) {
    budget -= s.scheduled;
    has_prompt = has_prompt || s.scheduled - s.drafts > 1;
  }

 private:
  template <class Sequence>
  std::int32_t share(Sequence& s) const {
    const std::int32_t remaining = s.remaining();
    std::int32_t count = remaining;
    if constexpr (Choices::prefill::splits_prompts) {
      count = std::min({remaining, budget, Choices::longest_chunk});
    } else if (remaining > budget && has_prompt) {
      count = 0;
    }
    s.drafts = count < remaining || count == 0 ? 0 : std::clamp(budget - count, 0, s.drafts);
    s.scheduled = count + s.drafts;
    return s.scheduled;
  }

  /// Branches get to the end of their tokens in one step, all of them: a beam compares.
  template <class Sequence>
  std::int32_t share_branches(request_group<Sequence>& g) const {
    if (g.rejoins) {
      if (g.first().computed < g.common) {
        return share_beginning(g);
      }
      for (std::size_t i = 1; i < g.branches.size(); ++i) {
        Sequence& s = *g.branches[i];
        if constexpr (requires { s.table.fork(); }) {
          s.table = g.first().table.fork();
          s.table.truncate(g.common);
          s.computed = g.common;
        } else {
          s.reuse();
        }
      }
      g.rejoins = false;
    }
    std::int64_t remaining = 0;
    for (const auto& s : g.branches) {
      remaining += s->remaining();
    }
    const bool whole = remaining <= budget || (!Choices::prefill::splits_prompts && !has_prompt);
    std::int32_t left = budget;
    std::int32_t count = 0;
    for (const auto& s : g.branches) {
      s->drafts = whole ? std::clamp<std::int32_t>(static_cast<std::int32_t>(budget - remaining), 0,
                                                   s->drafts)
                        : 0;
      s->scheduled = whole ? s->remaining() + s->drafts
                     : Choices::prefill::splits_prompts
                         ? std::clamp(std::min(s->remaining() - 1, Choices::longest_chunk), 0, left)
                         : 0;
      remaining += s->drafts;
      left -= s->scheduled;
      count += s->scheduled;
    }
    return count;
  }
  /// Up to what all branches have in common, which the others then take from the first.
  template <class Sequence>
  std::int32_t share_beginning(request_group<Sequence>& g) const {
    for (const auto& branch : g.branches) {
      branch->scheduled = 0;
      branch->drafts = 0;
    }
    Sequence& s = g.first();
    s.scheduled = g.common - s.computed;
    if constexpr (Choices::prefill::splits_prompts) {
      s.scheduled = std::min({s.scheduled, budget, Choices::longest_chunk});
    } else if (s.scheduled > budget && has_prompt) {
      s.scheduled = 0;
    }
    return s.scheduled;
  }
};

}  // namespace ashlar::serve::detail
