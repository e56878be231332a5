// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"

/// Laws of `serve::SchedulePolicy`, and a policy that has no more than the concept asks.
namespace ashlar::laws {

/// What a workload came to: (step, id, tokens) of every share.
using decisions = std::vector<std::tuple<int, serve::request_id, std::int32_t>>;

/// Lets `S` serve random requests, some of them cancelled and some too long, and plays the model.
/// `promises`: a request is refused at once where it could not come to its end.
template <serve::SchedulePolicy S, int BlockTokens, bool promises>
decisions schedule_workload(std::uint32_t seed, kv::block_id blocks) {
  using sequence = serve::sequence<kv::paged<BlockTokens>>;
  std::mt19937 random(seed);
  const auto below = [&random](int n) {
    return static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(n));
  };
  constexpr int requests = 24;
  const int room = static_cast<int>(blocks) * BlockTokens;

  kv::block_pool pool(blocks);
  decisions made;
  {
    typename S::template queue<sequence> queue;
    std::vector<std::int32_t> ends(requests);  // known tokens at which a request is done
    std::set<serve::request_id> live;
    std::int64_t work = 0;
    int submitted = 0;
    CHECK(queue.empty());
    for (int step = 0; submitted < requests || !live.empty(); ++step) {
      for (int n = below(3); n > 0 && submitted < requests; --n, ++submitted) {
        const auto id = static_cast<serve::request_id>(submitted);
        const std::int32_t prompt = below(8) == 0 ? room + 1 + below(9) : 1 + below(room / 2);
        ends[id] = prompt + 1 + below(9);
        work += ends[id];
        live.insert(id);
        serve::request r{.tokens = std::vector<serve::token>(static_cast<std::size_t>(prompt), 1)};
        queue.add(std::make_unique<sequence>(
            serve::scheduling{.id = id,
                              .most_tokens = ends[id],
                              .priority = below(3),
                              .tenant = static_cast<std::uint32_t>(below(3)),
                              .arrival = 0.1 * step},
            std::move(r), 0, pool));
      }
      if (!live.empty() && below(10) == 0) {  // somebody hangs up
        const auto id = *std::next(live.begin(), below(static_cast<int>(live.size())));
        const auto gone = queue.remove(id);
        REQUIRE(gone.size() == 1);
        CHECK(gone[0]->id == id);
        live.erase(id);
      }
      CHECK(queue.remove(requests + 1).empty());
      CHECK(queue.empty() == live.empty());

      auto plan = queue.next(pool, 0.1 * step);
      for (const auto& s : plan.hopeless) {  // handed out, and rightly so
        const std::int64_t known = promises ? ends[s->id] : std::ssize(s->tokens);
        CHECK(kv::blocks_for(known, BlockTokens) > pool.capacity());
        CHECK(live.erase(s->id) == 1);
      }
      // Where sequences are left, the batch has some of them: each once, each with its blocks.
      CHECK(plan.batch.empty() == live.empty());
      std::set<serve::request_id> members;
      std::int64_t held = 0;
      for (sequence* s : plan.batch) {
        CHECK(members.insert(s->id).second);
        CHECK(live.contains(s->id));
        CHECK(s->scheduled > 0);
        CHECK(s->scheduled <= s->remaining());
        CHECK(s->table.tokens() == s->computed + s->scheduled);
        made.emplace_back(step, s->id, s->scheduled);
      }
      for (const auto& s : queue.running()) {
        held += std::ssize(s->table.blocks());
      }
      for (const auto& s : plan.hopeless) {
        held += std::ssize(s->table.blocks());
      }
      CHECK(held == pool.used());  // what waits holds nothing

      for (sequence* s : plan.batch) {
        serve::advance(*s);
        if (s->remaining() == 0) {
          s->tokens.push_back(2);
        }
        if (const auto id = s->id; std::ssize(s->tokens) >= ends[id]) {
          CHECK(queue.drop(*s)->id == id);
          live.erase(id);
        }
      }
      REQUIRE(step < 100 + 60 * work);  // everybody comes to an end
    }
    CHECK(queue.empty());
  }
  CHECK(pool.used() == 0);
  return made;
}

template <serve::SchedulePolicy S, bool promises = false>
void check_schedule_policy() {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    const auto first = schedule_workload<S, 4, promises>(seed, 9);  // blocks are short
    CHECK(schedule_workload<S, 4, promises>(seed, 9) == first);     // a function of the calls alone
    schedule_workload<S, 1, promises>(seed, 200);
    schedule_workload<S, 16, promises>(seed, 1);
  }
}

/// First come, first served, one at a time.
struct in_turn {
  template <class Sequence>
  class queue {
   public:
    void add(std::unique_ptr<Sequence> s) { waiting_.push_back(std::move(s)); }
    bool empty() { return waiting_.empty() && running_.empty(); }
    std::vector<std::unique_ptr<Sequence>>& running() { return running_; }

    serve::schedule<Sequence> next(auto& pool, double /*now*/ = 0) {
      serve::schedule<Sequence> plan;
      while (!empty()) {
        if (running_.empty()) {
          running_.push_back(std::move(waiting_.front()));
          waiting_.pop_front();
        }
        Sequence& s = *running_.front();
        if (kv::blocks_for(std::ssize(s.tokens), s.table.block_tokens()) <= pool.capacity()) {
          s.scheduled = s.remaining();
          s.table.append(s.scheduled);
          plan.batch.push_back(&s);
          break;
        }
        s.table.truncate(0);
        plan.hopeless.push_back(std::move(running_.front()));
        running_.clear();
      }
      return plan;
    }
    std::unique_ptr<Sequence> drop(const Sequence& s) { return std::move(remove(s.id).front()); }
    std::vector<std::unique_ptr<Sequence>> remove(serve::request_id id) {
      std::vector<std::unique_ptr<Sequence>> found;
      if (!running_.empty() && running_.front()->id == id) {
        return std::exchange(running_, {});
      }
      const auto at = std::ranges::find_if(waiting_, [id](const auto& s) { return s->id == id; });
      if (at != waiting_.end()) {
        found.push_back(std::move(*at));
        waiting_.erase(at);
      }
      return found;
    }

   private:
    std::vector<std::unique_ptr<Sequence>> running_;
    std::deque<std::unique_ptr<Sequence>> waiting_;
  };
};

}  // namespace ashlar::laws
