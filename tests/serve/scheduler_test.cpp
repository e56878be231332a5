// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/scheduler.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

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
    queue.add(std::make_unique<sequence>(next_id++, std::move(r), 0, pool));
  }
  /// Plans a step and plays the model: finished prompts get one more token.
  shares step() {
    last = queue.next(pool);
    shares batch;
    for (sequence* s : last.batch) {
      batch.emplace_back(s->id, s->scheduled);
      s->computed += s->scheduled;
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

TEST_CASE_TEMPLATE("serve/scheduler: the laws of a schedule policy hold", Policy,
                   serve::continuous<>,
                   serve::continuous<serve::chunked_prefill<3>, serve::max_sequences<4>>,
                   serve::continuous<serve::whole_prefill<8>, serve::max_sequences<3>>,
                   ashlar::laws::in_turn) {
  ashlar::laws::check_schedule_policy<Policy>();
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
