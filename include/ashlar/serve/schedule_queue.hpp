// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/usage.hpp"
#include "ashlar/serve/detail/block_needs.hpp"
#include "ashlar/serve/detail/step_shares.hpp"
#include "ashlar/serve/schedule_policies.hpp"
#include "ashlar/serve/scheduled.hpp"

namespace ashlar::serve {

/// What a scheduler decided for one step.
template <class Sequence>
struct schedule {
  std::vector<Sequence*> batch;  ///< each with its `scheduled` tokens, and blocks for them
  /// What the owner of the memory copies before the step writes, in this order.
  std::vector<kv::block_copy> copies;
  std::vector<std::unique_ptr<Sequence>> hopeless;  ///< would need more blocks than there are
  std::vector<request_id> copied;                   ///< whose blocks `copies` moves
  std::int64_t preempted = 0;                       ///< requests, swapped out or not
};

struct schedule_statistics {
  std::int64_t steps = 0;
  std::int64_t admitted = 0;     ///< newcomers
  std::int64_t resumed = 0;      ///< after a preemption, by computing again
  std::int64_t recomputed = 0;   ///< preemptions that gave blocks back
  std::int64_t swapped_out = 0;  ///< preemptions that moved blocks
  std::int64_t swapped_in = 0;
  std::int64_t blocks_swapped = 0;  ///< both ways
  std::int64_t blocks_copied = 0;   ///< before writes to shared blocks
  std::int64_t forks = 0;
  std::int64_t hopeless = 0;     ///< sequences
  std::size_t most_running = 0;  ///< requests
  std::size_t most_waiting = 0;
};

/// The requests of one engine and the decision which of them run: the queue of `continuous`.
///
/// There are no phases unless asked for: a step raises the computed tokens of sequences towards
/// their known tokens, running ones first, in order of admission, then swapped ones, then waiting
/// ones, under one budget of tokens. Where blocks are short, drafts and lookahead are left out,
/// then somebody gives way, and nobody comes in in that step. Requests that fork run and give way
/// as one. The decisions depend on the calls alone. One class, because every way from state to
/// state moves the same blocks, places and counts.
///
/// Requires: the pool outlives the queue and what it hands out.
/// Cost:     O(running) for a step, O(log waiting) for what comes and goes; with a prefix cache
///           also O(tokens) to look up the beginning of the next in line, in each step in which it
///           finds no room.
template <Schedulable Sequence, class... Policies>
class schedule_queue {
  using choices = detail::schedule_choices<Policies...>;
  using prefill = typename choices::prefill;
  using order = typename choices::order;
  /// Branches of such find what they have in common in the prefix cache, and nowhere else.
  static constexpr bool grows_only = !requires(const Sequence& s) { s.table.fork(); };

 public:
  using group = request_group<Sequence>;

  /// Throws: `argument_error` where the request forks into more sequences than may run at once or
  ///         one step has tokens, or one of this number is here.
  void add(std::unique_ptr<Sequence> s) {
    const request_id id = s->id;
    const std::int64_t most =
        std::min<std::int64_t>(choices::limit::sequence_limit, std::int64_t{prefill::token_budget});
    if (s->branches > most || groups_.contains(id)) {
      throw argument_error("ashlar::serve::schedule_queue::add",
                           "request " + std::to_string(id) + " with " +
                               std::to_string(s->branches) + " branches is here already, or has " +
                               "more than " + std::to_string(most));
    }
    group& g = groups_[id];
    g.branches.push_back(std::move(s));
    g.number = arrivals_++;
    waiting_.push(g);
    statistics_.most_waiting = std::max(statistics_.most_waiting, waiting_.size());
  }

  [[nodiscard]] bool empty() const { return groups_.empty(); }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] std::size_t swapped() const { return swapped_.size(); }
  /// The sequences that run, in order of admission.
  [[nodiscard]] const std::vector<Sequence*>& running() const {
    if (stale_) {
      list_.clear();
      for (const group* g : running_) {
        for (const auto& s : g->branches) {
          list_.push_back(s.get());
        }
      }
      stale_ = false;
    }
    return list_;
  }
  /// Returns: nothing where no such request is here.
  [[nodiscard]] std::optional<request_state> state(request_id id) const {
    const auto at = groups_.find(id);
    return at == groups_.end() ? std::nullopt : std::optional(at->second.state);
  }
  /// The sequences of a request, in the order in which they were forked; none where it is not here.
  [[nodiscard]] std::span<const std::unique_ptr<Sequence>> branches(request_id id) const {
    const auto at = groups_.find(id);
    return at == groups_.end() ? std::span<const std::unique_ptr<Sequence>>{}
                               : std::span(at->second.branches);
  }
  [[nodiscard]] const schedule_statistics& statistics() const { return statistics_; }

  /// Chooses the sequences of the next step and takes blocks for their tokens.
  ///
  /// `now` is the time in seconds on a clock of the caller's; only `delay` asks.
  /// Requires: the batch before was computed (`advance`) or taken back (`rewind`).
  /// Returns: a batch that is empty only where no sequence is left that has something to compute,
  ///          others hold the pool's blocks, or somebody was hopeless: then the next one goes on.
  template <class Pool>
  schedule<Sequence> next(Pool& pool, double now = 0) {
    static_assert(
        choices::preempting::of(2) != preemption::swap || requires { pool.host; },
        "ashlar::serve::continuous<Policies...>: preemption by swap needs a cache with "
        "kv::swap_to_host");
    schedule<Sequence> plan;
    plan.batch.reserve(running_.size() + 8);
    shares_ = {};
    ++statistics_.steps;
    const bool opens = choices::joining::joins_running || running_.empty();
    const bool in_time = passed_delay(now);
    if constexpr (choices::phases::separates_phases) {
      if (opens && in_time) {
        admit(pool, plan);
      }
      if (plan.batch.empty()) {
        go_on(pool, plan);
        bring_back(pool, plan);
      }
    } else {
      go_on(pool, plan);
      bring_back(pool, plan);
      if (opens && in_time) {
        admit(pool, plan);
      }
    }
    statistics_.most_running = std::max(statistics_.most_running, running_.size());
    return plan;
  }

  /// A second sequence with the tokens of `s`, in the same blocks; it takes none. `s` runs, and is
  /// not in a step that is being computed.
  ///
  /// Throws: `argument_error` where the request has `scheduling::branches` already, or waits.
  Sequence& fork(const Sequence& s)
    requires requires { s.fork(); }
  {
    group& g = groups_.at(s.id);
    if (g.state != request_state::running || std::ssize(g.branches) >= s.branches) {
      throw argument_error("ashlar::serve::schedule_queue::fork",
                           "request " + std::to_string(s.id) + " has " +
                               std::to_string(g.branches.size()) + " of " +
                               std::to_string(s.branches) + " branches, or does not run");
    }
    // One token at least is computed again, so that each branch has its own logits.
    const std::int32_t same = std::min(s.computed, s.computed + s.remaining() - 1);
    g.common = g.branches.size() == 1 ? same : std::min(g.common, same);
    g.branches.push_back(std::make_unique<Sequence>(s.fork()));
    g.branches.back()->branch = g.next_branch++;
    stale_ = true;
    ++statistics_.forks;
    return *g.branches.back();
  }

  /// Takes one branch out; the last one takes its request along.
  std::unique_ptr<Sequence> drop(const Sequence& s) {
    group& g = groups_.at(s.id);
    if (g.branches.size() == 1) {
      return std::move(remove(s.id).front());
    }
    const auto at = std::ranges::find(g.branches, &s, &std::unique_ptr<Sequence>::get);
    auto gone = std::move(*at);
    g.branches.erase(at);
    stale_ = true;
    return gone;
  }

  /// Takes a request out, whatever its state. One that is in a step may be kept by the caller
  /// until the step is done: its blocks go back to the pool when its sequences are destroyed.
  ///
  /// Returns: its sequences; none where there is no such request.
  std::vector<std::unique_ptr<Sequence>> remove(request_id id) {
    const auto at = groups_.find(id);
    if (at == groups_.end()) {
      return {};
    }
    take_out(at->second);
    auto gone = std::move(at->second.branches);
    groups_.erase(at);
    return gone;
  }

  /// Gives a step up whose copies were not all made: who lost blocks is computed again, the others'
  /// part is taken back. Requests that left meanwhile do not matter.
  template <class Pool>
  void lose(schedule<Sequence>& plan, Pool& pool) {
    for (Sequence* s : plan.batch) {
      rewind(*s);
    }
    plan.batch.clear();
    for (const request_id id : plan.copied) {
      const auto at = groups_.find(id);
      if (at == groups_.end()) {
        continue;
      }
      group& g = at->second;
      if (g.state == request_state::running || g.state == request_state::swapped) {
        take_out(g);
        restart(g);
        if constexpr (requires { pool.host; }) {
          if (g.state == request_state::swapped) {
            const auto tables = detail::tables_of(g);
            std::vector<kv::block_copy> none;
            pool.host.in(tables, none);
          }
        }
        wait_again(g);
      }
    }
  }

  /// Checks every rule of the queue, and that the pool's blocks are those of its sequences.
  ///
  /// Requires: all tables of the pool are of sequences here.
  /// Throws:   `kv::broken_invariant`. Cost: O(blocks + requests).
  template <class Pool>
  void validate(const Pool& pool) const {
    const auto require = [](bool holds, const char* rule) {
      if (!holds) {
        throw kv::broken_invariant("ashlar::serve::schedule_queue", rule);
      }
    };
    require(waiting_.valid() && swapped_.valid(), "lines are in order");
    require(waiting_.size() + swapped_.size() + running_.size() == groups_.size(),
            "every request is in one place");
    std::vector<const Sequence*> all;
    std::size_t width = 0;
    std::size_t runs = 0;
    std::int64_t promised = 0;
    for (const auto& [id, g] : groups_) {
      require(!g.branches.empty(), "a request has a sequence");
      const bool holds_none =
          g.state == request_state::waiting || g.state == request_state::preempted;
      for (const auto& s : g.branches) {
        require(s->id == id, "a request is filed under its number");
        require(s->remaining() >= 0 && s->table.tokens() >= s->computed, "tokens have places");
        require(!holds_none || (s->table.blocks().empty() && s->computed == 0),
                "what waits holds nothing");
        require((g.state == request_state::swapped) == s->table.swapped(),
                "what is swapped out is in the host's memory");
        all.push_back(s.get());
      }
      if (g.state == request_state::running) {
        ++runs;
        width += g.width();
        promised += promise(g);
        require(position(g) < running_.size() && running_[position(g)] == &g,
                "running ones are in order of admission");
      }
    }
    require(runs == running_.size() && width == width_, "running ones are counted");
    require(width_ <= choices::limit::sequence_limit, "no more run than may");
    require(choices::preempting::of(1) != preemption::never || promised == promised_,
            "promises add up");
    const auto table_of = [](const Sequence* s) -> const auto& { return s->table; };
    kv::validate(pool, all, table_of);
    if constexpr (requires { pool.host; }) {
      kv::validate(pool.host.host(), all, table_of);
    }
  }

 private:
  /// Those who are swapped out come back in their order, but for an order that changes meanwhile.
  // clang-format off
  using returning = detail::keyed_line<
      std::conditional_t<requires(const group& g) { order::key(g); }, order, fcfs>, group>;
  // clang-format on

  // ---- the phases of a step ----

  template <class Pool>
  void go_on(Pool& pool, schedule<Sequence>& plan) {
    for (std::size_t i = 0; i < running_.size() && shares_.budget > 0;) {
      group& g = *running_[i];
      if (detail::never_fits(g, pool)) {
        leave(g);
        hand_out(g, plan);
        continue;
      }
      if (shares_.choose(g) == 0) {
        ++i;  // what is left of the budget is too little for its branches, not for those behind
        continue;
      }
      bool stays = true;
      while (stays && !fits(g, pool.free(), pool)) {
        if (running_.size() == 1 || choices::preempting::of(1) == preemption::never) {
          // Nobody makes room, unless others than this queue hold blocks for a while.
          const bool never =
              running_.size() == 1
                  ? detail::held(g) + detail::needed(g, pool, bare_) > pool.capacity()
                  : g.first().computed + g.first().scheduled > g.first().most_tokens;
          shares_.unchoose(g);
          stays = false;
          if (never) {
            leave(g);
            hand_out(g, plan);
          } else {
            ++i;
          }
          break;
        }
        const std::size_t victim = order::victim(std::span<group* const>(running_));
        stays = running_[victim] != &g;
        i -= victim < i ? 1 : 0;
        give_way(*running_[victim], pool, plan);
      }
      if (stays) {
        take(g, plan);
        ++i;
      }
    }
  }

  template <class Pool>
  void bring_back(Pool& pool, schedule<Sequence>& plan) {
    if constexpr (requires { pool.host; }) {
      while (plan.preempted == 0 && !swapped_.empty() && shares_.budget > 0) {
        group& g = swapped_.top();
        if (width_ + g.width() > choices::limit::sequence_limit || shares_.choose(g) == 0) {
          shares_.unchoose(g);
          return;
        }
        const auto tables = detail::tables_of(g);
        const std::int64_t moved = detail::held(g);
        const std::int64_t left = running_.empty() ? 0 : pool.watermark();
        if (!fits(g, pool.free() - left - moved, pool.host.host())) {
          const bool never = moved + detail::needed(g, pool.host.host(), bare_) > pool.capacity();
          shares_.unchoose(g);
          if (!never) {
            return;
          }
          swapped_.erase(g);
          hand_out(g, plan);
          continue;
        }
        pool.host.in(tables, plan.copies);
        plan.copied.push_back(g.first().id);
        swapped_.erase(g);
        enter(g);
        take(g, plan);
        ++statistics_.swapped_in;
        statistics_.blocks_swapped += moved;
      }
    }
  }

  template <class Pool>
  void admit(Pool& pool, schedule<Sequence>& plan) {
    while (plan.preempted == 0 && swapped_.empty() && !waiting_.empty() && shares_.budget > 0) {
      group& g = waiting_.top();
      if (detail::never_fits(g, pool) || promise(g) > pool.capacity()) {
        waiting_.erase(g);
        hand_out(g, plan);
        continue;
      }
      if (width_ + g.width() > choices::limit::sequence_limit ||
          promised_ + promise(g) > pool.capacity()) {
        return;
      }
      // The watermark is for those who run: where nobody does, all blocks are there to take.
      const std::int64_t left = running_.empty() ? 0 : pool.watermark();
      if (pool.free() <= left && !running_.empty()) {
        return;  // whatever a cache knows, one token has to be computed, in a block of its own
      }
      if constexpr (requires(Sequence& s) { s.reuse(); }) {
        if (grows_only || !g.rejoins) {  // else the others fork from the first one's own blocks
          g.first().reuse();
        }
      }
      if (shares_.choose(g) == 0 || !fits(g, pool.free() - left, pool)) {
        const bool never = detail::held(g) + detail::needed(g, pool, bare_) > pool.capacity();
        shares_.unchoose(g);
        restart(g);  // what waits holds nothing
        if (!never) {
          return;
        }
        waiting_.erase(g);
        hand_out(g, plan);
        continue;
      }
      waiting_.erase(g);
      ++(g.state == request_state::waiting ? statistics_.admitted : statistics_.resumed);
      enter(g);
      take(g, plan);
      had_prompts_ = true;
    }
  }

  bool passed_delay(double now) {
    if constexpr (choices::delaying::delay_factor == 0) {
      return true;
    } else {
      prompt_seconds_ = had_prompts_ ? now - last_step_ : prompt_seconds_;
      had_prompts_ = false;
      last_step_ = now;
      return running_.empty() || waiting_.empty() ||
             now - waiting_.top().first().arrival >
                 choices::delaying::delay_factor * prompt_seconds_;
    }
  }

  /// Whether `room` blocks hold a request's share; without drafts and lookahead, if not with them.
  /// `home` is the pool that its tables are in.
  bool fits(group& g, std::int64_t room, const kv::block_pool& home) {
    bare_ = false;
    if (detail::needed(g, home, bare_) <= room) {
      return true;
    }
    for (const auto& s : g.branches) {
      s->scheduled -= s->drafts;
      s->drafts = 0;
    }
    bare_ = true;
    return detail::needed(g, home, bare_) <= room;
  }
  /// Blocks that a request may come to need, where nobody gives way.
  static std::int64_t promise(const group& g) {
    if constexpr (choices::preempting::of(1) == preemption::never) {
      return kv::blocks_for(g.first().most_tokens, g.first().table.block_tokens()) *
             static_cast<std::int64_t>(g.width());
    } else {
      return 0;
    }
  }
  /// Gives a request the blocks of its share.
  void take(group& g, schedule<Sequence>& plan) {
    bool copied = false;
    for (const auto& s : g.branches) {
      if (s->scheduled == 0) {
        continue;
      }
      if (const auto copy = s->table.append(s->scheduled, detail::reserve(*s, bare_))) {
        plan.copies.push_back(*copy);
        copied = true;
        ++statistics_.blocks_copied;
      }
      plan.batch.push_back(s.get());
      shares_.count(*s);
      if (g.account != nullptr) {
        *g.account += s->scheduled;
      }
    }
    if (copied) {
      plan.copied.push_back(g.first().id);
    }
  }

  // ---- from state to state ----

  void enter(group& g) {
    g.state = request_state::running;
    g.entry = entries_++;
    running_.push_back(&g);
    width_ += g.width();
    promised_ += promise(g);
    stale_ = true;
  }
  void leave(const group& g) {
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(position(g)));
    width_ -= g.width();
    promised_ -= promise(g);
    stale_ = true;
  }
  [[nodiscard]] std::size_t position(const group& g) const {
    const auto at = std::ranges::lower_bound(running_, g.entry, {}, &group::entry);
    return static_cast<std::size_t>(at - running_.begin());
  }
  void take_out(group& g) {
    if (g.state == request_state::running) {
      leave(g);
    } else if (g.state == request_state::swapped) {
      swapped_.erase(g);
    } else {
      waiting_.erase(g);
    }
  }
  static void restart(group& g) {
    for (const auto& s : g.branches) {
      s->computed = 0;
      rewind(*s);
    }
    g.rejoins = g.branches.size() > 1;
  }
  void wait_again(group& g) {
    g.state = request_state::preempted;
    waiting_.push(g);
    statistics_.most_waiting = std::max(statistics_.most_waiting, waiting_.size());
    ++statistics_.recomputed;
  }

  template <class Pool>
  void give_way(group& g, Pool& pool, schedule<Sequence>& plan) {
    for (const auto& s : g.branches) {
      if (s->table.tokens() > s->computed) {  // it had its share of this step already
        std::erase(plan.batch, s.get());
        shares_.budget += s->scheduled;
        if (g.account != nullptr) {
          *g.account -= s->scheduled;
        }
      }
      rewind(*s);
    }
    if constexpr (requires { waiting_.refunded(g); }) {
      waiting_.refunded(g);
    }
    leave(g);
    ++plan.preempted;
    if constexpr (requires { pool.host; }) {
      const auto tables = detail::tables_of(g);
      const std::int64_t moved = detail::held(g);
      // Branches that have yet to find their beginning find it on the chip alone.
      if (choices::preempting::of(g.branches.size()) == preemption::swap &&
          !(grows_only && g.rejoins) && moved <= pool.host.host().free()) {
        pool.host.out(tables, plan.copies);
        plan.copied.push_back(g.first().id);
        g.state = request_state::swapped;
        swapped_.push(g);
        ++statistics_.swapped_out;
        statistics_.blocks_swapped += moved;
        return;
      }
    }
    restart(g);
    wait_again(g);
  }

  void hand_out(group& g, schedule<Sequence>& plan) {
    const request_id id = g.first().id;
    for (auto& s : g.branches) {
      s->table.truncate(0);  // its blocks serve others in this step already
      plan.hopeless.push_back(std::move(s));
      ++statistics_.hopeless;
    }
    groups_.erase(id);
  }

  std::unordered_map<request_id, group> groups_;
  std::vector<group*> running_;  // in order of admission
  typename order::template line<group> waiting_;
  returning swapped_;
  std::size_t width_ = 0;      // sequences that those who run may fork into
  std::int64_t promised_ = 0;  // blocks
  std::uint64_t arrivals_ = 0;
  std::uint64_t entries_ = 0;
  // Of the step that is being made.
  detail::step_shares<choices> shares_;
  bool bare_ = false;  // without drafts and lookahead
  // Of `delay`.
  bool had_prompts_ = false;
  double prompt_seconds_ = 0;
  double last_step_ = 0;

  schedule_statistics statistics_;
  mutable std::vector<Sequence*> list_;
  mutable bool stale_ = true;
};

}  // namespace ashlar::serve
