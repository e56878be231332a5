// SPDX-License-Identifier: Apache-2.0
// How many blocks of key-value memory completions of one prompt and beams save by sharing, on the
// small real model of stories.hpp, and how many tokens drafts save.
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/serve.hpp"
#include "ashlar/serve/proposers.hpp"
#include "stories.hpp"

namespace {

namespace al = ashlar;

using stories::model_type;
using stories::stack;
using drafts = al::serve::suffix_proposer<>;
template <class... Policies>
using engine = al::serve::engine<model_type, al::kv::paged<16>, Policies...>;

/// A length with this mean, spread as lengths of requests are: log-normal, deviation 0.8.
int length(double mean, std::uint64_t number) {
  const double u = 1 - al::philox_uniform(2, 2 * number);
  const double v = al::philox_uniform(2, 2 * number + 1);
  const double normal = std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  return std::max(2, static_cast<int>(mean * std::exp(0.8 * normal - 0.32)));
}

/// Forty stories as prompts; what they and their output are long, cut at the model's context of
/// 512.
std::vector<al::serve::request> mix(model_type& model, double prompt, double output) {
  std::vector<al::serve::request> all;
  engine<> writer(model, {.cache_tokens = 16 * 512});
  for (std::uint64_t i = 0; i < 40; ++i) {
    const int in = std::min(length(prompt, 2 * i), 300);
    writer.submit({.tokens = {1},
                   .max_tokens = in,
                   .sampling = {.temperature = 1, .seed = i},
                   .ignore_eos = true});
    all.push_back(
        {.max_tokens = std::min(length(output, 2 * i + 1), 510 - in), .ignore_eos = true});
  }
  for (const auto& f : writer.run()) {
    all[f.id].tokens = f.tokens;
  }
  return all;
}

void sharing(benchmark::State& state, double prompt, double output, bool beam) {
  auto model = stories::load(state);
  if (!model) {
    return;
  }
  const stack::session session;
  const al::chip::thread_limit one(1);
  const auto width = static_cast<std::int32_t>(state.range(0));
  const auto wishes = mix(*model, prompt, output);
  for (auto _ : state) {
    double named = 0;
    double kept = 0;
    for (auto r : wishes) {  // one at a time, weighed by its blocks
      r.n = beam ? 1 : width;
      r.beam_width = beam ? width : 0;
      r.sampling = {.temperature = 1, .seed = 5};
      engine<> e(*model, {.cache_tokens = 16 * 512});
      e.submit(r);
      while (e.step()) {
        const auto& running = e.scheduler().running();
        std::vector<al::kv::block_id> ids;
        for (const auto* s : running) {
          ids.insert(ids.end(), s->table.blocks().begin(), s->table.blocks().end());
        }
        named += static_cast<double>(ids.size());
        std::ranges::sort(ids);
        kept += static_cast<double>(std::ranges::unique(ids).begin() - ids.begin());
      }
    }
    state.counters["saved_percent"] = 100 * (1 - kept / named);
  }
}

/// Stories go on greedily, each twice; `Policies`: a proposer, or none.
template <class... Policies>
void drafted(benchmark::State& state, Policies... proposer) {
  auto model = stories::load(state);
  if (!model) {
    return;
  }
  const stack::session session;
  const al::chip::thread_limit one(1);
  const auto wishes = mix(*model, 40, 150);
  std::int64_t tokens = 0;
  for (auto _ : state) {
    engine<Policies...> e(*model, {.cache_tokens = 16 * 512, .draft_cost = 0.2}, proposer...);
    for (int round = 0; round < 2; ++round) {
      for (auto r : wishes) {
        e.submit(r);
        e.run();
      }
    }
    const auto s = e.statistics();
    tokens += s.generated_tokens;
    state.counters["tokens_per_step"] =
        static_cast<double>(s.generated_tokens) / static_cast<double>(s.steps);
    state.counters["accepted_percent"] =
        s.drafts == 0
            ? 0.0
            : 100.0 * static_cast<double>(s.accepted_drafts) / static_cast<double>(s.drafts);
  }
  state.SetItemsProcessed(tokens);
}

const bool registered = [] {
  for (const bool beam : {false, true}) {
    for (const bool chat : {false, true}) {
      const std::string name = std::string("sharing/") + (chat ? "sharegpt" : "alpaca") + "/" +
                               (beam ? "beam" : "parallel");
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) {
                                     sharing(state, chat ? 161.3 : 19.3, chat ? 338.0 : 58.5, beam);
                                   })
          ->ArgName("width")
          ->Arg(2)
          ->Arg(4)
          ->Arg(6)
          ->Iterations(1)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::RegisterBenchmark("drafts/none", [](benchmark::State& s) { drafted<>(s); })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("drafts/ngram",
                               [](benchmark::State& s) {
                                 al::serve::ngram_proposer<2, 4> p;
                                 drafted<al::serve::ngram_proposer<2, 4>>(s, p);
                               })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("drafts/suffix",
                               [](benchmark::State& s) {
                                 drafts p;
                                 drafted<drafts>(s, p);
                               })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
  return true;
}();

}  // namespace
