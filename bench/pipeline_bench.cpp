// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules: made, checked and run in simulated time, with links that carry one transfer
// at a time. Items are actions.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "ashlar/parallel/pipeline.hpp"

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

BENCHMARK(step<pp::one_f_one_b>)->Name("pipeline/1f1b")->Apply(shapes);
BENCHMARK(step<pp::zero_bubble_h2>)->Name("pipeline/zb_h2")->Apply(shapes);

}  // namespace
