// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <memory>
#include <vector>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/serve/schedule_policies.hpp"
#include "ashlar/serve/schedule_queue.hpp"
#include "ashlar/serve/scheduled.hpp"

namespace ashlar::serve {

/// Continuous batching: sequences join and leave the batch at every step.
///
/// Policies, in any order, of which the first of a line is the default:
/// - prompts: `chunked_prefill<512>`, `whole_prefill<N>`;
/// - who is next and who gives way: `fcfs`, `by_priority`, `shortest_remaining`, `fair_by_tenant`;
/// - how: `preempt_by_recompute`, `preempt_by_swap`, `preempt_forks_by_swap`, `never_preempt`;
/// - phases: `mixed_steps`, `separate_phases`;
/// - batches: `join_at_any_step`, `static_batches`;
/// - admission: `max_sequences<256>`; `delay<0>`; the watermark is the cache's.
/// Source: Orca (Yu et al., 2022); the order of decisions is that of vLLM v1.
template <class... Policies>
struct continuous {
  using choices = detail::schedule_choices<Policies...>;
  static_assert(sizeof(choices) > 0,
                "ashlar::serve::continuous<Policies...>: the policies are checked here");

  template <class Sequence>
  using queue = schedule_queue<Sequence, Policies...>;
};

/// The scheduler of vLLM v1: one budget, no phases, preemption by computing again.
template <int Tokens = 2048, int Sequences = 256>
using vllm_v1 = continuous<chunked_prefill<Tokens>, max_sequences<Sequences>>;

/// The scheduler of vLLM 0.5: prompts or decoding in a step, what has forked is swapped out. For a
/// cache that swaps, `kv::vllm_v0`.
template <int Tokens = 2048, int Sequences = 256>
using vllm_v0 = continuous<whole_prefill<Tokens>, max_sequences<Sequences>, separate_phases,
                           preempt_forks_by_swap>;

namespace detail {
/// What the concept of a schedule asks with.
struct any_sequence : scheduled_sequence<kv::paged<1>> {
  using scheduled_sequence::scheduled_sequence;
  std::int32_t known = 1;
  [[nodiscard]] std::int32_t remaining() const { return known - computed; }
};
}  // namespace detail

/// A policy that decides which sequences run: it names a `queue<Sequence>`.
/// Laws: tests/laws/schedule_policy.hpp.
template <class S>
concept SchedulePolicy = requires(
    typename S::template queue<detail::any_sequence>& queue, kv::block_pool& pool, request_id id,
    std::unique_ptr<detail::any_sequence> s, const detail::any_sequence& one) {
  queue.add(std::move(s));
  { queue.next(pool) } -> std::same_as<schedule<detail::any_sequence>>;
  { queue.next(pool, 0.5) } -> std::same_as<schedule<detail::any_sequence>>;
  { queue.drop(one) } -> std::same_as<std::unique_ptr<detail::any_sequence>>;
  { queue.remove(id) } -> std::same_as<std::vector<std::unique_ptr<detail::any_sequence>>>;
  { queue.empty() } -> std::convertible_to<bool>;
  queue.running();
};

}  // namespace ashlar::serve
