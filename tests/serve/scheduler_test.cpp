// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/scheduler.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/sequence.hpp"
#include "laws/schedule_policy.hpp"

namespace kv = ashlar::kv;
namespace serve = ashlar::serve;

namespace {

using pages = kv::paged<4>;
using sequence = serve::sequence<pages>;
using plan = serve::schedule<sequence>;

/// (id, tokens) of a batch.
using shares = std::vector<std::pair<serve::request_id, std::int32_t>>;

template <class... Policies>
struct bench {
  using queue_type = typename serve::continuous<Policies...>::template queue<sequence>;

  explicit bench(kv::block_id blocks) : pool(blocks) {}

  void add(std::size_t tokens) {
    serve::request r{.tokens = std::vector<serve::token>(tokens, 1)};
    queue.add(
        std::make_unique<sequence>(serve::scheduling{.id = next_id++}, std::move(r), 0, pool));
  }
  /// Plans a step and plays the model: finished prompts get one more token.
  shares step() {
    last = queue.next(pool);
    shares batch;
    for (sequence* s : last.batch) {
      batch.emplace_back(s->id, s->scheduled);
      serve::advance(*s);
      CHECK(s->table.tokens() == s->computed);
      if (s->remaining() == 0) {
        s->tokens.push_back(2);
      }
    }
    return batch;
  }

  kv::block_pool pool;
  queue_type queue;
  plan last;
  serve::request_id next_id = 0;
};

}  // namespace

TEST_CASE_TEMPLATE(
    "serve/scheduler: the laws of a schedule policy hold", Policy, serve::continuous<>,
    serve::continuous<serve::chunked_prefill<9, 3>, serve::max_sequences<4>, serve::by_priority>,
    serve::continuous<serve::whole_prefill<8>, serve::max_sequences<3>, serve::fair_by_tenant>,
    serve::continuous<serve::whole_prefill<16>, serve::separate_phases, serve::shortest_remaining,
                      serve::delay<1500>>,
    ashlar::laws::in_turn) {
  ashlar::laws::check_schedule_policy<Policy>();
}

TEST_CASE("serve/scheduler: the laws hold where nobody gives way, in static batches, too") {
  ashlar::laws::check_schedule_policy<
      serve::continuous<serve::never_preempt, serve::static_batches, serve::max_sequences<5>>,
      true>();
}

TEST_CASE("serve/scheduler: running sequences come first, then waiting ones, under one budget") {
  bench<serve::chunked_prefill<8>> b(100);
  b.add(3);
  b.add(10);
  b.add(2);
  CHECK(b.step() == shares{{0, 3}, {1, 5}});
  CHECK(b.step() == shares{{0, 1}, {1, 5}, {2, 2}});
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 1}});
}

TEST_CASE(
    "serve/scheduler: without chunks a prompt is whole, and a second one must fit beside it") {
  bench<serve::whole_prefill<8>> b(100);
  b.add(3);
  b.add(6);
  b.add(20);
  b.add(1);
  CHECK(b.step() == shares{{0, 3}});  // 6 do not fit beside 3
  CHECK(b.step() == shares{{0, 1}, {1, 6}});
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 20}});
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 1}, {3, 1}});
}

TEST_CASE("serve/scheduler: the number of running sequences is limited") {
  bench<serve::max_sequences<2>> b(100);
  for (int i = 0; i < 3; ++i) {
    b.add(1);
  }
  CHECK(b.step() == shares{{0, 1}, {1, 1}});
  CHECK(b.queue.waiting() == 1);
  static_cast<void>(b.queue.remove(0));
  CHECK(b.step() == shares{{1, 1}, {2, 1}});
}

TEST_CASE("serve/scheduler: where blocks are short the newest gives way and comes back first") {
  bench<> b(4);  // 16 tokens
  b.add(4);
  b.add(4);
  b.add(4);
  b.add(1);
  CHECK(b.step() == shares{{0, 4}, {1, 4}, {2, 4}, {3, 1}});
  // Sequences 0, 1 and 2 want a second block: 3 gives way to 0, 2 to 1.
  CHECK(b.step() == shares{{0, 1}, {1, 1}});
  CHECK(b.last.preempted == 2);
  CHECK(b.queue.waiting() == 2);
  CHECK(b.pool.free() == 0);
  static_cast<void>(b.queue.remove(0));
  // 2 is computed again, its output included, and stands before 3, for which no block is left.
  CHECK(b.step() == shares{{1, 1}, {2, 5}});
  CHECK(b.last.preempted == 0);
  CHECK(b.queue.waiting() == 1);
}

TEST_CASE("serve/scheduler: nothing is admitted in a step that preempts") {
  bench<serve::chunked_prefill<5>> b(4);
  b.add(8);
  b.add(8);
  CHECK(b.step() == shares{{0, 5}});
  CHECK(b.step() == shares{{0, 3}, {1, 2}});
  // 0 takes a third block, 1 finds none for a second and gives way itself.
  CHECK(b.step() == shares{{0, 1}});
  CHECK(b.last.preempted == 1);
  CHECK(b.pool.free() == 1);  // enough for the next chunk of 1, but not in this step
  CHECK(b.step() == shares{{0, 1}, {1, 4}});
}

TEST_CASE("serve/scheduler: what can never fit is handed out, running or waiting") {
  bench<> b(2);
  b.add(9);
  b.add(8);
  CHECK(b.step() == shares{{1, 8}});
  REQUIRE(b.last.hopeless.size() == 1);
  CHECK(b.last.hopeless[0]->id == 0);
  b.add(5);
  CHECK(b.step() == shares{{2, 5}});  // 1 needs a ninth place, and leaves its blocks to 2
  REQUIRE(b.last.hopeless.size() == 1);
  CHECK(b.last.hopeless[0]->id == 1);
  static_cast<void>(b.queue.remove(2));
  b.last.hopeless.clear();
  CHECK(b.queue.empty());
  CHECK(b.pool.used() == 0);
  CHECK(b.step().empty());
}

TEST_CASE("serve/scheduler: prompts of one token share the budget, too") {
  bench<serve::whole_prefill<4>> b(100);
  for (int i = 0; i < 10; ++i) {
    b.add(1);
  }
  CHECK(b.step().size() == 4);
  CHECK(b.step().size() == 4);  // the same four go on
}

namespace {

/// A sequence of which nothing is known but how many tokens it has.
struct counted : serve::scheduled_sequence<kv::vllm_v0<4>> {
  using scheduled_sequence::scheduled_sequence;
  std::int32_t known = 0;
  [[nodiscard]] std::int32_t remaining() const { return known - computed; }
  [[nodiscard]] counted fork() const { return counted(*this); }
  counted(const counted& other) : scheduled_sequence(other.twin()), known(other.known) {}
};

template <class Policy>
struct counting_bench {
  kv::vllm_v0<4>::pool pool;
  typename Policy::template queue<counted> queue;
  serve::schedule<counted> plan;

  explicit counting_bench(kv::block_id blocks, kv::block_id host = 0)
      : pool(blocks, {.host_blocks = host}) {}

  counted& add(std::int32_t tokens, const serve::scheduling& asked) {
    auto s = std::make_unique<counted>(asked, pool);
    s->known = tokens;
    counted& here = *s;
    queue.add(std::move(s));
    return here;
  }
  shares next(double now = 0) {
    plan = queue.next(pool, now);
    queue.validate(pool);
    shares batch;
    for (const counted* s : plan.batch) {
      batch.emplace_back(s->id * 10 + static_cast<unsigned>(s->branch), s->scheduled);
    }
    return batch;
  }
  void compute() {
    for (counted* s : plan.batch) {
      const bool ends = s->scheduled >= s->remaining();
      serve::advance(*s);
      s->known += ends ? 1 : 0;
    }
    queue.validate(pool);
  }
  shares step() {
    auto batch = next();
    compute();
    return batch;
  }
};

}  // namespace

TEST_CASE("serve/scheduler: branches share blocks, copy before they write, and run together") {
  counting_bench<serve::continuous<serve::chunked_prefill<3>>> b(20);
  counted& first = b.add(6, {.id = 1, .branches = 3});
  CHECK(b.step() == shares{{10, 3}});
  CHECK(b.step() == shares{{10, 3}});
  counted& second = b.queue.fork(first);
  CHECK(b.queue.fork(second).branch == 2);
  CHECK_THROWS_AS(b.queue.fork(first), ashlar::argument_error);
  CHECK(b.pool.used() == 2);
  CHECK(b.next() == shares{{10, 1}, {11, 1}, {12, 1}});
  CHECK(b.plan.copies.size() == 2);  // the last of the three writes to the block itself
  CHECK(b.plan.copied == std::vector<serve::request_id>{1});
  CHECK(b.pool.used() == 4);
  b.compute();
  b.add(2, {.id = 2});
  CHECK(b.step() == shares{{10, 1}, {11, 1}, {12, 1}});
  CHECK(b.plan.copies.empty());
  CHECK(b.queue.drop(first)->branch == 0);
  CHECK(b.step() == shares{{11, 1}, {12, 1}, {20, 1}});
  // A budget of three is not for two branches and half of them: both wait for their turn.
  CHECK(b.queue.remove(1).size() == 2);
  CHECK(b.queue.state(1) == std::nullopt);
  CHECK(b.queue.state(2) == serve::request_state::running);
  CHECK_THROWS_AS(b.add(1, {.id = 3, .branches = 4}), ashlar::argument_error);
  CHECK_THROWS_AS(b.add(1, {.id = 2}), ashlar::argument_error);
}

TEST_CASE("serve/scheduler: branches that gave way share their beginning again") {
  counting_bench<serve::continuous<serve::chunked_prefill<16>>> b(8);  // 32 tokens
  counted& rival = b.add(4, {.id = 1});
  counted& first = b.add(13, {.id = 2, .branches = 3});
  CHECK(b.step() == shares{{10, 4}, {20, 12}});
  CHECK(b.step() == shares{{10, 1}, {20, 1}});
  b.queue.fork(first);
  b.queue.fork(first);
  CHECK(b.step() == shares{{10, 1}, {20, 1}, {21, 1}, {22, 1}});
  CHECK(b.pool.used() == 2 + 3 + 3);
  CHECK(b.step() == shares{{10, 1}, {20, 1}, {21, 1}, {22, 1}});
  rival.known += 1;  // two tokens, one block more
  CHECK(b.step() == shares{{10, 2}});
  CHECK(b.plan.preempted == 1);
  CHECK(b.queue.state(2) == serve::request_state::preempted);
  // The prompt once, then for each branch what it has of its own.
  CHECK(b.next() == shares{{10, 1}, {20, 13}});
  b.compute();
  static_cast<void>(b.queue.remove(1));
  CHECK(b.step() == shares{{20, 3}, {21, 3}, {22, 3}});
  CHECK(b.pool.used() == 3 + 3);
}

TEST_CASE("serve/scheduler: branches that outgrew the pool while they waited are handed out") {
  using cache = kv::vllm_v1<2>;
  using own = serve::sequence<cache>;
  cache::pool pool(9);  // one stands for none
  serve::continuous<serve::whole_prefill<16>>::queue<own> queue;
  const auto add = [&](serve::request_id id, std::size_t tokens, std::int32_t branches) {
    queue.add(std::make_unique<own>(serve::scheduling{.id = id, .branches = branches},
                                    serve::request{.tokens = std::vector<serve::token>(tokens, 1)},
                                    0, pool));
  };
  const auto step = [&] {
    auto plan = queue.next(pool);
    for (own* s : plan.batch) {
      serve::advance(*s);
    }
    return plan;
  };
  add(0, 1, 1);
  add(1, 4, 3);
  CHECK(step().batch.size() == 2);
  static_cast<void>(queue.fork(*queue.branches(1).front()));
  static_cast<void>(queue.fork(*queue.branches(1).front()));
  // Each of three branches comes to nine tokens, of which six are computed.
  for (const std::size_t more : {1u, 1u, 3u}) {
    for (std::size_t i = 0; i < 3; ++i) {
      auto& tokens = queue.branches(1)[i]->tokens;
      tokens.insert(tokens.end(), more, static_cast<serve::token>(2 + i));
    }
    if (more == 1) {
      CHECK(step().batch.size() == 3);
    }
  }
  queue.branches(0).front()->tokens.insert(queue.branches(0).front()->tokens.end(), 2, 1);
  CHECK(step().preempted == 1);
  queue.remove(0);
  CHECK(pool.used() == 0);
  // Two blocks in common and three of its own for each are eleven, of eight; some are still known,
  // and those that are missing would fit alone.
  CHECK(step().hopeless.size() == 3);
  CHECK(queue.empty());
  queue.validate(pool);
}

TEST_CASE("serve/scheduler: where branches do not fit into a budget, those behind them do") {
  bench<serve::chunked_prefill<8>> b(100);
  for (int i = 0; i < 5; ++i) {
    b.add(1);
  }
  b.step();
  b.queue.add(std::make_unique<sequence>(serve::scheduling{.id = b.next_id++, .branches = 4},
                                         serve::request{.tokens = std::vector<serve::token>(3, 1)},
                                         0, b.pool));
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 3}});
  for (int i = 0; i < 3; ++i) {
    b.queue.fork(*b.queue.branches(5).front());
  }
  b.add(2);
  b.add(2);
  // Five of eight tokens are taken: too few are left for four branches.
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {6, 2}, {7, 1}});
  CHECK(b.step() == shares{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {6, 1}, {7, 1}});
  b.queue.remove(0);
  CHECK(b.step() == shares{{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {5, 1}, {5, 1}, {5, 1}});
  CHECK(b.step() == shares{{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {5, 1}, {5, 1}, {5, 1}});
  b.queue.validate(b.pool);
}

TEST_CASE("serve/scheduler: swapped requests keep what they have and return before newcomers") {
  counting_bench<serve::continuous<serve::preempt_by_swap>> b(4, 2);
  b.add(4, {.id = 1});
  b.add(7, {.id = 2});
  b.add(4, {.id = 3});
  CHECK(b.step() == shares{{10, 4}, {20, 7}, {30, 4}});
  CHECK(b.next() == shares{{10, 1}, {20, 1}});
  CHECK(b.queue.state(3) == serve::request_state::swapped);
  REQUIRE(b.plan.copies.size() == 1);
  CHECK(b.plan.copies[0].to_place == kv::tier::host);
  CHECK(b.pool.host.host().used() == 1);
  b.compute();
  b.add(1, {.id = 4});
  CHECK(b.step() == shares{{10, 1}});  // 2 gives way, one block is left on the host: computed again
  CHECK(b.queue.state(2) == serve::request_state::preempted);
  static_cast<void>(b.queue.remove(1));
  CHECK(b.next() == shares{{30, 1}});  // nothing is left for the other two
  CHECK(b.plan.copies.size() == 1);
  CHECK(b.queue.statistics().swapped_in == 1);
  CHECK(b.queue.statistics().blocks_swapped == 2);

  b.queue.lose(b.plan, b.pool);  // the copy failed: nothing of 3 is left
  b.queue.validate(b.pool);
  CHECK(b.queue.state(3) == serve::request_state::preempted);
  CHECK(b.pool.used() == 0);
  CHECK(b.step() == shares{{20, 9}});
}

TEST_CASE("serve/scheduler: drafts and lookahead take places, and give them back") {
  counting_bench<serve::continuous<serve::chunked_prefill<8>>> b(7);
  counted& s = b.add(4, {.id = 1});
  s.drafts = 9;
  CHECK(b.next() == shares{{10, 8}});  // within the budget
  CHECK(s.drafts == 4);
  CHECK(b.pool.used() == 2);
  serve::advance(s, 3);  // one of four was right
  s.known += 2;
  CHECK(s.computed == 5);
  CHECK(b.pool.used() == 2);
  s.drafts = 3;
  s.lookahead = 6;
  CHECK(b.next() == shares{{10, 4}});
  CHECK(b.pool.used() == 4);  // 5 + 4, and 6 behind them
  serve::advance(s, 3);
  s.known += 1;
  CHECK(b.pool.used() == 2);

  counted& other = b.add(16, {.id = 2});
  CHECK(b.step() == shares{{10, 1}, {20, 7}});
  CHECK(b.pool.used() == 2 + 2 + 2);
  s.drafts = 5;
  s.lookahead = 0;
  other.drafts = 2;
  // Places that stood ready are used; a prompt that is not at its end has no drafts.
  CHECK(b.next() == shares{{10, 6}, {20, 2}});
  CHECK(b.plan.preempted == 0);
  CHECK(other.drafts == 0);
  serve::rewind(s);
  serve::rewind(other);
  CHECK(s.computed == 7);
  s.drafts = 7;
  CHECK(b.next() == shares{{10, 8}});
}

TEST_CASE("serve/scheduler: a draft gives way before anybody does") {
  counting_bench<serve::continuous<>> b(4);
  counted& a = b.add(7, {.id = 1});
  b.add(7, {.id = 2});
  CHECK(b.step() == shares{{10, 7}, {20, 7}});
  a.drafts = 2;
  CHECK(b.step() == shares{{10, 1}, {20, 1}});
  CHECK(b.plan.preempted == 0);
}

TEST_CASE("serve/scheduler: orders decide who is next and who gives way") {
  const std::vector<serve::scheduling> four{
      {.id = 1, .most_tokens = 40, .priority = 2, .tenant = 7},
      {.id = 2, .most_tokens = 10, .priority = 1, .tenant = 7},
      {.id = 3, .most_tokens = 30, .priority = 2, .tenant = 8},
      {.id = 4, .most_tokens = 20, .priority = 0, .tenant = 7}};
  using ids = std::vector<serve::request_id>;
  using one_prompt = serve::whole_prefill<4>;
  const auto firsts = [&](auto policy) {  // one request per step, as each fills the budget
    counting_bench<decltype(policy)> b(40);
    for (const auto& s : four) {
      b.add(4, s);
    }
    ids order;
    for (int i = 0; i < 4; ++i) {
      order.push_back(b.step().front().first / 10);
      static_cast<void>(b.queue.remove(order.back()));
    }
    return order;
  };
  CHECK(firsts(serve::continuous<one_prompt>{}) == ids{1, 2, 3, 4});
  CHECK(firsts(serve::continuous<one_prompt, serve::by_priority>{}) == ids{4, 2, 1, 3});
  CHECK(firsts(serve::continuous<one_prompt, serve::shortest_remaining>{}) == ids{2, 4, 3, 1});
  CHECK(firsts(serve::continuous<one_prompt, serve::fair_by_tenant>{}) == ids{1, 3, 2, 4});

  const auto loser = [&](auto policy) {
    counting_bench<decltype(policy)> b(4);
    for (const auto& s : four) {
      b.add(4, s);
    }
    CHECK(b.step().size() == 4);
    b.next();
    ids gone;
    for (const auto& s : four) {
      if (b.queue.state(s.id) == serve::request_state::preempted) {
        gone.push_back(s.id);
      }
    }
    return gone;
  };
  CHECK(loser(serve::continuous<>{}) == ids{3, 4});
  CHECK(loser(serve::continuous<serve::by_priority>{}) == ids{1, 3});
  CHECK(loser(serve::continuous<serve::shortest_remaining>{}) == ids{1, 3});
  CHECK(loser(serve::continuous<serve::fair_by_tenant>{}) == ids{2, 4});
}

TEST_CASE("serve/scheduler: tenants do not take each other's blocks in turn for ever") {
  bench<serve::chunked_prefill<4>, serve::fair_by_tenant> b(9);
  for (std::uint32_t tenant = 0; tenant < 3; ++tenant) {
    b.queue.add(std::make_unique<sequence>(
        serve::scheduling{.id = b.next_id++, .branches = 2, .tenant = tenant},
        serve::request{.tokens = std::vector<serve::token>(12, 1)}, 0, b.pool));
  }
  int steps = 0;
  for (; steps < 300 && !b.queue.empty(); ++steps) {
    b.step();
    CHECK(b.last.hopeless.empty());
    for (sequence* s : b.last.batch) {
      if (s->generated() == 1 && b.queue.branches(s->id).size() == 1) {
        b.queue.fork(*s);
      } else if (s->generated() > 10) {
        static_cast<void>(b.queue.drop(*s));
      }
    }
  }
  CHECK(steps < 300);
}

TEST_CASE("serve/scheduler: a tenant who pauses saves nothing up") {
  counting_bench<serve::continuous<serve::whole_prefill<4>, serve::fair_by_tenant>> b(100);
  serve::request_id next = 0;
  for (int i = 0; i < 6; ++i) {  // tenant 1 alone
    b.add(4, {.id = next++, .tenant = 1});
  }
  for (int i = 0; i < 3; ++i) {
    const auto id = b.step().front().first / 10;
    static_cast<void>(b.queue.remove(id));
  }
  for (int i = 0; i < 3; ++i) {
    b.add(4, {.id = next++, .tenant = 2});
  }
  std::vector<std::uint32_t> turns;
  for (int i = 0; i < 6; ++i) {
    const auto id = b.step().front().first / 10;
    turns.push_back(id < 6 ? 1 : 2);
    static_cast<void>(b.queue.remove(id));
  }
  CHECK(turns == std::vector<std::uint32_t>{1, 2, 1, 2, 1, 2});
}

TEST_CASE("serve/scheduler: phases are apart, static batches closed, and newcomers can wait") {
  counting_bench<serve::vllm_v0<8, 4>> v0(20);
  v0.add(3, {.id = 1});
  v0.add(6, {.id = 2});
  CHECK(v0.step() == shares{{10, 3}});
  CHECK(v0.step() == shares{{20, 6}});
  CHECK(v0.step() == shares{{10, 1}, {20, 1}});
  v0.add(2, {.id = 3});
  CHECK(v0.step() == shares{{30, 2}});
  CHECK(v0.step() == shares{{10, 1}, {20, 1}, {30, 1}});

  counting_bench<serve::continuous<serve::static_batches, serve::max_sequences<2>>> closed(20);
  for (serve::request_id id = 1; id < 5; ++id) {
    closed.add(2, {.id = id});
  }
  CHECK(closed.step() == shares{{10, 2}, {20, 2}});
  static_cast<void>(closed.queue.remove(1));
  CHECK(closed.step() == shares{{20, 1}});
  static_cast<void>(closed.queue.remove(2));
  CHECK(closed.step() == shares{{30, 2}, {40, 2}});

  counting_bench<serve::continuous<serve::delay<500>>> patient(20);
  patient.add(2, {.id = 1, .arrival = 1});
  CHECK(patient.next(1) == shares{{10, 2}});
  patient.compute();
  patient.add(2, {.id = 2, .arrival = 4});
  CHECK(patient.next(5) == shares{{10, 1}});  // the prompt's step took 4, and 2 has waited for 1
  patient.compute();
  CHECK(patient.next(6) == shares{{10, 1}});
  patient.compute();
  CHECK(patient.next(6.5) == shares{{10, 1}, {20, 2}});
}

TEST_CASE("serve/scheduler: who is promised blocks gets them") {
  counting_bench<serve::continuous<serve::never_preempt>> b(6);
  b.add(2, {.id = 1, .most_tokens = 12});
  b.add(2, {.id = 2, .most_tokens = 8, .branches = 2});
  b.add(2, {.id = 3, .most_tokens = 4});
  b.add(2, {.id = 4, .most_tokens = 25});
  CHECK(b.step() == shares{{10, 2}});  // 3 of 6 blocks are promised, 4 wanted
  static_cast<void>(b.queue.remove(1));
  CHECK(b.step() == shares{{20, 2}, {30, 2}});
  REQUIRE(b.plan.hopeless.size() == 1);
  CHECK(b.plan.hopeless[0]->id == 4);
  for (int i = 0; i < 2; ++i) {
    CHECK(b.step() == shares{{20, 1}, {30, 1}});
  }
  CHECK(b.plan.preempted == 0);
}

TEST_CASE("serve/scheduler: ten thousand wait while a thousand run, and any of them may leave") {
  counting_bench<serve::continuous<serve::chunked_prefill<8192>, serve::max_sequences<1000>>> b(
      4000);
  for (serve::request_id id = 0; id < 11'000; ++id) {
    b.add(4 + static_cast<std::int32_t>(id % 5), {.id = id, .most_tokens = 12});
  }
  std::size_t ended = 0;
  std::size_t aborted = 0;
  for (serve::request_id step = 0; !b.queue.empty(); ++step) {
    b.plan = b.queue.next(b.pool);
    CHECK(b.queue.running().size() <= 1000);
    for (counted* s : b.plan.batch) {
      serve::advance(*s);
      if (s->remaining() == 0 && ++s->known == s->most_tokens) {
        static_cast<void>(b.queue.drop(*s));
        ++ended;
      }
    }
    for (serve::request_id id = step; id < 11'000; id += 97) {
      aborted += b.queue.remove(id).size();
    }
  }
  CHECK(ended + aborted == 11'000);
  CHECK(aborted > 1000);
  CHECK(b.queue.statistics().most_running == 1000);
  CHECK(b.queue.statistics().most_waiting == 11'000);
  CHECK(b.pool.used() == 0);
}
