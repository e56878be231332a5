// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/schedule_log.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"

/// Random steps of a scheduler whose memory is real: each place holds a number made of all tokens
/// up to it, so that a block that is shared, copied, moved or given back wrongly shows.
namespace ashlar::testing {

struct step_counts {
  std::int64_t ended = 0, aborted = 0, hopeless = 0, forks = 0, drafts = 0, failed_steps = 0,
               failed_copies = 0;
  serve::schedule_statistics scheduler{};
};

template <class Cache, class Policy>
class random_steps {
  using sequence = serve::sequence<Cache>;
  static constexpr std::int32_t width = Cache::block_tokens;
  using queue_type = typename Policy::template queue<sequence>;
  static constexpr bool swaps = requires(typename Cache::pool& p) { p.host; };
  static constexpr bool records = requires(const queue_type& q) { q.log(); };

 public:
  random_steps(std::uint32_t seed, kv::block_id blocks, kv::block_id host_blocks)
      : random_(seed),
        pool_(blocks, {.host_blocks = host_blocks}),
        device_(static_cast<std::size_t>(blocks) * width, garbage),
        host_(static_cast<std::size_t>(host_blocks + 1) * width, garbage),
        longest_(std::max(2, static_cast<std::int32_t>(pool_.capacity()) * width * 2 / 3)) {}

  step_counts run(std::int64_t steps) {
    for (std::int64_t i = 0; i < steps || !queue_.empty(); ++i) {
      REQUIRE(i < steps + 100'000);  // everybody comes to an end
      if (i < steps && queue_.waiting() < 6) {
        arrive(0.25 * static_cast<double>(i));
      }
      if (below(20) == 0) {
        abort();
      }
      step(0.25 * static_cast<double>(i));
      if (i % 16 == 0) {
        queue_.validate(pool_);
      }
    }
    queue_.validate(pool_);
    CHECK(live_.empty());
    CHECK(pool_.used() == 0);
    if constexpr (swaps) {
      CHECK(pool_.host.host().used() == 0);
    }
    counts_.scheduler = queue_.statistics();
    if constexpr (records) {
      typename Cache::pool again(static_cast<kv::block_id>(pool_.size()), pool_.options());
      CHECK(serve::replay<typename Policy::schedule_policy, Cache>(queue_.log(), again) ==
            static_cast<std::size_t>(counts_.scheduler.steps));
    }
    return counts_;
  }

 private:
  static constexpr std::uint64_t garbage = 0xDEADu;

  std::int32_t below(std::int32_t n) {
    return static_cast<std::int32_t>(random_() % static_cast<std::uint32_t>(n));
  }
  /// Beginnings come again.
  serve::token draw() { return below(6) == 0 ? 1 : 0; }
  static std::uint64_t next_state(std::uint64_t before, serve::token t) {
    return (before ^ static_cast<std::uint64_t>(t + 7)) * 0xFF51AFD7ED558CCDu + (before >> 29);
  }

  void arrive(double now) {
    for (int n = below(3); n > 0; --n) {
      const auto id = next_id_++;
      const std::int32_t prompt = below(40) == 0 ? 2 * longest_ : 1 + below(longest_);
      serve::scheduling asked{.id = id,
                              .most_tokens = prompt + 1 + below(3 * width),
                              .branches = 1 + (Policy::forks ? below(3) : 0),
                              .priority = below(3),
                              .tenant = static_cast<std::uint32_t>(below(3)),
                              .arrival = now};
      serve::request r;
      for (std::int32_t t = 0; t < prompt; ++t) {
        r.tokens.push_back(draw());
      }
      queue_.add(std::make_unique<sequence>(asked, std::move(r), 0, pool_));
      live_.insert(id);
    }
  }

  std::vector<std::unique_ptr<sequence>> abort() {
    if (live_.empty()) {
      return {};
    }
    const auto id = *std::next(live_.begin(), below(static_cast<std::int32_t>(live_.size())));
    auto gone = queue_.remove(id);
    REQUIRE(!gone.empty());
    live_.erase(id);
    ++counts_.aborted;
    return gone;
  }

  void step(double now) {
    for (sequence* s : queue_.running()) {
      s->drafts = below(3) == 0 ? below(4) : 0;
      s->lookahead = below(4) == 0 ? below(2 * width) : 0;
    }
    auto plan = queue_.next(pool_, now);
    for (const auto& s : plan.hopeless) {
      ++counts_.hopeless;
      live_.erase(s->id);
    }
    plan.hopeless.clear();
    if (!perform(plan)) {
      return;
    }
    for (const sequence* s : plan.batch) {
      compute(*s);
    }
    if (below(40) == 0) {  // the model failed
      ++counts_.failed_steps;
      for (sequence* s : plan.batch) {
        serve::rewind(*s);
      }
      return;
    }
    // Somebody hangs up while the step is being computed; their blocks are held until it is done.
    // Not where the calls are written down: a log does not say when blocks come back.
    const auto gone =
        !records && below(12) == 0 ? abort() : std::vector<std::unique_ptr<sequence>>{};
    const request_ids left(gone);
    for (sequence* s : plan.batch) {
      if (!left.contains(s)) {
        take(*s);
      }
    }
  }
  struct request_ids {
    explicit request_ids(const std::vector<std::unique_ptr<sequence>>& all) : gone(all) {}
    bool contains(const sequence* s) const {
      return std::ranges::any_of(gone, [s](const auto& g) { return g.get() == s; });
    }
    const std::vector<std::unique_ptr<sequence>>& gone;
  };

  /// Makes a step's copies, or fails in the middle of them.
  bool perform(serve::schedule<sequence>& plan) {
    const auto count = static_cast<std::int32_t>(plan.copies.size());
    const bool fails = count > 0 && below(8) == 0;
    const std::int32_t good = fails ? below(count) : count;
    for (std::int32_t i = 0; i < count; ++i) {
      const kv::block_copy& c = plan.copies[static_cast<std::size_t>(i)];
      const auto& from = c.from_place == kv::tier::device ? device_ : host_;
      auto& to = c.to_place == kv::tier::device ? device_ : host_;
      const auto target = to.begin() + std::ptrdiff_t{c.to} * width;
      if (i < good) {
        std::copy_n(from.begin() + std::ptrdiff_t{c.from} * width, width, target);
      } else {
        std::fill_n(target, width, garbage);
      }
    }
    if (fails) {
      ++counts_.failed_copies;
      queue_.lose(plan, pool_);
      queue_.validate(pool_);
    }
    return !fails;
  }

  /// Checks what the cache holds of a sequence and writes the step's tokens, drafts as garbage.
  void compute(const sequence& s) {
    const auto at = [&](std::int32_t position) -> std::uint64_t& {
      return device_[static_cast<std::size_t>(s.table.slot(position))];
    };
    REQUIRE(s.table.tokens() == s.computed + s.scheduled);
    std::uint64_t state = 1;
    bool same = true;
    for (std::int32_t i = 0; i < s.computed + s.scheduled; ++i) {
      const bool known = i < static_cast<std::int32_t>(s.tokens.size());
      state = known ? next_state(state, s.tokens[static_cast<std::size_t>(i)]) : garbage;
      if (i >= s.computed) {
        at(i) = state;
      } else {
        same = same && (i < s.table.dropped() || at(i) == state);
      }
    }
    REQUIRE(same);
  }

  /// Tokens come out of a step.
  void take(sequence& s) {
    if (s.scheduled < s.remaining()) {
      serve::advance(s);
      return;
    }
    counts_.drafts += s.drafts;
    const std::int32_t rejected = s.drafts == 0 ? 0 : below(s.drafts + 1);
    // Accepted drafts are tokens, and what was computed for them is right.
    std::uint64_t state = 1;
    for (const serve::token t : s.tokens) {
      state = next_state(state, t);
    }
    for (std::int32_t i = 0; i < s.drafts - rejected; ++i) {
      s.tokens.push_back(draw());
      state = next_state(state, s.tokens.back());
      device_[static_cast<std::size_t>(
          s.table.slot(static_cast<std::int32_t>(s.tokens.size()) - 1))] = state;
    }
    serve::advance(s, rejected);
    if constexpr (Policy::forks) {
      while (below(3) == 0 && std::ssize(queue_.branches(s.id)) < s.branches) {
        ++counts_.forks;
        queue_.fork(s).tokens.push_back(draw());
      }
    }
    s.tokens.push_back(draw());
    if (std::ssize(s.tokens) >= s.most_tokens || below(30) == 0) {
      const auto id = s.id;
      static_cast<void>(queue_.drop(s));
      if (queue_.branches(id).empty()) {
        REQUIRE(live_.erase(id) == 1);
        ++counts_.ended;
      }
    }
  }

  std::mt19937 random_;
  typename Cache::pool pool_;
  std::vector<std::uint64_t> device_, host_;
  std::int32_t longest_;  // prompt, but for some that can never fit
  queue_type queue_;
  std::set<serve::request_id> live_;
  serve::request_id next_id_ = 0;
  step_counts counts_;
};

/// A schedule, and whether its requests fork in these tests.
template <bool Forks, class... Policies>
struct tested : serve::continuous<Policies...> {
  static constexpr bool forks = Forks;
};
template <bool Forks, class... Policies>
struct logged : serve::recording<serve::continuous<Policies...>> {
  using schedule_policy = serve::continuous<Policies...>;
  static constexpr bool forks = Forks;
};

/// The pairs of cache and schedule that are run.
using forks_by_swap =
    random_steps<kv::vllm_v0<3>, tested<true, serve::whole_prefill<16>, serve::max_sequences<8>,
                                        serve::separate_phases, serve::preempt_forks_by_swap>>;
using all_by_swap =
    random_steps<kv::vllm_v0<4>, tested<true, serve::chunked_prefill<9, 5>, serve::max_sequences<9>,
                                        serve::by_priority, serve::preempt_by_swap>>;
using appends_only =
    random_steps<kv::vllm_v1<4>, tested<true, serve::chunked_prefill<11>, serve::fair_by_tenant>>;
using appends_and_swaps =
    random_steps<kv::paged<4, kv::append_only, kv::swap_to_host, kv::prefix_cached<>>,
                 tested<true, serve::chunked_prefill<9>, serve::preempt_by_swap>>;
using through_a_window =
    random_steps<kv::paged<2, kv::sliding_window<5>, kv::prefix_cached<>>,
                 tested<true, serve::chunked_prefill<7>, serve::shortest_remaining>>;
using promised =
    random_steps<kv::paged<1>,
                 tested<true, serve::never_preempt, serve::delay<700>, serve::chunked_prefill<13>>>;

using written_down =
    random_steps<kv::vllm_v0<4>, logged<true, serve::chunked_prefill<9>, serve::max_sequences<9>,
                                        serve::fair_by_tenant, serve::preempt_by_swap>>;

}  // namespace ashlar::testing
