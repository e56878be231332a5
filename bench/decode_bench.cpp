// SPDX-License-Identifier: Apache-2.0
// The small real model of stories.hpp behind the serving engine, on one thread.
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/serve.hpp"
#include "stories.hpp"

namespace {

namespace al = ashlar;

using stories::model_type;
using stories::stack;
using engine = al::serve::engine<model_type, al::kv::paged<16>,
                                 al::serve::continuous<al::serve::chunked_prefill<512>>>;

/// `requests` prompts of `prompt` tokens, each continued greedily by `more` tokens.
void serve(benchmark::State& state, int requests, int prompt, int more) {
  auto model = stories::load(state);
  if (!model) {
    return;
  }
  const stack::session session;
  const al::chip::thread_limit one(1);
  engine e(*model, {.cache_tokens = requests * model->context_length()});
  for (auto _ : state) {
    for (int r = 0; r < requests; ++r) {
      al::serve::request wish;
      for (int t = 0; t < prompt; ++t) {
        wish.tokens.push_back(t == 0 ? 1 : (t * 37 + r) % 500 + 3);
      }
      wish.max_tokens = more;
      wish.ignore_eos = true;
      e.submit(wish);
    }
    benchmark::DoNotOptimize(e.run());
  }
  state.SetItemsProcessed(state.iterations() * requests * (more == 1 ? prompt : more));
}

}  // namespace

BENCHMARK_CAPTURE(serve, one, 1, 1, 256)
    ->Name("decode/f32/model:stories260K/impl:ashlar")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(serve, eight, 8, 1, 256)
    ->Name("decode/f32/model:stories260K/B:8/impl:ashlar")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(serve, prefill, 1, 448, 1)
    ->Name("prefill/f32/model:stories260K/T:448/impl:ashlar")
    ->Unit(benchmark::kMillisecond);
