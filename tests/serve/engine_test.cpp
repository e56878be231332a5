// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/engine.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/schedule_log.hpp"
#include "fake_model.hpp"
#include "laws/schedule_policy.hpp"

namespace kv = ashlar::kv;
namespace serve = ashlar::serve;
using serve::finish_reason;
using serve::token;
using serve::testing::fake_model;

static_assert(serve::LanguageModel<fake_model>);
static_assert(serve::SchedulePolicy<serve::continuous<>>);

namespace {

/// Prompts of many lengths, some random, some greedy, one with penalty and min_p.
std::vector<serve::request> requests() {
  std::vector<serve::request> all;
  std::mt19937 random(3);
  for (int i = 0; i < 12; ++i) {
    serve::request r;
    const int length = i == 0 ? 1 : 1 + static_cast<int>(random() % 40);
    for (int t = 0; t < length; ++t) {
      r.tokens.push_back(static_cast<token>(random() % 23));
    }
    r.max_tokens = 1 + static_cast<int>(random() % 30);
    if (i % 3 == 1) {
      r.sampling = {.temperature = 0.8, .top_k = 9, .top_p = 0.9, .seed = 5};
    } else if (i % 3 == 2) {
      r.sampling = {.temperature = 1.3, .min_p = 0.01, .repetition_penalty = 1.2};
    }
    all.push_back(std::move(r));
  }
  return all;
}

/// One request, no engine, no cache, every logit from the start.
std::vector<token> naive(const serve::request& r, std::uint64_t seed, int context = 96,
                         std::size_t window = 96, std::uint64_t adapter = 0) {
  std::vector<token> tokens = r.tokens;
  serve::vllm_sampler sample;
  while (std::ssize(tokens) < std::ssize(r.tokens) + r.max_tokens && std::ssize(tokens) < context) {
    tokens.push_back(sample(serve::testing::naive_logits(tokens, 23, window, adapter), r.sampling,
                            {tokens, {}, r.sampling.seed.value_or(seed)}));
  }
  return {tokens.begin() + std::ssize(r.tokens), tokens.end()};
}

std::vector<serve::request> seeded() {
  auto all = requests();
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].sampling.seed = 100 + i;
  }
  return all;
}

// Few types: each one compiles the whole engine again.
using plain = serve::engine<fake_model>;
using one_at_a_time = serve::engine<fake_model, serve::continuous<serve::max_sequences<1>>>;
using blocks_of_4 = serve::engine<fake_model, kv::paged<4>>;
using chunks = serve::engine<fake_model,
                             serve::continuous<serve::chunked_prefill<11>, serve::max_sequences<4>>,
                             kv::paged<4>>;
using token_by_token =
    serve::engine<fake_model, kv::paged<1>, serve::continuous<serve::chunked_prefill<1>>>;
using whole_prompts =
    serve::engine<fake_model, serve::continuous<serve::whole_prefill<16>>, kv::paged<7>>;
/// Blocks of 4, said when it is made.
struct remembering
    : serve::engine<fake_model, kv::vllm_v1<kv::at_run_time>,
                    serve::recording<serve::continuous<serve::chunked_prefill<11>>>> {
  explicit remembering(fake_model& model, serve::engine_options options = {})
      : engine(model, (options.block_tokens = 4, options)) {}
};
using any_blocks = serve::engine<fake_model, kv::paged<kv::at_run_time>>;
using as_v0 = serve::engine<fake_model, kv::vllm_v0<4>, serve::vllm_v0<16, 4>>;
using swapping =
    serve::engine<fake_model, kv::vllm_v0<4>,
                  serve::continuous<serve::chunked_prefill<11>, serve::preempt_by_swap>>;
using windowed = serve::engine<fake_model, kv::paged<4, kv::sliding_window<8>>,
                               serve::recording<serve::continuous<serve::chunked_prefill<8>>>>;
/// A schedule policy with nothing but what the concept asks.
using in_turn = serve::engine<fake_model, ashlar::laws::in_turn>;

template <class Engine>
void check_against_naive(std::int64_t cache_tokens, bool preempts = false,
                         std::int32_t block_tokens = 0) {
  const auto wishes = seeded();
  fake_model model;
  Engine engine(model, {.cache_tokens = cache_tokens, .block_tokens = block_tokens});
  for (const auto& r : wishes) {
    engine.submit(r);
  }
  const auto results = engine.run();
  CAPTURE(cache_tokens);
  CAPTURE(block_tokens);
  REQUIRE(results.size() == wishes.size());
  for (std::size_t i = 0; i < wishes.size(); ++i) {
    CAPTURE(i);
    CHECK(results[i].id == i);
    CHECK(results[i].reason == finish_reason::length);
    CHECK(results[i].tokens == naive(wishes[i], 0));
  }
  CHECK((engine.statistics().preemptions > 0) == preempts);
  CHECK(engine.statistics().blocks_used == 0);
}

std::string field_of(auto& engine, const serve::request& r) {
  try {
    engine.submit(r);
  } catch (const serve::invalid_request& e) {
    return e.field;
  }
  return "accepted";
}

}  // namespace

TEST_CASE("serve/engine: a batch gives each request the tokens that it gets alone") {
  check_against_naive<one_at_a_time>(2048);
  check_against_naive<plain>(2048);
  check_against_naive<in_turn>(2048);
}

TEST_CASE("serve/engine: chunks of a prompt give the same tokens as the whole prompt") {
  check_against_naive<chunks>(2048);
  check_against_naive<token_by_token>(2048);
  check_against_naive<whole_prompts>(2048);
}

TEST_CASE("serve/engine: block sizes do not change tokens, nor does a cache without pages") {
  check_against_naive<blocks_of_4>(2048);
  for (const std::int32_t tokens : {1, 2, 3, 4, 5, 7, 16, 31, 48, 95, 96, 97, 1000}) {
    check_against_naive<any_blocks>(12 * std::max(96, tokens), false, tokens);
  }
}

TEST_CASE("serve/engine: a block size of run time makes the steps of the same constant") {
  const auto count = [](auto& engine) {
    for (const auto& r : seeded()) {
      engine.submit(r);
    }
    const auto s = (engine.run(), engine.statistics());
    return std::tuple(s.steps, s.preemptions, s.blocks, s.blocks_peak, s.waste_mean);
  };
  fake_model model;
  blocks_of_4 constant(model, {.cache_tokens = 112, .block_tokens = 4});
  any_blocks value(model, {.cache_tokens = 112, .block_tokens = 4});
  const auto expected = count(constant);
  CHECK(std::get<1>(expected) > 0);
  CHECK(count(value) == expected);
  CHECK(any_blocks(model).statistics().blocks == 4 * 96 / 16);
  remembering::engine large(model, {.block_tokens = 500});  // and a null block
  large.submit({.tokens = {9}, .max_tokens = 3});
  CHECK(large.run().at(0).tokens == naive({.tokens = {9}, .max_tokens = 3}, 0));
  CHECK_THROWS_AS(any_blocks(model, {.block_tokens = -1}), ashlar::argument_error);
  CHECK_THROWS_AS(blocks_of_4(model, {.block_tokens = 8}), ashlar::argument_error);
}

TEST_CASE("serve/engine: a preempted request gives the same tokens as one that was not") {
  check_against_naive<blocks_of_4>(112, true);
  check_against_naive<chunks>(72, true);
  check_against_naive<whole_prompts>(77, true);
}

TEST_CASE(
    "serve/engine: a request that was swapped out gives the same tokens, failed copies or not") {
  check_against_naive<as_v0>(112, true);
  check_against_naive<swapping>(112, true);
  const auto wishes = seeded();
  for (const int bad_copy : {0, 3, 20}) {
    fake_model model{.fail_copy_at = bad_copy};
    swapping engine(model, {.cache_tokens = 112, .host_tokens = 60});
    for (const auto& r : wishes) {
      engine.submit(r);
    }
    int thrown = 0;
    for (bool more = true; more;) {
      try {
        more = engine.step();
      } catch (const std::runtime_error&) {
        ++thrown;
      }
    }
    CHECK(thrown == 1);
    const auto results = engine.run();
    REQUIRE(results.size() == wishes.size());
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      CHECK(results[i].tokens == naive(wishes[i], 0));
    }
    CHECK(engine.statistics().copied_blocks > 0);
    CHECK(engine.statistics().blocks_used == 0);
    const auto& s = engine.scheduler().statistics();
    CHECK(s.swapped_in > 0);
    CHECK(s.recomputed > 0);  // the host is small
  }
}

TEST_CASE("serve/engine: behind a window a sequence may be longer than the cache") {
  fake_model model{.seen = 7};
  CHECK_THROWS_AS(windowed(model = fake_model{.seen = 8}), ashlar::argument_error);
  model = fake_model{.seen = 7};
  windowed engine(model, {.cache_tokens = 44});
  auto wishes = seeded();
  wishes[3].tokens.resize(60, 5);
  for (const auto& r : wishes) {
    engine.submit(r);
  }
  const auto results = engine.run();
  for (std::size_t i = 0; i < wishes.size(); ++i) {
    CHECK(results[i].tokens == naive(wishes[i], 0, 96, 8));
  }
  CHECK(engine.statistics().blocks_used == 0);
  CHECK(engine.statistics().preemptions > 0);

  using cache = kv::paged<4, kv::sliding_window<8>>;
  cache::pool pool(11);
  using schedule = serve::continuous<serve::chunked_prefill<8>>;
  const auto& log = engine.scheduler().log();
  CHECK(serve::replay<schedule, cache>(log, pool) ==
        static_cast<std::size_t>(engine.scheduler().statistics().steps));
  cache::pool larger(12);
  CHECK_THROWS_AS((serve::replay<schedule, cache>(log, larger)), serve::replay_difference);
}

TEST_CASE("serve/engine: what a prefix cache knows is not computed again, and changes no token") {
  auto wishes = seeded();
  for (std::size_t i = 0; i < wishes.size(); ++i) {  // a common beginning, in blocks of 4
    auto& t = wishes[i].tokens;
    t.insert(t.begin(), 10, 3);
  }
  for (const std::int64_t room : {2048, 100}) {  // and where blocks are short
    fake_model model;
    remembering engine(model, {.cache_tokens = room});
    std::int64_t cold = 0;
    for (int round = 0; round < 3; ++round) {
      for (const auto& r : wishes) {
        engine.submit(r);
      }
      const auto results = engine.run();
      REQUIRE(results.size() == wishes.size());
      for (std::size_t i = 0; i < wishes.size(); ++i) {
        CHECK(results[i].tokens == naive(wishes[i], 0));
      }
      const auto s = engine.statistics();
      CHECK(s.blocks_used == 0);
      if (round == 0) {
        cold = s.computed_tokens;
        CHECK((s.preemptions > 0) == (room == 100));
      }
    }
    const auto s = engine.statistics();
    CHECK(s.prefix_hit_rate > 0);
    if (room == 2048) {  // all prompts are known, but for their last blocks
      CHECK(s.computed_tokens - cold < cold);
      CHECK(s.prefix_hit_rate > 0.5);
    }
  }
}

TEST_CASE("serve/engine: with a prefix cache a log is played again with forks and whole prompts") {
  fake_model model;
  remembering engine(model, {.cache_tokens = 400});
  for (int round = 0; round < 3; ++round) {
    // After a whole number of blocks a sibling's first token begins a block of its own.
    for (const std::size_t length : {20u, 23u}) {
      const std::vector<token> prompt(length, 3);
      engine.submit(
          {.tokens = prompt, .max_tokens = 9, .sampling = {.temperature = 1.5, .seed = 8}, .n = 3});
      engine.submit({.tokens = prompt, .max_tokens = 9, .prompt_logprobs = 0});
      const auto results = engine.run();
      REQUIRE(results.size() == 4);
      // What a sibling said is known to those who come.
      auto longer = prompt;
      longer.insert(longer.end(), results[1].tokens.begin(), results[1].tokens.end());
      engine.submit({.tokens = longer, .max_tokens = 2});
      engine.run();
    }
  }
  CHECK(engine.statistics().prefix_hit_rate > 0);
  using schedule = serve::continuous<serve::chunked_prefill<11>>;
  kv::vllm_v1<4>::pool pool(100);
  CHECK(serve::replay<schedule, kv::vllm_v1<4>>(engine.scheduler().log(), pool) ==
        static_cast<std::size_t>(engine.scheduler().statistics().steps));
}

TEST_CASE(
    "serve/engine: where blocks only fill, completions share full ones and compute the rest") {
  for (const std::int64_t room : {2048, 104}) {
    CAPTURE(room);
    fake_model model;
    remembering engine(model, {.cache_tokens = room});
    serve::request three{.tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18},
                         .max_tokens = 20,
                         .sampling = {.temperature = 1, .seed = 77}};
    three.n = 3;
    engine.submit(three);
    engine.submit({.tokens = {3}, .max_tokens = 30});
    const auto results = engine.run();
    REQUIRE(results.size() == 4);
    for (std::size_t b = 0; b < 3; ++b) {
      auto alone = three;
      alone.sampling.seed = serve::branch_seed(77, b);
      CHECK(results[b].branch == static_cast<int>(b));
      CHECK(results[b].tokens == naive(alone, 0));
    }
    CHECK(results[3].tokens == naive({.tokens = {3}, .max_tokens = 30}, 0));
    const auto s = engine.statistics();
    CHECK(s.copied_blocks == 0);
    CHECK(s.blocks_used == 0);
    CHECK((s.preemptions > 0) == (room == 104));
    if (room == 2048) {  // four blocks of the prompt once, its last two tokens three times
      CHECK(s.computed_tokens == 18 + 3 * 19 + 2 * 2 + 1 + 29);
      CHECK(s.sharing_mean > 0.1);
    }

    // A beam's sequences fork at every step.
    const serve::request wide{.tokens = three.tokens, .max_tokens = 20, .beam_width = 3};
    engine.submit(wide);
    plain other(model);
    other.submit(wide);
    const auto found = engine.run();
    const auto expected = other.run();
    REQUIRE(found.size() == 3);
    for (std::size_t b = 0; b < 3; ++b) {
      CHECK(found[b].tokens == expected[b].tokens);
      CHECK(found[b].score == expected[b].score);
    }
    CHECK(engine.statistics().copied_blocks == 0);
    CHECK(engine.statistics().blocks_used == 0);
  }
}

TEST_CASE("serve/engine: where blocks only fill, completions that gave way share full ones again") {
  // Each needs ten blocks in the end, the three of them 4 + 3 * 6 of the 25; the older one needs 8.
  for (const bool tells : {false, true}) {
    CAPTURE(tells);
    fake_model model;
    remembering engine(model, {.cache_tokens = 104});
    engine.submit({.tokens = {3}, .max_tokens = 30});
    serve::request three{.tokens = std::vector<token>(18, 7),
                         .max_tokens = 20,
                         .sampling = {.temperature = 1, .seed = 77}};
    three.n = 3;
    if (tells) {
      three.prompt_logprobs = 0;
    }
    engine.submit(three);
    const auto results = engine.run();
    REQUIRE(results.size() == 4);
    for (const auto& r : results) {
      CHECK(r.reason == finish_reason::length);
      CHECK(r.prompt_logprobs.size() == (tells && r.id == 1 ? 17 : 0));
    }
    CHECK(engine.statistics().preemptions == 1);
    kv::vllm_v1<4>::pool pool(26);
    CHECK(serve::replay<serve::continuous<serve::chunked_prefill<11>>, kv::vllm_v1<4>>(
              engine.scheduler().log(), pool) ==
          static_cast<std::size_t>(engine.scheduler().statistics().steps));
  }
}

TEST_CASE("serve/engine: completions are refused where a schedule has no forks") {
  fake_model model;
  in_turn engine(model);
  CHECK(field_of(engine, {.tokens = {1}, .n = 2}) == "n");
  CHECK(field_of(engine, {.tokens = {1}, .beam_width = 2}) == "beam_width");
  CHECK(field_of(engine, {.tokens = {1}, .max_tokens = 3, .n = 1, .beam_width = 1}) == "accepted");
  CHECK(engine.run().at(0).tokens.size() == 3);
  one_at_a_time single(model);
  CHECK_THROWS_AS(single.submit({.tokens = {1}, .n = 2}), ashlar::argument_error);
}

TEST_CASE("serve/engine: behind a window a request holds no more than the window and its step") {
  // A prompt of 60 tokens in steps of 8, then one by one: the window's 7 tokens before a step and
  // the step's own 8 lie in at most five blocks of 4, and where one token is computed, in three.
  fake_model model{.seen = 7};
  windowed engine(model, {.cache_tokens = 400});
  const serve::request r{.tokens = std::vector<token>(60, 5), .max_tokens = 30};
  engine.submit(r);
  std::int64_t released = 0;
  for (bool more = true; more;) {
    more = engine.step();
    const auto s = engine.statistics();
    CHECK(s.blocks_peak <= 5);
    CHECK(s.blocks_used <= 3);
    for (const auto* running : engine.scheduler().running()) {
      released = std::max<std::int64_t>(released, running->table.dropped());
    }
  }
  CHECK(released >= 60);  // while it runs
  // As computed in one piece without a cache, and as in one that keeps everything.
  const auto results = engine.take_finished();
  CHECK(results.at(0).tokens == naive(r, 0, 96, 8));
  any_blocks whole(model, {.block_tokens = 96});
  whole.submit(r);
  CHECK(results.at(0).tokens == whole.run().at(0).tokens);
}

TEST_CASE("serve/engine: requests of different adapters or salts share nothing") {
  fake_model model;
  model.adapters = {"", "law"};
  remembering engine(model);
  const serve::request wish{.tokens = std::vector<token>(21, 5), .max_tokens = 6};
  // Were a block of another adapter's used, the tokens would be other ones.
  const auto wanted = [&](const std::string& adapter) {
    return naive(wish, 0, 96, 96, fake_model::seed_of(model.adapters, adapter));
  };
  const auto serve = [&](const std::string& adapter, const std::string& salt = "") {
    const auto before = engine.statistics().computed_tokens;
    engine.submit({.tokens = wish.tokens, .max_tokens = 6, .adapter = adapter, .cache_salt = salt});
    CHECK(engine.run().at(0).tokens == wanted(adapter));
    return engine.statistics().computed_tokens - before - 5;
  };
  CHECK(serve("") == 21);
  CHECK(serve("law") == 21);
  CHECK(serve("law") == 1);
  CHECK(serve("law", "mine") == 21);
  CHECK(serve("law", "mine") == 1);
  CHECK(serve("law", "yours") == 21);
  CHECK(serve("", "law") == 21);  // a salt is no adapter
  // In one batch, too; the log says which is whose.
  for (const std::string adapter : {"law", ""}) {
    engine.submit({.tokens = wish.tokens, .max_tokens = 6, .adapter = adapter, .cache_salt = "n"});
  }
  const auto together = engine.run();
  CHECK(together[0].tokens == wanted("law"));
  CHECK(together[1].tokens == wanted(""));
  kv::vllm_v1<4>::pool pool(96);
  CHECK(serve::replay<serve::continuous<serve::chunked_prefill<11>>, kv::vllm_v1<4>>(
            engine.scheduler().log(), pool) ==
        static_cast<std::size_t>(engine.scheduler().statistics().steps));
}

TEST_CASE("serve/engine: a step keeps to its budget and to the number of sequences") {
  fake_model model;
  chunks engine(model);
  for (const auto& r : requests()) {
    engine.submit(r);
  }
  engine.run();
  CHECK(model.widest == 11);
  CHECK(model.most == 4);
}

TEST_CASE("serve/engine: without a seed, a request draws from the engine's seed and its id") {
  fake_model model;
  serve::request r{.tokens = {1, 2, 3}, .max_tokens = 20, .sampling = {.temperature = 2}};
  const auto once = [&](std::uint64_t seed) {
    serve::engine engine(model, {.seed = seed});
    engine.submit(r);
    engine.submit(r);
    return engine.run();
  };
  const auto a = once(1);
  const auto b = once(1);
  const auto c = once(2);
  CHECK(a[0].tokens == b[0].tokens);
  CHECK(a[1].tokens == b[1].tokens);
  CHECK(a[0].tokens != a[1].tokens);
  CHECK(a[0].tokens != c[0].tokens);
}

TEST_CASE("serve/engine: waste is the share of used memory without a token, at every step") {
  fake_model model;
  blocks_of_4 engine(model, {.cache_tokens = 2048});
  for (const auto& r : requests()) {
    engine.submit(r);
  }
  engine.run();
  const auto s = engine.statistics();
  CHECK(s.steps == model.steps);
  CHECK(s.waste_peak == model.waste_peak);
  CHECK(s.waste_mean == model.waste_sum / model.steps);
  CHECK(s.waste_mean > 0);

  // One sequence of 9 tokens in blocks of 4, one step: 3 of 12 places are empty.
  fake_model other;
  blocks_of_4 alone(other);
  alone.submit({.tokens = std::vector<token>(9, 1), .max_tokens = 1});
  alone.run();
  CHECK(alone.statistics().waste_peak == 3.0 / 12);
}

TEST_CASE("serve/engine: statistics count tokens, steps and blocks") {
  fake_model model;
  blocks_of_4 engine(model, {.cache_tokens = 40});
  engine.submit({.tokens = {1, 2, 3}, .max_tokens = 4});
  engine.submit({.tokens = {4, 5}, .max_tokens = 2});
  CHECK(engine.step());
  CHECK(engine.statistics().blocks_used == 2);
  engine.run();
  const auto s = engine.statistics();
  CHECK(s.prompt_tokens == 5);
  CHECK(s.generated_tokens == 6);
  CHECK(s.computed_tokens == 5 + 3 + 1);
  CHECK(s.steps == 4);
  CHECK(s.preemptions == 0);
  CHECK(s.blocks == 10);
  CHECK(s.blocks_used == 0);
  CHECK(s.blocks_peak == 2);
  CHECK(s.seconds >= 0);
}

TEST_CASE("serve/engine: tokens are announced one by one, and the last one with its reason") {
  fake_model model;
  std::vector<std::vector<token>> streamed(12);
  std::vector<int> ends(12, 0);
  serve::engine engine(model, {.on_token = [&](const serve::token_event& e) {
                         CHECK(e.index == std::ssize(streamed[e.id]));
                         streamed[e.id].push_back(e.token);
                         ends[e.id] += e.finish.has_value() ? 1 : 0;
                       }});
  for (const auto& r : requests()) {
    engine.submit(r);
  }
  for (const auto& f : engine.run()) {
    CHECK(f.tokens == streamed[f.id]);
    CHECK(ends[f.id] == 1);
  }
}

TEST_CASE("serve/engine: a request stops at end of text, at its stop tokens, or at its length") {
  fake_model model;
  const std::vector<token> prompt{7, 7, 7};
  const auto free_run = naive({.tokens = prompt, .max_tokens = 40}, 0);
  const token first = free_run[4];
  const auto cut = [&](std::size_t most) {  // up to and with the first such token
    const auto at = static_cast<std::size_t>(std::ranges::find(free_run, first) - free_run.begin());
    return std::vector<token>(
        free_run.begin(), free_run.begin() + static_cast<std::ptrdiff_t>(std::min(at + 1, most)));
  };
  const auto one = [&](serve::request r, std::vector<token> eos) {
    r.tokens = prompt;
    serve::engine engine(model, {.eos_tokens = std::move(eos)});
    engine.submit(std::move(r));
    return engine.run().at(0);
  };
  auto f = one({.max_tokens = 40}, {first});
  CHECK(f.reason == finish_reason::eos);
  CHECK(f.tokens == cut(40));
  f = one({.max_tokens = 40, .stop_tokens = {first}}, {});
  CHECK(f.reason == finish_reason::stop_token);
  CHECK(f.tokens == cut(40));
  f = one({.max_tokens = 40, .stop_tokens = {first}}, {first});
  CHECK(f.reason == finish_reason::eos);
  f = one({.max_tokens = 40, .ignore_eos = true}, {first});
  CHECK(f.reason == finish_reason::length);
  CHECK(f.tokens == free_run);
  f = one({.max_tokens = 200}, {});
  CHECK(f.reason == finish_reason::length);
  CHECK(f.tokens.size() == 96 - prompt.size());
  CHECK(f.prompt_tokens == 3);
}

TEST_CASE("serve/engine: before min_tokens, what would end the text is not chosen") {
  fake_model model{.words = 3};
  serve::engine engine(model, {.eos_tokens = {0}});
  engine.submit({.tokens = {1}, .max_tokens = 50, .min_tokens = 30, .stop_tokens = {2}});
  const auto f = engine.run().at(0);
  REQUIRE(f.tokens.size() > 30);
  for (std::size_t i = 0; i < 30; ++i) {
    CHECK(f.tokens[i] == 1);
  }
  CHECK(f.reason != finish_reason::length);
}

TEST_CASE("serve/engine: a text prompt passes through the tokenizer and comes back as text") {
  fake_model model{.words = 128};
  const auto encode = [](std::string_view s) { return std::vector<token>(s.begin(), s.end()); };
  const auto decode = [](std::span<const token> tokens) {
    std::string s;
    for (const token t : tokens) {
      s += static_cast<char>(t);
    }
    return s;
  };
  serve::engine engine(model, {.eos_tokens = {0}, .encode = encode, .decode = decode});
  engine.submit({.prompt = "Once upon", .max_tokens = 5, .ignore_eos = true});
  const auto f = engine.run().at(0);
  CHECK(f.prompt_tokens == 9);
  CHECK(f.text == decode(f.tokens));
  serve::engine bare(model);
  CHECK_THROWS_AS(bare.submit({.prompt = "Once upon"}), serve::invalid_request);
  CHECK_THROWS_AS(serve::engine(model, {.encode = encode}), ashlar::argument_error);
  serve::engine torn(model, {.encode = encode, .decode = [](std::span<const token>) -> std::string {
                               throw std::runtime_error("no text");
                             }});
  torn.submit({.prompt = "x", .max_tokens = 2});
  const auto failed = torn.run().at(0);
  CHECK(failed.reason == finish_reason::error);
  CHECK(failed.tokens.size() == 2);
  CHECK_THROWS_AS(std::rethrow_exception(failed.error), std::runtime_error);
}

TEST_CASE("serve/engine: a request that can never fit fails, and the others go on") {
  fake_model model;
  blocks_of_4 engine(model, {.cache_tokens = 24});
  engine.submit({.tokens = std::vector<token>(25, 1), .max_tokens = 1});
  engine.submit({.tokens = {1, 2, 3}, .max_tokens = 50});
  engine.submit({.tokens = {5}, .max_tokens = 10});
  const auto results = engine.run();
  CHECK(results[0].reason == finish_reason::ignored);
  CHECK(results[0].tokens.empty());
  try {
    std::rethrow_exception(results[0].error);
  } catch (const kv::out_of_blocks& e) {
    CHECK(e.requested == 7);
    CHECK(e.free == 6);
  }
  // 24 tokens fit and give the 25th, which has no place; that does not depend on the neighbour.
  CHECK(results[1].reason == finish_reason::error);
  CHECK(results[1].tokens.size() == 22);
  CHECK_THROWS_AS(std::rethrow_exception(results[1].error), kv::out_of_blocks);
  CHECK(results[2].reason == finish_reason::length);
  CHECK(results[2].tokens == naive({.tokens = {5}, .max_tokens = 10}, 0));
  CHECK(engine.statistics().blocks_used == 0);
}

TEST_CASE("serve/engine: a step that throws loses no request and can be tried again") {
  const auto wishes = seeded();
  for (const int bad_step : {0, 1, 5}) {
    fake_model model{.fail_at = bad_step, .cut_at = bad_step + 2};
    chunks engine(model, {.cache_tokens = 200});
    for (const auto& r : wishes) {
      engine.submit(r);
    }
    int thrown = 0;
    bool more = true;
    while (more) {
      try {
        more = engine.step();
      } catch (const std::runtime_error&) {
        ++thrown;
      } catch (const ashlar::argument_error&) {
        ++thrown;
      }
    }
    const auto results = engine.run();
    CHECK(thrown >= 1);
    REQUIRE(results.size() == wishes.size());
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      CHECK(results[i].tokens == naive(wishes[i], 0));
    }
    CHECK(engine.statistics().blocks_used == 0);
  }
}

TEST_CASE("serve/engine: logits that are no numbers end their request only") {
  fake_model model{.nan_at = 2};
  serve::engine engine(model);
  engine.submit({.tokens = {1, 2}, .max_tokens = 6});
  engine.submit({.tokens = {3}, .max_tokens = 6});
  const auto results = engine.run();
  CHECK(results[0].reason == finish_reason::error);
  CHECK(results[0].tokens.size() == 2);
  try {
    std::rethrow_exception(results[0].error);
  } catch (const serve::bad_logits& e) {
    CHECK(e.position == 4);
  }
  CHECK(results[1].tokens == naive({.tokens = {3}, .max_tokens = 6}, 0));
}

TEST_CASE("serve/engine: an aborted request keeps its tokens so far and returns its blocks") {
  fake_model model;
  one_at_a_time engine(model);
  const auto running = engine.submit({.tokens = {1, 2}, .max_tokens = 6});
  const auto waiting = engine.submit({.tokens = {3}, .max_tokens = 6});
  engine.step();
  engine.step();
  CHECK(engine.abort(running));
  CHECK(engine.abort(waiting));
  CHECK_FALSE(engine.abort(running));
  CHECK_FALSE(engine.abort(99));
  CHECK(engine.statistics().blocks_used == 0);
  CHECK_FALSE(engine.step());
  const auto results = engine.run();
  REQUIRE(results.size() == 2);
  CHECK(results[0].reason == finish_reason::aborted);
  CHECK(results[0].tokens.size() == 2);
  CHECK(results[1].tokens.empty());
}

TEST_CASE("serve/engine: on_token may submit, abort and throw") {
  fake_model model;
  serve::engine<fake_model>* running = nullptr;
  serve::engine engine(model, {.on_token = [&](const serve::token_event& e) {
                         if (e.id == 0 && e.index == 0) {
                           running->submit({.tokens = {9}, .max_tokens = 3});
                         }
                         if (e.id == 0 && e.index == 2) {
                           running->abort(0);
                           throw std::runtime_error("enough");
                         }
                       }});
  running = &engine;
  engine.submit({.tokens = {1}, .max_tokens = 9});
  CHECK_THROWS_AS(engine.run(), std::runtime_error);
  const auto results = engine.run();
  REQUIRE(results.size() == 2);
  CHECK(results[0].reason == finish_reason::aborted);
  CHECK(results[0].tokens.size() == 3);
  CHECK(results[1].tokens == naive({.tokens = {9}, .max_tokens = 3}, 0));
}

TEST_CASE("serve/engine: what on_token aborts is not announced any more, in this step either") {
  fake_model model;
  serve::engine<fake_model>* running = nullptr;
  std::vector<int> announced(3, 0);
  serve::engine engine(model, {.on_token = [&](const serve::token_event& e) {
                         ++announced[e.id];
                         if (e.id == 0) {
                           running->abort(1);
                         }
                       }});
  running = &engine;
  for (int i = 0; i < 3; ++i) {
    engine.submit({.tokens = {token{5}}, .max_tokens = 4});
  }
  CHECK(engine.run()[1].reason == finish_reason::aborted);
  CHECK(announced == std::vector<int>{4, 0, 4});
}

TEST_CASE("serve/engine: what an engine cannot serve is refused with the name of its field") {
  fake_model model;
  serve::engine engine(model);
  CHECK(field_of(engine, {.prompt = "text"}) == "prompt");
  CHECK(field_of(engine, {.tokens = {1}, .adapter = "law"}) == "adapter");
  CHECK(field_of(engine, {.tokens = {1}, .stop_strings = {"x"}}) == "stop_strings");
  CHECK(field_of(engine, {.tokens = std::vector<token>(96, 1)}) == "tokens");
  CHECK(engine.submit({.tokens = std::vector<token>(95, 1)}) == 0);
  CHECK(engine.run().at(0).tokens.size() == 1);
  CHECK_THROWS_AS(serve::engine(model, {.cache_tokens = -1}), ashlar::argument_error);
  CHECK_THROWS_AS(serve::engine(model, {.cache_tokens = std::int64_t{1} << 50}),
                  ashlar::argument_error);
  CHECK_THROWS_AS(serve::engine(model, {.eos_tokens = {23}}), ashlar::argument_error);
}

TEST_CASE("serve/engine: after any mix of submits, aborts and steps the pool is empty again") {
  fake_model model;
  chunks engine(model, {.cache_tokens = 130});
  std::mt19937 random(17);
  std::vector<serve::request> sent;
  std::vector<serve::finished> results;
  for (int i = 0; i < 3000; ++i) {
    if (random() % 8 == 0) {
      serve::request r{.tokens = std::vector<token>(1 + random() % 60),
                       .max_tokens = 1 + static_cast<int>(random() % 40)};
      for (token& t : r.tokens) {
        t = static_cast<token>(random() % 23);
      }
      r.sampling.temperature = random() % 2 == 0 ? 0 : 1;
      r.sampling.seed = random();
      sent.push_back(r);
      REQUIRE(engine.submit(std::move(r)) == sent.size() - 1);
    } else if (!sent.empty() && random() % 60 == 0) {
      engine.abort(random() % sent.size());
    } else {
      engine.step();
    }
    for (auto& f : engine.take_finished()) {
      results.push_back(std::move(f));
    }
  }
  for (auto& f : engine.run()) {
    results.push_back(std::move(f));
  }
  CHECK(engine.statistics().blocks_used == 0);
  CHECK(engine.statistics().preemptions > 0);
  REQUIRE(results.size() == sent.size());
  std::vector<int> seen(sent.size(), 0);
  for (const auto& f : results) {
    ++seen[f.id];
    auto expected = naive(sent[f.id], 0);
    if (f.reason == finish_reason::aborted) {
      expected.resize(f.tokens.size());
    } else {
      CHECK(f.reason == finish_reason::length);
    }
    CHECK(f.tokens == expected);
  }
  CHECK(std::ranges::count(seen, 1) == std::ssize(seen));
}
