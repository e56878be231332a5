// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/prefix_cache.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/scheduled.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"

/// What a scheduler was told and what it decided, to be looked at or played again.
namespace ashlar::serve {

/// One sequence's part of a decision.
struct share {
  request_id id = 0;
  std::int32_t branch = 0;
  std::int32_t scheduled = 0;
  std::int32_t drafts = 0;
  friend bool operator==(const share&, const share&) = default;
};

/// A `schedule` as numbers.
struct decision {
  std::vector<share> batch{};
  std::vector<kv::block_copy> copies{};
  std::vector<request_id> hopeless{};
  std::int64_t preempted = 0;
  friend bool operator==(const decision&, const decision&) = default;

  template <class Sequence>
  static decision of(const schedule<Sequence>& plan) {
    decision d{.copies = plan.copies, .preempted = plan.preempted};
    for (const Sequence* s : plan.batch) {
      d.batch.push_back({s->id, s->branch, s->scheduled, s->drafts});
    }
    for (const auto& s : plan.hopeless) {
      d.hopeless.push_back(s->id);
    }
    return d;
  }
};

/// A call of a scheduler, or what its caller did to a sequence.
struct schedule_event {
  enum class kind : std::uint8_t { add, change, next, fork, drop, remove, lose };
  kind what = kind::next;
  request_id id = 0;
  std::int32_t branch = 0;
  scheduling asked{};           ///< `add`
  kv::prefix_scope scope{};     ///< `add`
  bool whole_prompt = false;    ///< `add`: all of it is computed, whatever a cache knows
  std::int32_t kept = 0;        ///< `change`: tokens that stay as they were
  std::vector<token> tokens{};  ///< `add`, `change`: the prompt, or what came behind those kept
  std::int32_t computed = 0;    ///< `change`: after it, as the next two
  std::int32_t drafts = 0;
  std::int32_t lookahead = 0;
  double now = 0;      ///< `next`
  decision decided{};  ///< `next`
};
using schedule_log = std::vector<schedule_event>;

/// `Schedule`, writing down what happens. `log()` of its queue is for `replay`.
///
/// Cost: O(running) for every call.
template <SchedulePolicy Schedule>
struct recording {
  template <class Sequence>
  class queue : public Schedule::template queue<Sequence> {
    using base = typename Schedule::template queue<Sequence>;
    using kind = schedule_event::kind;

   public:
    [[nodiscard]] const schedule_log& log() const { return log_; }

    void add(std::unique_ptr<Sequence> s) {
      schedule_event e{.what = kind::add,
                       .id = s->id,
                       .asked = *s,
                       .scope = scope_of(*s),
                       .whole_prompt = wants_whole_prompt(*s),
                       .tokens = behind(*s, 0)};
      base::add(std::move(s));
      log_.push_back(std::move(e));
    }
    template <class Pool>
    schedule<Sequence> next(Pool& pool, double now = 0) {
      look();
      auto plan = base::next(pool, now);
      log_.push_back({.what = kind::next, .now = now, .decided = decision::of(plan)});
      for (const auto& s : plan.hopeless) {
        seen_.erase(s.get());
      }
      remember();
      return plan;
    }
    Sequence& fork(const Sequence& s)
      requires requires(base& q) { q.fork(s); }
    {
      look();
      Sequence& twin = base::fork(s);
      log_.push_back({.what = kind::fork, .id = s.id, .branch = s.branch});
      remember();
      return twin;
    }
    std::unique_ptr<Sequence> drop(const Sequence& s) {
      look();
      log_.push_back({.what = kind::drop, .id = s.id, .branch = s.branch});
      seen_.erase(&s);
      return base::drop(s);
    }
    std::vector<std::unique_ptr<Sequence>> remove(request_id id) {
      look();
      log_.push_back({.what = kind::remove, .id = id});
      auto gone = base::remove(id);
      for (const auto& s : gone) {
        seen_.erase(s.get());
      }
      return gone;
    }
    template <class Pool>
    void lose(schedule<Sequence>& plan, Pool& pool) {
      log_.push_back({.what = kind::lose});
      base::lose(plan, pool);
      remember();
    }

   private:
    struct state {
      std::int32_t known = 0;
      token last = 0;
      std::int32_t computed = 0;
      std::int32_t scheduled = 0;
      std::int32_t drafts = 0;
      std::int32_t lookahead = 0;
      friend bool operator==(const state&, const state&) = default;
    };
    static state state_of(const Sequence& s) {
      return {
          s.computed + s.remaining(), last_of(s), s.computed, s.scheduled, s.drafts, s.lookahead};
    }
    static token last_of(const Sequence& s) {
      if constexpr (requires { s.tokens; }) {
        return s.tokens.empty() ? 0 : s.tokens.back();
      } else {
        return 0;
      }
    }
    /// How many tokens are as they were: a caller may drop some, or write over the last one.
    static std::int32_t kept(const Sequence& s, const state& before) {
      const std::int32_t common = std::min(before.known, s.computed + s.remaining());
      if constexpr (requires { s.tokens; }) {
        if (common > 0 && common == before.known &&
            s.tokens[static_cast<std::size_t>(common - 1)] != before.last) {
          return common - 1;
        }
      }
      return common;
    }
    /// Tokens from `first` on; zeros where the sequence only counts.
    static std::vector<token> behind(const Sequence& s, std::int32_t first) {
      if constexpr (requires { s.tokens; }) {
        return {s.tokens.begin() + first, s.tokens.end()};
      } else {
        return std::vector<token>(static_cast<std::size_t>(s.computed + s.remaining() - first));
      }
    }
    static kv::prefix_scope scope_of(const Sequence& s) {
      if constexpr (requires { s.scope(); }) {
        return s.scope();
      } else {
        return {};
      }
    }
    static bool wants_whole_prompt(const Sequence& s) {
      if constexpr (requires { s.wish.prompt_logprobs; }) {
        return s.wish.prompt_logprobs.has_value();
      } else {
        return false;
      }
    }
    /// Writes down what the caller did since.
    void look() {
      for (const Sequence* s : this->running()) {
        const state now = state_of(*s);
        state& before = seen_[s];
        if (now != before) {
          const std::int32_t same = kept(*s, before);
          log_.push_back({.what = kind::change,
                          .id = s->id,
                          .branch = s->branch,
                          .kept = same,
                          .tokens = behind(*s, same),
                          .computed = now.computed,
                          .drafts = s->drafts,
                          .lookahead = s->lookahead});
          before = now;
        }
      }
    }
    void remember() {
      for (const Sequence* s : this->running()) {
        seen_[s] = state_of(*s);
      }
    }

    schedule_log log_;
    std::unordered_map<const Sequence*, state> seen_;
  };
};

/// Thrown where a scheduler decides otherwise than the log says.
struct replay_difference final : error {
  std::size_t event;
  decision expected;
  decision decided;

  replay_difference(std::size_t at, decision logged, decision now,
                    std::source_location where = std::source_location::current())
      : error(where), event(at), expected(std::move(logged)), decided(std::move(now)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::serve::replay: event " + std::to_string(event) + ": a batch of " +
           std::to_string(decided.batch.size()) + " and " + std::to_string(decided.copies.size()) +
           " copies; the log has " + std::to_string(expected.batch.size()) + " and " +
           std::to_string(expected.copies.size());
  }
};

/// Plays a log again, on a pool like the one that it was recorded with.
///
/// Requires: the caller of the log went through batches in their order.
/// Returns:  how many decisions were made, all of them those of the log.
/// Throws:   `replay_difference`.
template <SchedulePolicy Schedule, kv::CachePolicy Cache>
std::size_t replay(const schedule_log& log, typename Cache::pool& pool) {
  using sequence_type = sequence<Cache>;
  using kind = schedule_event::kind;
  typename Schedule::template queue<sequence_type> queue;
  schedule<sequence_type> plan;
  std::size_t decisions = 0;
  const auto find = [&queue](const schedule_event& e) -> sequence_type& {
    const auto all = queue.branches(e.id);
    return **std::ranges::find_if(all, [&e](const auto& s) { return s->branch == e.branch; });
  };
  for (std::size_t i = 0; i < log.size(); ++i) {
    const schedule_event& e = log[i];
    if (e.what == kind::add) {
      request r{.tokens = e.tokens, .adapter = e.scope.adapter, .cache_salt = e.scope.salt};
      if (e.whole_prompt) {
        r.prompt_logprobs = 0;
      }
      queue.add(std::make_unique<sequence_type>(e.asked, std::move(r), 0, pool));
    } else if (e.what == kind::change) {
      sequence_type& s = find(e);
      s.tokens.resize(static_cast<std::size_t>(e.kept));
      s.tokens.insert(s.tokens.end(), e.tokens.begin(), e.tokens.end());
      if (e.computed > s.computed) {
        advance(s, s.scheduled - (e.computed - s.computed));
      } else if (s.scheduled > 0) {
        rewind(s);
      }
      s.drafts = e.drafts;
      s.lookahead = e.lookahead;
    } else if (e.what == kind::next) {
      plan = queue.next(pool, e.now);
      if (decision d = decision::of(plan); d != e.decided) {
        throw replay_difference(i, e.decided, std::move(d));
      }
      plan.hopeless.clear();
      ++decisions;
    } else if (e.what == kind::fork) {
      if constexpr (requires(const sequence_type& s) { queue.fork(s); }) {
        queue.fork(find(e));
      }
    } else if (e.what == kind::drop) {
      queue.drop(find(e));
    } else if (e.what == kind::remove) {
      queue.remove(e.id);
    } else {
      queue.lose(plan, pool);
    }
  }
  return decisions;
}

}  // namespace ashlar::serve
