// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/serve/step.hpp"

/// What a scheduler knows of the sequences that it schedules.
namespace ashlar::serve {

/// What of a request matters to a scheduler.
struct scheduling {
  request_id id = 0;
  /// Prompt and output at their longest; the scheduler that never preempts relies on it.
  std::int32_t most_tokens = std::numeric_limits<std::int32_t>::max();
  std::int32_t branches = 1;  ///< sequences that it may fork into, the first one included
  std::int32_t priority = 0;  ///< lower ones go first, see `by_priority`
  std::uint32_t tenant = 0;   ///< whose it is, see `fair_by_tenant`
  double arrival = 0;         ///< in seconds of the clock that `next` is given, see `delay`
};

/// A sequence as a scheduler sees it; one's own type derives from this and says how many of its
/// tokens are not in the cache yet (`remaining`).
template <kv::CachePolicy Cache>
struct scheduled_sequence : scheduling {
  scheduled_sequence(const scheduling& asked, typename Cache::pool& pool)
      : scheduling(asked), table(pool, kv::block_tokens_of<Cache>(pool.options())) {}
  scheduled_sequence(const scheduling& asked, typename Cache::table&& held)
      : scheduling(asked), table(std::move(held)) {}

  typename Cache::table table;
  std::int32_t branch = 0;     ///< counts the sequences of one request
  std::int32_t computed = 0;   ///< tokens in the cache
  std::int32_t scheduled = 0;  ///< tokens of the step that is being made, drafts included
  /// Proposals that stand behind the known tokens and are to be computed with them. Who proposes
  /// sets it before `next`, which lowers it to how many are among `scheduled`.
  std::int32_t drafts = 0;
  std::int32_t lookahead = 0;  ///< places to hold ready behind a step's tokens, where there are any

 protected:
  /// The same sequence once more, its blocks shared.
  [[nodiscard]] scheduled_sequence twin() const
    requires requires(const typename Cache::table& t) { t.fork(); }
  {
    scheduled_sequence other(*this, table.fork());
    other.computed = computed;
    other.lookahead = lookahead;
    return other;
  }
};

/// What `SchedulePolicy`'s queues can hold.
template <class S>
concept Schedulable = std::derived_from<S, scheduling> && requires(S& s, const S& known) {
  { known.remaining() } -> std::convertible_to<std::int32_t>;
  { known.table.blocks_needed(1, 1) } -> std::convertible_to<std::int64_t>;
  { s.computed } -> std::same_as<std::int32_t&>;
  { s.scheduled } -> std::same_as<std::int32_t&>;
  { s.drafts } -> std::same_as<std::int32_t&>;
  { s.lookahead } -> std::same_as<std::int32_t&>;
  { s.branch } -> std::same_as<std::int32_t&>;
  s.table.append(1, 1);
  s.table.truncate(0);
};

/// Takes into account that a sequence's step is computed.
///
/// Requires: the first `scheduled - rejected` of its tokens are known by now: accepted drafts are
///           no drafts any more.
/// Effects:  gives back the places of rejected drafts and what stood ready behind them, and blocks
///           before a window; names full blocks, where the cache has names.
template <Schedulable S>
void advance(S& s, std::int32_t rejected = 0) {
  s.computed += s.scheduled - rejected;
  s.scheduled = 0;
  s.drafts = 0;
  if (rejected > 0) {
    s.table.truncate(s.computed);
  }
  if constexpr (requires { s.publish(); }) {
    s.publish();
  }
  if constexpr (requires { s.table.slide(); }) {
    s.table.slide();
  }
}

/// Takes back a sequence's step that was not computed.
template <Schedulable S>
void rewind(S& s) {
  s.table.truncate(s.computed);
  s.scheduled = 0;
  s.drafts = 0;
}

/// Where a request is. One that is over has left its scheduler.
enum class request_state : std::uint8_t {
  waiting,    ///< not begun
  running,    ///< in each step, as the budget allows
  swapped,    ///< gave way; its blocks are in the host's memory
  preempted,  ///< gave way; what it had is computed again
};

/// The sequences of one request. They run and give way together.
template <class Sequence>
struct request_group {
  std::vector<std::unique_ptr<Sequence>> branches;
  request_state state = request_state::waiting;
  /// Branches behind the first have lost their blocks and share its beginning when it is computed.
  bool rejoins = false;
  std::int32_t common = 0;  ///< first tokens that are the same in all branches
  std::int32_t next_branch = 1;
  std::uint64_t number = 0;         ///< counts arrivals
  std::uint64_t entry = 0;          ///< counts admissions
  std::size_t place = 0;            ///< in its line
  std::int64_t* account = nullptr;  ///< of its tenant, where the order keeps one

  [[nodiscard]] Sequence& first() const { return *branches.front(); }
  /// For how many sequences it counts.
  [[nodiscard]] std::size_t width() const {
    return std::max(branches.size(), static_cast<std::size_t>(std::max(1, first().branches)));
  }
};

}  // namespace ashlar::serve
