// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded and replayed give the bits of the model's own calls, and allocate
// nothing.
#include "ashlar/serve/static_engine.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <new>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/proposers.hpp"
#include "io/io_support.hpp"
#include "laws/execution_policy.hpp"
#include "support/llama.hpp"
#include "support/recorded_llama.hpp"

namespace {

std::int64_t allocations = 0;  // by the test's only thread

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* const p = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  return p != nullptr ? p : throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t n) { return counted(n, alignof(std::max_align_t)); }
void* operator new(std::size_t n, std::align_val_t a) {
  return counted(n, static_cast<std::size_t>(a));
}
// Not inlined: g++ would see `free` of what `operator new` returned, and think it wrong.
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { ::operator delete(p); }
void operator delete(void* p, std::align_val_t) noexcept { ::operator delete(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { ::operator delete(p); }

namespace {

namespace al = ashlar;
namespace kv = ashlar::kv;
namespace laws = ashlar::laws;
namespace serve = ashlar::serve;
namespace testing = ashlar::testing;
using serve::testing::fake_model;
using tokens = std::vector<serve::token>;
using row = std::vector<float>;

using odd_sizes = serve::static_engine<1, 3, 8>;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Draws as ever, and writes down the bits it is shown after each text.
struct recording_sampler {
  static inline std::map<tokens, std::vector<std::uint32_t>>* to = nullptr;
  serve::vllm_sampler draw;

  serve::token operator()(std::span<const float> logits, const serve::sampling_options& options,
                          const serve::sampling_state& state) {
    std::vector<std::uint32_t> bits(logits.size());
    std::memcpy(bits.data(), logits.data(), logits.size_bytes());
    to->insert_or_assign(tokens(state.history.begin(), state.history.end()), std::move(bits));
    return draw(logits, options, state);
  }
};

/// All that can be seen of a served workload.
struct served {
  std::map<tokens, std::vector<std::uint32_t>> logits{};
  std::vector<std::tuple<serve::request_id, std::int32_t, serve::finish_reason, tokens>> results{};
  serve::execution_statistics execution{};
  serve::engine_statistics statistics{};
};

/// Requests come while others run: greedy and random ones, some with several completions, some
/// with a beginning that was there before, some aborted.
template <class Cache, class Execution>
served serve_mixed(testing::serving_llama& model, std::uint32_t seed) {
  using schedule = serve::continuous<serve::chunked_prefill<20>, serve::max_sequences<6>>;
  served all;
  recording_sampler::to = &all.logits;
  serve::ngram_proposer<1, 3> drafts;
  serve::engine<testing::serving_llama, Cache, schedule, recording_sampler,
                serve::ngram_proposer<1, 3>, Execution>
      engine(model, {.cache_tokens = 330}, drafts);
  std::mt19937 random(seed);
  const auto below = [&random](std::uint32_t n) { return static_cast<int>(random() % n); };
  const tokens beginning = testing::random_tokens(23, model.vocabulary(), seed);
  std::uint32_t submitted = 0;
  for (bool more = true; more || submitted < 14;) {
    for (int n = below(3); n > 0 && submitted < 14; --n) {
      serve::request r{.tokens = testing::random_tokens(1 + below(40), model.vocabulary(),
                                                        1000 * seed + submitted++),
                       .max_tokens = 1 + below(12)};
      if (below(2) == 0) {
        r.tokens.insert(r.tokens.begin(), beginning.begin(), beginning.end());
      }
      if (below(3) == 0) {
        r.sampling = {.temperature = 0.8, .top_k = 20, .seed = submitted};
        r.n = 2;
      }
      engine.submit(std::move(r));
    }
    if (below(12) == 0) {
      engine.abort(static_cast<serve::request_id>(below(submitted + 1)));
    }
    more = engine.step();
  }
  for (const serve::finished& f : engine.run()) {
    all.results.emplace_back(f.id, f.branch, f.reason, f.tokens);
  }
  all.execution = engine.execution();
  all.statistics = engine.statistics();
  return all;
}

}  // namespace

TEST_CASE("serve/static_engine: policies of execution keep the laws") {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    CHECK(laws::check_execution_policy<laws::plain_calls>(seed).replayed == 0);
    CHECK(laws::check_execution_policy<serve::dynamic>(seed).replayed == 0);
    const auto done = laws::check_execution_policy<odd_sizes>(seed);
    CHECK(done.replayed > 50);
    CHECK(done.dynamic > 50);
    CHECK(done.padded_rows > 20);
    CHECK(laws::check_execution_policy<serve::static_engine<1>>(seed).padded_rows == 0);
    CHECK(laws::check_execution_policy<serve::static_engine<64>>(seed).padded_rows > 1000);
  }
}

TEST_CASE("serve/static_engine: a batch is padded to the nearest size, one over the last is not") {
  fake_model model;
  auto cache = model.make_cache(16 + 1, 4);
  odd_sizes::runner<fake_model> run(model, cache, 4, 16);
  CHECK(run.statistics().arena_bytes == 12'000);
  CHECK(model.steps == 3);  // one of each size
  const auto decode = [&](kv::block_id sequences) {
    laws::built_step built(4);
    std::vector<kv::block_id> blocks(16);
    for (kv::block_id s = 0; s < sequences; ++s) {
      blocks[static_cast<std::size_t>(s)] = s;
      built.add(std::span(blocks).subspan(static_cast<std::size_t>(s), 1), 0, tokens{s});
    }
    const auto before = run.statistics();
    CHECK(run(built.now).size() == static_cast<std::size_t>(sequences * model.words));
    const auto after = run.statistics();
    return std::tuple(after.replayed - before.replayed, after.dynamic - before.dynamic,
                      after.padded_rows - before.padded_rows);
  };
  CHECK(decode(1) == std::tuple(1, 0, 0));
  CHECK(decode(2) == std::tuple(1, 0, 1));
  CHECK(decode(3) == std::tuple(1, 0, 0));
  CHECK(decode(4) == std::tuple(1, 0, 4));
  CHECK(decode(8) == std::tuple(1, 0, 0));
  CHECK(decode(9) == std::tuple(0, 1, 0));
  CHECK(decode(16) == std::tuple(0, 1, 0));
  // A chunk of a prompt asks for its last row's logits alone.
  laws::built_step chunk(4);
  const std::vector<kv::block_id> blocks{3};
  chunk.add(blocks, 0, tokens{1, 2, 3}, false);
  CHECK(run(chunk.now).size() == static_cast<std::size_t>(model.words));
  CHECK(run.statistics().dynamic == 3);
}

TEST_CASE("serve/static_engine: any requests get the tokens and logits of dynamic, bit for bit") {
  const al::chip::thread_limit one(1);
  for (const std::uint32_t seed : {1u, 2u}) {
    CAPTURE(seed);
    auto model =
        testing::make_serving(seed == 1 ? testing::odd_config() : testing::even_config(), seed);
    if (seed == 2) {
      model.lay_out_for_decoding();
    }
    const auto compare = [&](const served& a, const served& b) {
      CHECK(a.results == b.results);
      CHECK(a.logits == b.logits);
      CHECK(a.results.size() >= 14);
      CHECK(a.statistics.steps == b.statistics.steps);
      CHECK(a.statistics.preemptions == b.statistics.preemptions);
      CHECK(a.execution.dynamic == a.statistics.steps);
      CHECK(b.execution.dynamic + b.execution.replayed == b.statistics.steps);
      CHECK(b.execution.replayed > 5);
      CHECK(b.execution.dynamic > 5);
      CHECK(b.execution.padded_rows > 0);
      CHECK(b.execution.arena_bytes > 0);
      CHECK(b.statistics.blocks_used == 0);
    };
    // Blocks copied, swapped and shared; then a prefix cache and a null block.
    compare(serve_mixed<kv::vllm_v0<16>, serve::dynamic>(model, seed),
            serve_mixed<kv::vllm_v0<16>, odd_sizes>(model, seed));
    compare(serve_mixed<kv::paged<5>, serve::dynamic>(model, seed),
            serve_mixed<kv::paged<5>, odd_sizes>(model, seed));
  }
}

TEST_CASE("serve/static_engine: a replayed step allocates nothing") {
  const al::chip::thread_limit one(1);
  auto model = testing::make_serving(testing::odd_config(), 3);
  constexpr std::int32_t block_tokens = 16;
  constexpr kv::block_id each = 8;  // blocks for the whole context
  constexpr kv::block_id pool = 5 * each;
  auto expected_cache = model.make_cache(pool, block_tokens);
  auto cache = model.make_cache(pool + 1, block_tokens);
  serve::static_engine<2, 6>::runner<testing::serving_llama> run(model, cache, block_tokens, pool);
  std::vector<kv::block_id> blocks(pool);
  for (kv::block_id i = 0; i < pool; ++i) {
    blocks[static_cast<std::size_t>(i)] = pool - 1 - i;
  }
  std::int64_t allocated = 0;
  for (std::int32_t at = 0; at < model.context_length(); ++at) {
    laws::built_step built(block_tokens);
    for (kv::block_id s = 0; s < 1 + at % 5; ++s) {
      built.add(std::span(blocks).subspan(static_cast<std::size_t>(s * each), each), at,
                tokens{(7 * at + s) % 300});
    }
    const std::int64_t before = allocations;
    const std::span<const float> logits = run(built.now);
    allocated += allocations - before;
    const std::int64_t between = allocations;
    const std::span<const float> expected = model.forward(built.now, expected_cache);
    CHECK(allocations > between);  // the count is one
    CHECK(same_bits(logits, expected));
  }
  CHECK(allocated == 0);
  CHECK(run.statistics().replayed == model.context_length());
  // Rows that were added wrote to the spare block alone: all others are those of the calls.
  for (std::size_t layer = 0; layer < cache.keys.size(); ++layer) {
    for (const auto& [used, wanted] :
         {std::pair(cache.keys[layer], expected_cache.keys[layer]),
          std::pair(cache.values[layer], expected_cache.values[layer])}) {
      const row whole = al::to_vector(used);
      const row own = al::to_vector(wanted);
      CHECK(same_bits(std::span(whole).first(own.size()), own));
    }
  }
}

TEST_CASE("serve/static_engine: a step of other sizes is refused by the name of what differs") {
  auto model = testing::make_serving(testing::odd_config(), 3);
  auto cache = model.make_cache(9, 4);
  auto run = record_step(model, cache, kv::step_sizes{2, 3, 4});
  const std::vector<kv::block_id> blocks{1, 2, 3, 4};
  const auto made = [&](std::int32_t block_tokens, std::size_t table, int sequences) {
    laws::built_step built(block_tokens);
    for (int s = 0; s < sequences; ++s) {
      built.add(std::span(blocks).first(table), s, tokens{5});
    }
    return built.now;
  };
  const auto refused = [&](const serve::step& now) {
    try {
      static_cast<void>(run(now));
    } catch (const al::models::unrecorded_step& e) {
      CHECK(std::string(e.what()).find(e.field) != std::string::npos);
      return std::tuple(e.field, e.given, e.recorded);
    }
    return std::tuple(std::string(), std::int64_t{0}, std::int64_t{0});
  };
  CHECK(refused(made(4, 3, 2)) == std::tuple("", 0, 0));
  CHECK(refused(made(8, 3, 2)) == std::tuple("block_tokens", 8, 4));
  CHECK(refused(made(4, 4, 2)) == std::tuple("blocks", 4, 3));
  CHECK(refused(made(4, 3, 3)) == std::tuple("tokens", 3, 2));
  auto other = made(4, 3, 2);
  other.logit_rows.pop_back();
  CHECK(refused(other) == std::tuple("logit_rows", 1, 2));
  other = made(4, 3, 2);
  other.sequences.pop_back();
  CHECK(refused(other) == std::tuple("sequences", 1, 2));
  // Rows that are none of the step's.
  for (const auto& [first, rows] :
       {std::pair(1, 2), std::pair(-1, 1), std::pair(0, -1), std::pair(1, 2147483647)}) {
    other = made(4, 3, 2);
    other.sequences[1].first_row = first;
    other.sequences[1].rows = rows;
    CHECK_THROWS_AS(static_cast<void>(run(other)), al::argument_error);
    CHECK_THROWS_AS(static_cast<void>(model.forward(other, cache)), al::argument_error);
  }
}

TEST_CASE("serve/static_engine: stories260K tells the expected story") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  auto opened = testing::open(*folder / "stories260K.bin");
  std::ifstream file(*folder / "expected.txt");
  std::string expected{std::istreambuf_iterator<char>(file), {}};
  expected.erase(expected.find_last_not_of('\n') + 1);
  REQUIRE(expected.size() > 500);
  serve::ngram_proposer<1, 3> drafts;
  std::map<tokens, std::vector<std::uint32_t>> ignored;
  recording_sampler::to = &ignored;
  serve::engine<testing::serving_llama, kv::paged<5>,
                serve::continuous<serve::chunked_prefill<20>, serve::max_sequences<6>>,
                recording_sampler, serve::ngram_proposer<1, 3>, odd_sizes>
      engine(opened.model, {.eos_tokens = {1, 2}, .most_drafts = 3}, drafts);
  engine.submit({.tokens = {1}, .max_tokens = 256});
  engine.submit({.tokens = {1}, .max_tokens = 256});
  for (const serve::finished& f : engine.run()) {
    al::io::stream_decoder decoder(opened.tokenizer, tokens{1});
    std::string text;
    for (const serve::token t : f.tokens) {
      text += t == 1 || t == 2 ? "" : decoder.push(t);
    }
    text += decoder.finish();
    CHECK(text == expected);
  }
  CHECK(engine.execution().dynamic == 0);  // two tokens with three drafts each at most
  CHECK(engine.execution().replayed > 20);
}
