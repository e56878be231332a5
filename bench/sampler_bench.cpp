// SPDX-License-Identifier: Apache-2.0
// What choosing one token costs, by vocabulary, preset and option; `bare` samplers have only the
// stage that the option needs, so the difference is what a preset's idle stages cost.
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/philox.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/sampler.hpp"

namespace {

namespace serve = ashlar::serve;
using serve::token;

/// Normal logits of deviation 2, and a few tokens that stand out, as models have them.
std::vector<float> logits_of(std::size_t vocabulary) {
  std::vector<float> logits(vocabulary);
  for (std::size_t i = 0; i < vocabulary; ++i) {
    const double u = 1 - ashlar::philox_uniform(1, 2 * i);
    const double v = ashlar::philox_uniform(1, 2 * i + 1);
    logits[i] =
        static_cast<float>(2 * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  for (std::size_t i = 0; i < 40; ++i) {
    logits[i * vocabulary / 41] += static_cast<float>(16 - 0.2 * static_cast<double>(i));
  }
  return logits;
}

template <class Sampler>
void choose(benchmark::State& state, const serve::sampling_options& options) {
  const auto vocabulary = static_cast<std::size_t>(state.range(0));
  const auto logits = logits_of(vocabulary);
  std::vector<token> history(1000);
  for (std::size_t i = 0; i < history.size(); ++i) {
    history[i] = static_cast<token>(i * 7919 % vocabulary);
  }
  auto mine = options;
  serve::token_mask mask(state.range(0), true);
  for (token t = 0; t < state.range(0); t += 3) {
    mask.forbid(t);
  }
  if (options.mask) {
    mine.mask = [&mask](std::span<const token>) { return &mask; };
  }
  Sampler sample;
  std::uint64_t seed = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        sample(logits, mine, {.history = history, .seed = ++seed, .prompt_tokens = 500}));
  }
}

void logprobs(benchmark::State& state) {
  const auto logits = logits_of(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(serve::logprobs_of(logits, 3, 5));
  }
}

template <class Sampler>
void add(const std::string& preset, const std::string& what,
         const serve::sampling_options& options) {
  benchmark::RegisterBenchmark(
      ("sampler/" + what + "/impl:" + preset).c_str(),
      [options](benchmark::State& state) { choose<Sampler>(state, options); })
      ->ArgName("V")
      ->Arg(32000)
      ->Arg(128000)
      ->Unit(benchmark::kMicrosecond);
}

template <class Sampler>
void add_all(const std::string& preset) {
  add<Sampler>(preset, "greedy", {});
  add<Sampler>(preset, "temperature", {.temperature = 0.8});
  add<Sampler>(preset, "top_k_50", {.temperature = 0.8, .top_k = 50});
  add<Sampler>(preset, "top_p_0.9", {.temperature = 0.8, .top_p = 0.9});
  add<Sampler>(preset, "min_p_0.05", {.temperature = 0.8, .min_p = 0.05});
  add<Sampler>(preset, "typical_0.9", {.temperature = 0.8, .typical_p = 0.9});
  add<Sampler>(preset, "chat", {.temperature = 0.8, .top_k = 50, .top_p = 0.9, .min_p = 0.05});
  add<Sampler>(preset, "greedy_penalties", {.repetition_penalty = 1.1, .presence_penalty = 0.5});
  add<Sampler>(preset, "greedy_mask", {.mask = [](std::span<const token>) { return nullptr; }});
}

const bool registered = [] {
  add_all<serve::vllm_sampler>("vllm_v1");
  add_all<serve::vllm_v0_sampler>("vllm_v0");
  add_all<serve::llama_cpp_sampler>("llama_cpp");
  using serve::filters::temperature;
  add<serve::sampler<>>("bare", "greedy", {});
  add<serve::sampler<temperature>>("bare", "temperature", {.temperature = 0.8});
  add<serve::sampler<temperature, serve::filters::top_k>>("bare", "top_k_50",
                                                          {.temperature = 0.8, .top_k = 50});
  benchmark::RegisterBenchmark("sampler/logprobs_5", logprobs)
      ->ArgName("V")
      ->Arg(32000)
      ->Arg(128000)
      ->Unit(benchmark::kMicrosecond);
  return true;
}();

}  // namespace
