// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/serve/detail/pick.hpp"
#include "ashlar/serve/sequence.hpp"

namespace ashlar::serve {

/// At most `Tokens` tokens per step; a prompt that does not fit is computed over several steps.
///
/// Source: Sarathi-Serve (Agrawal et al., 2024).
template <int Tokens>
struct chunked_prefill {
  static_assert(Tokens > 0, "ashlar::serve::chunked_prefill<Tokens>: Tokens must be positive");
  static constexpr std::int32_t token_budget = Tokens;
  static constexpr bool splits_prompts = true;
};

/// A prompt is computed in one step whatever its length; further prompts join that step while it
/// stays within `Tokens` tokens.
template <int Tokens>
struct whole_prefill {
  static_assert(Tokens > 0, "ashlar::serve::whole_prefill<Tokens>: Tokens must be positive");
  static constexpr std::int32_t token_budget = Tokens;
  static constexpr bool splits_prompts = false;
};

/// At most `Count` sequences run at once.
template <int Count>
struct max_sequences {
  static_assert(Count > 0, "ashlar::serve::max_sequences<Count>: Count must be positive");
  static constexpr std::size_t sequence_limit = Count;
};

/// A preempted sequence gives back its blocks and is computed again, output included.
struct preempt_by_recompute {
  template <class Sequence>
  static void preempt(Sequence& s) {
    s.table.truncate(0);
    s.computed = 0;
  }
};

template <class P>
concept PrefillPolicy = requires {
  { P::token_budget } -> std::convertible_to<std::int32_t>;
  { P::splits_prompts } -> std::convertible_to<bool>;
};
template <class P>
concept PreemptionPolicy = requires(sequence<kv::paged<1>>& s) { P::preempt(s); };

namespace detail {
template <class P>
struct is_prefill : std::bool_constant<PrefillPolicy<P>> {};
template <class P>
struct is_preemption : std::bool_constant<PreemptionPolicy<P>> {};
template <class P>
    struct is_limit : std::bool_constant < requires {
  P::sequence_limit;
} > {};
}  // namespace detail

/// What a scheduler decided for one step.
template <class Sequence>
struct schedule {
  std::vector<Sequence*> batch;  ///< each with its `scheduled` tokens, and blocks for them
  std::vector<std::unique_ptr<Sequence>> hopeless;  ///< would need more blocks than there are
  std::int64_t preempted = 0;
};

/// Continuous batching: sequences join and leave the batch at every step.
///
/// There are no phases: a step raises the computed tokens of sequences towards their known tokens,
/// running sequences first, in order of arrival, then waiting ones, under one budget of tokens.
/// Where blocks are short, the newest running sequence gives way: it goes to the front of the
/// waiting ones, and nothing waiting is admitted in that step. The decisions depend on the calls
/// alone, never on time.
/// Policies, in any order: `chunked_prefill<N>` (default, 512) or `whole_prefill<N>`,
/// `max_sequences<N>` (256), `preempt_by_recompute`.
/// Source: Orca (Yu et al., 2022); the order of decisions is that of vLLM v1.
template <class... Policies>
struct continuous {
  static_assert(((detail::is_prefill<Policies>::value + detail::is_preemption<Policies>::value +
                      detail::is_limit<Policies>::value ==
                  1) &&
                 ...),
                "ashlar::serve::continuous<Policies...>: a policy must model PrefillPolicy or "
                "PreemptionPolicy, or be max_sequences<N>");
  static_assert(detail::count_of<detail::is_prefill, Policies...> <= 1 &&
                    detail::count_of<detail::is_preemption, Policies...> <= 1 &&
                    detail::count_of<detail::is_limit, Policies...> <= 1,
                "ashlar::serve::continuous<Policies...>: two policies of one kind; keep one");

  using prefill =
      typename detail::pick<detail::is_prefill, chunked_prefill<512>, Policies...>::type;
  using preemption =
      typename detail::pick<detail::is_preemption, preempt_by_recompute, Policies...>::type;
  using limit = typename detail::pick<detail::is_limit, max_sequences<256>, Policies...>::type;

  template <class Sequence>
  class queue;
};

/// The sequences of one engine and the decision which of them run.
template <class... Policies>
template <class Sequence>
class continuous<Policies...>::queue {
 public:
  void add(std::unique_ptr<Sequence> s) { waiting_.push_back(std::move(s)); }

  [[nodiscard]] bool empty() const { return waiting_.empty() && running_.empty(); }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }

  /// Chooses the sequences of the next step and takes blocks for their tokens.
  ///
  /// Returns: a batch that is empty only where no sequence is left.
  template <class Pool>
  schedule<Sequence> next(Pool& pool) {
    schedule<Sequence> plan;
    std::int32_t budget = prefill::token_budget;
    bool has_prompt = false;
    const auto take = [&](Sequence& s, std::int32_t count) {
      plan.batch.push_back(&s);
      s.table.append(count);
      s.scheduled = count;
      budget -= count;
      has_prompt = has_prompt || count > 1;
    };
    for (std::size_t i = 0; i < running_.size() && budget > 0;) {
      Sequence& s = *running_[i];
      if (never_fits(s, pool)) {
        s.table.truncate(0);  // its blocks serve others in this step already
        plan.hopeless.push_back(std::move(running_[i]));
        running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
        continue;
      }
      const std::int32_t count = share(s.remaining(), budget, has_prompt);
      if (count == 0) {
        break;
      }
      while (i < running_.size() && s.table.blocks_needed(count) > pool.free()) {
        preempt_newest();
        ++plan.preempted;
      }
      if (i == running_.size()) {  // it was the newest itself
        break;
      }
      take(s, count);
      ++i;
    }
    while (plan.preempted == 0 && !waiting_.empty() && running_.size() < limit::sequence_limit) {
      Sequence& s = *waiting_.front();
      if (never_fits(s, pool)) {
        plan.hopeless.push_back(std::move(waiting_.front()));
        waiting_.pop_front();
        continue;
      }
      s.reuse();
      const std::int32_t count = share(s.remaining(), budget, has_prompt);
      // The watermark is for those who run: where nobody does, all blocks are there to take.
      const std::int64_t left = running_.empty() ? 0 : pool.watermark();
      if (count == 0 || s.table.blocks_needed(count) + left > pool.free()) {
        preempt_by_recompute::preempt(s);  // what waits holds nothing
        break;
      }
      take(s, count);
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    return plan;
  }

  /// Takes a sequence out, running or waiting.
  ///
  /// Returns: nothing where there is no such sequence.
  std::unique_ptr<Sequence> remove(request_id id) {
    const auto from = [id](auto& sequences) -> std::unique_ptr<Sequence> {
      const auto at = std::ranges::find_if(sequences, [id](const auto& s) { return s->id == id; });
      if (at == sequences.end()) {
        return nullptr;
      }
      auto found = std::move(*at);
      sequences.erase(at);
      return found;
    };
    auto found = from(running_);
    return found ? std::move(found) : from(waiting_);
  }

 private:
  /// To go on, a sequence needs all its tokens in the cache at once.
  template <class Pool>
  static bool never_fits(const Sequence& s, const Pool& pool) {
    return kv::blocks_for(static_cast<std::int64_t>(s.tokens.size()), s.table.block_tokens()) >
           pool.capacity();
  }

  /// How many of a sequence's tokens join a step; 0: none.
  static std::int32_t share(std::int32_t remaining, std::int32_t budget, bool has_prompt) {
    if (budget <= 0) {
      return 0;
    }
    if (prefill::splits_prompts || remaining <= budget) {
      return std::min(remaining, budget);
    }
    return has_prompt ? 0 : remaining;
  }

  void preempt_newest() {
    preemption::preempt(*running_.back());
    waiting_.push_front(std::move(running_.back()));
    running_.pop_back();
  }

  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  std::deque<std::unique_ptr<Sequence>> waiting_;
};

/// A policy that decides which sequences run: it names a `queue<Sequence>`.
/// Laws: tests/laws/schedule_policy.hpp.
template <class S>
concept SchedulePolicy =
    requires(typename S::template queue<sequence<kv::paged<1>>>& queue, kv::block_pool& pool,
             request_id id, std::unique_ptr<sequence<kv::paged<1>>> s) {
      queue.add(std::move(s));
      { queue.next(pool) } -> std::same_as<schedule<sequence<kv::paged<1>>>>;
      { queue.remove(id) } -> std::same_as<std::unique_ptr<sequence<kv::paged<1>>>>;
      { queue.empty() } -> std::convertible_to<bool>;
      queue.running();
    };

}  // namespace ashlar::serve
