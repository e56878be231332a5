// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/serve/detail/pick.hpp"
#include "ashlar/serve/queue_order.hpp"

/// The choices of `continuous`, each a small type.
namespace ashlar::serve {

/// At most `Tokens` tokens per step; a prompt that does not fit is computed over several steps, and
/// no step has more than `Longest` tokens of one prompt.
///
/// Source: Sarathi-Serve (Agrawal et al., 2024); the second number is vLLM's
///         `long_prefill_token_threshold`.
template <int Tokens, int Longest = Tokens>
struct chunked_prefill {
  static_assert(Tokens > 0 && Longest > 0,
                "ashlar::serve::chunked_prefill<Tokens, Longest>: both must be positive");
  static constexpr std::int32_t token_budget = Tokens;
  static constexpr std::int32_t longest_chunk = Longest;
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

/// At most `Count` sequences run at once; a request counts for all that it may fork into.
template <int Count>
struct max_sequences {
  static_assert(Count > 0, "ashlar::serve::max_sequences<Count>: Count must be positive");
  static constexpr std::size_t sequence_limit = Count;
};

/// What becomes of the blocks of a request that gives way.
enum class preemption : std::uint8_t {
  recompute,  ///< given back; all tokens are computed again, output included
  swap,       ///< moved to the host's memory and back; where that is full, as `recompute`
  never       ///< who comes in has all the blocks that they can come to need
};

struct preempt_by_recompute {
  static constexpr preemption of(std::size_t /*branches*/) { return preemption::recompute; }
};
/// Needs a cache with `kv::swap_to_host`.
struct preempt_by_swap {
  static constexpr preemption of(std::size_t /*branches*/) { return preemption::swap; }
};
/// Swaps what has forked and would be dear to compute, as vLLM v0; needs `kv::swap_to_host`.
struct preempt_forks_by_swap {
  static constexpr preemption of(std::size_t branches) {
    return branches > 1 ? preemption::swap : preemption::recompute;
  }
};
/// Nobody gives way: a request comes in when `scheduling::most_tokens` of it and of all who run fit
/// together, nothing shared.
///
/// Source: TensorRT-LLM's "guaranteed no evict".
struct never_preempt {
  static constexpr preemption of(std::size_t /*branches*/) { return preemption::never; }
};

/// Who runs and who comes in share a step.
struct mixed_steps {
  static constexpr bool separates_phases = false;
};
/// A step computes prompts of newcomers or goes on with who runs, newcomers first, as vLLM v0.
struct separate_phases {
  static constexpr bool separates_phases = true;
};

/// Requests come in when all who ran are done: what continuous batching is measured against.
struct static_batches {
  static constexpr bool joins_running = false;
};
struct join_at_any_step {
  static constexpr bool joins_running = true;
};

/// Newcomers wait until the next in line has waited for `Thousandths` / 1000 times the last
/// prompts' step, so that more of them come in together.
///
/// Source: vLLM v0's `delay_factor`.
template <int Thousandths>
struct delay {
  static_assert(Thousandths >= 0, "ashlar::serve::delay<Thousandths>: must not be negative");
  static constexpr double delay_factor = Thousandths / 1000.0;
};

template <class P>
concept PrefillPolicy = requires {
  { P::token_budget } -> std::convertible_to<std::int32_t>;
  { P::splits_prompts } -> std::convertible_to<bool>;
};
template <class P>
concept PreemptionPolicy = requires {
  { P::of(std::size_t{}) } -> std::same_as<preemption>;
};
template <class P>
concept QueueOrder = OrderFor<P, request_group<scheduled_sequence<kv::paged<1>>>>;

namespace detail {

template <class P>
struct is_prefill : std::bool_constant<PrefillPolicy<P>> {};
template <class P>
struct is_preemption : std::bool_constant<PreemptionPolicy<P>> {};
template <class P>
struct is_order : std::bool_constant<QueueOrder<P>> {};
// clang-format off
template <class P>
struct is_limit : std::bool_constant<requires { P::sequence_limit; }> {};
template <class P>
struct is_phases : std::bool_constant<requires { P::separates_phases; }> {};
template <class P>
struct is_joining : std::bool_constant<requires { P::joins_running; }> {};
template <class P>
struct is_delay : std::bool_constant<requires { P::delay_factor; }> {};
// clang-format on

template <class P>
inline constexpr int schedule_kinds =
    is_prefill<P>::value + is_preemption<P>::value + is_order<P>::value + is_limit<P>::value +
    is_phases<P>::value + is_joining<P>::value + is_delay<P>::value;

/// One policy of each kind out of a list.
template <class... P>
struct schedule_choices {
  static_assert(((schedule_kinds<P> == 1) && ...),
                "ashlar::serve::continuous<Policies...>: a policy must model PrefillPolicy, "
                "PreemptionPolicy or QueueOrder, or be max_sequences<N>, mixed_steps, "
                "separate_phases, static_batches or delay<N>");
  static_assert(count_of<is_prefill, P...> <= 1 && count_of<is_preemption, P...> <= 1 &&
                    count_of<is_order, P...> <= 1 && count_of<is_limit, P...> <= 1 &&
                    count_of<is_phases, P...> <= 1 && count_of<is_joining, P...> <= 1 &&
                    count_of<is_delay, P...> <= 1,
                "ashlar::serve::continuous<Policies...>: two policies of one kind; keep one");

  using prefill = typename pick<is_prefill, chunked_prefill<512>, P...>::type;
  using preempting = typename pick<is_preemption, preempt_by_recompute, P...>::type;
  using order = typename pick<is_order, fcfs, P...>::type;
  using limit = typename pick<is_limit, max_sequences<256>, P...>::type;
  using phases = typename pick<is_phases, mixed_steps, P...>::type;
  using joining = typename pick<is_joining, join_at_any_step, P...>::type;
  using delaying = typename pick<is_delay, delay<0>, P...>::type;
  static_assert(!(phases::separates_phases && prefill::splits_prompts),
                "ashlar::serve::continuous<Policies...>: separate_phases computes prompts whole; "
                "take whole_prefill<N>");

  static constexpr std::int32_t longest_chunk = [] {
    if constexpr (requires { prefill::longest_chunk; }) {
      return std::int32_t{prefill::longest_chunk};
    } else {
      return std::numeric_limits<std::int32_t>::max();
    }
  }();
};

}  // namespace detail

}  // namespace ashlar::serve
