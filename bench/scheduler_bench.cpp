// SPDX-License-Identifier: Apache-2.0
// What a scheduler's decision costs: one step of `running` requests that decode, with `waiting`
// ones in line. A step is `next` and `advance`, the end of those who are done and the coming of as
// many.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"

#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "figures of a Debug build mean nothing; use the preset `bench`"
#endif

namespace {

namespace kv = ashlar::kv;
namespace serve = ashlar::serve;

/// Prompts of 100 to 222 tokens and as many generated, in blocks of 16; the cache holds all who
/// run.
template <class Cache, class Policy>
void steps(benchmark::State& state, std::size_t running, std::size_t waiting) {
  using sequence = serve::sequence<Cache>;
  typename Cache::pool pool(static_cast<kv::block_id>(running * 30 + 2), {.host_blocks = 64});
  typename Policy::template queue<sequence> queue;
  std::mt19937 random(1);
  serve::request_id next = 0;
  const auto add = [&] {
    const auto length = [&random] { return static_cast<std::int32_t>(100 + random() % 123); };
    const std::int32_t prompt = length();
    const serve::scheduling asked{.id = next,
                                  .most_tokens = prompt + length(),
                                  .priority = static_cast<std::int32_t>(random() % 3),
                                  .tenant = static_cast<std::uint32_t>(random() % 7)};
    serve::request r{.tokens = std::vector<serve::token>(static_cast<std::size_t>(prompt))};
    for (serve::token& t : r.tokens) {
      t = static_cast<serve::token>(random() % 32000);
    }
    auto s = std::make_unique<sequence>(asked, std::move(r), next++, pool);
    s->tokens.reserve(static_cast<std::size_t>(asked.most_tokens));
    queue.add(std::move(s));
  };
  std::size_t here = 0;
  std::int64_t ended = 0;
  const auto step = [&] {
    for (; here < running + waiting; ++here) {
      add();
    }
    auto plan = queue.next(pool);
    for (sequence* s : plan.batch) {
      serve::advance(*s);
      if (s->remaining() > 0) {
        continue;
      }
      s->tokens.push_back(7);
      if (static_cast<std::int32_t>(s->tokens.size()) == s->most_tokens) {
        benchmark::DoNotOptimize(queue.drop(*s));
        --here;
        ++ended;
      }
    }
    benchmark::DoNotOptimize(plan.batch.data());
  };
  while (ended < static_cast<std::int64_t>(2 * running)) {  // lengths are mixed by then
    step();
  }
  ended = 0;
  std::size_t batched = 0;
  for (auto _ : state) {
    step();
    batched += queue.running().size();
  }
  const auto count = static_cast<double>(state.iterations());
  state.counters["batch"] = static_cast<double>(batched) / count;
  state.counters["ended"] = static_cast<double>(ended) / count;
}

template <int Running, class... Policies>
using decoding =
    serve::continuous<serve::chunked_prefill<8192>, serve::max_sequences<Running>, Policies...>;

template <int Running>
void add_size(std::size_t waiting) {
  const auto add = [&](const char* impl, auto run) {
    const std::string name = "scheduler/running:" + std::to_string(Running) +
                             "/waiting:" + std::to_string(waiting) + "/impl:" + impl;
    benchmark::RegisterBenchmark(name.c_str(), [run, waiting](benchmark::State& s) {
      run(s, std::size_t{Running}, waiting);
    })->Unit(benchmark::kMicrosecond);
  };
  add("ashlar", steps<kv::paged<16>, decoding<Running>>);
  add("ashlar_vllm_v1", steps<kv::vllm_v1<16>, decoding<Running>>);
  add("ashlar_by_priority", steps<kv::paged<16>, decoding<Running, serve::by_priority>>);
  add("ashlar_fair", steps<kv::paged<16>, decoding<Running, serve::fair_by_tenant>>);
}

/// One runs, and each time the head of the line finds its beginning in the cache and no room for
/// the rest: all blocks but those that it would share are in use.
void starved_head(benchmark::State& state, std::int32_t prompt) {
  using cache = kv::vllm_v1<16>;
  using sequence = serve::sequence<cache>;
  const auto known = static_cast<kv::block_id>(kv::blocks_for(prompt, 16) - 2);
  cache::pool pool(known + 4);  // the null block, one of others, one of who runs, and one free
  std::vector<serve::token> tokens(static_cast<std::size_t>(prompt));
  std::mt19937 random(1);
  for (serve::token& t : tokens) {
    t = static_cast<serve::token>(random() % 32000);
  }
  serve::schedule_queue<sequence, serve::chunked_prefill<8192>> queue;
  queue.add(std::make_unique<sequence>(serve::scheduling{.id = 0}, serve::request{.tokens = {1}}, 0,
                                       pool));
  {
    cache::table before(pool, 16);
    before.append(known * 16);
    before.publish(std::span(tokens).first(static_cast<std::size_t>(known) * 16));
    const auto first = queue.next(pool);  // takes a block of its own
    benchmark::DoNotOptimize(first.batch.data());
    serve::rewind(*queue.branches(0).front());
  }
  cache::table others(pool, 16);
  others.append(16);
  queue.add(std::make_unique<sequence>(serve::scheduling{.id = 1}, serve::request{.tokens = tokens},
                                       0, pool));
  for (auto _ : state) {
    auto plan = queue.next(pool);
    benchmark::DoNotOptimize(plan.batch.data());
    for (sequence* s : plan.batch) {
      serve::rewind(*s);
    }
  }
  state.counters["running"] = static_cast<double>(queue.running().size());
  state.counters["found"] = static_cast<double>(pool.prefixes.find(tokens).size());
}

[[maybe_unused]] const bool registered = [] {
  for (const std::int32_t prompt : {200, 2000}) {
    benchmark::RegisterBenchmark(
        ("scheduler/starved_head/prompt:" + std::to_string(prompt) + "/impl:ashlar").c_str(),
        [prompt](benchmark::State& s) { starved_head(s, prompt); })
        ->Unit(benchmark::kMicrosecond);
  }
  add_size<256>(0);
  add_size<256>(10000);
  add_size<1000>(10000);
  return true;
}();

}  // namespace
