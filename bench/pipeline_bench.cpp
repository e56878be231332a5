// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules: made, checked and run in simulated time, with links that carry one transfer
// at a time; items are actions. And the search over layouts of a large machine; items are layouts.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "ashlar/parallel/pipeline.hpp"
#include "ashlar/parallel/planner.hpp"

#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "figures of a Debug build mean nothing; use the preset `bench`"
#endif

namespace {

namespace pp = ashlar::parallel::pipeline;

template <pp::schedule (*Make)(int, int)>
void step(benchmark::State& state) {
  const int stages = static_cast<int>(state.range(0)), batches = static_cast<int>(state.range(1));
  std::int64_t actions = 0;
  for (auto _ : state) {
    const pp::schedule s = Make(stages, batches);
    const auto sim = pp::simulate(s, {.stages = {{10, 10, 10}}, .transfer = 4, .latency = 1});
    benchmark::DoNotOptimize(sim.makespan);
    actions = 0;
    for (const auto& list : s.ranks) {
      actions += static_cast<std::int64_t>(list.size());
    }
  }
  state.SetItemsProcessed(state.iterations() * actions);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"stages", "micro_batches"})->Args({8, 64})->Args({64, 512});
  b->Unit(benchmark::kMillisecond);
}

/// Megatron's model of 145.6 billion parameters on 4,096 ranks.
void search(benchmark::State& state, const ashlar::plan::network& net) {
  namespace par = ashlar::parallel;
  const par::training_job job{par::transformer::gpt(80, 12288, 96, 51200, 2048),
                              par::precision::megatron_bf16(), 4096};
  const par::device_rates chip{150e12, 2e12, 80e9, false};
  std::size_t examined = 0;
  for (auto _ : state) {
    const auto found = par::plan(job, chip, net);
    examined = found.examined;
    benchmark::DoNotOptimize(found.best());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(examined));
}
BENCHMARK_CAPTURE(search, nodes_512x8,
                  ashlar::plan::network::nodes(512, 8, {300e9, 1e-6}, {25e9, 2.5e-6}))
    ->Name("planner/nodes:512x8")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(search, torus_16x16x16, ashlar::plan::network::torus({16, 16, 16}, {50e9, 1e-6}))
    ->Name("planner/torus:16x16x16")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(search, ring_4096, ashlar::plan::network::ring(4096, {50e9, 1e-6}))
    ->Name("planner/ring:4096")
    ->Unit(benchmark::kMillisecond);

BENCHMARK(step<pp::one_f_one_b>)->Name("pipeline/1f1b")->Apply(shapes);
BENCHMARK(step<pp::zero_bubble_h2>)->Name("pipeline/zb_h2")->Apply(shapes);

}  // namespace
