// SPDX-License-Identifier: Apache-2.0
// Models behind the serving engine: the small real one of stories.hpp on one thread, and a Llama of
// 125 million random weights (12 x 768, 12 heads, 4 of keys, 2,048 inside, 32,000 words), whose
// steps by the model's own calls and recorded ones are measured side by side.
//
// `read/*` reads 512 MiB again and again: the pace at which weights can come.
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/models/recorded.hpp"
#include "ashlar/serve.hpp"
#include "ashlar/serve/static_engine.hpp"
#include "stories.hpp"

namespace {

namespace al = ashlar;
namespace serve = ashlar::serve;

using stories::model_type;
using stories::stack;
using schedule = serve::continuous<serve::chunked_prefill<512>>;
using recorded = serve::static_engine<1, 2, 4, 8>;

/// A processor of one's own: words that are never said.
struct unsaid {
  static bool wanted(const serve::sampling_options&, const serve::sampling_state&) { return true; }
  static void apply(std::span<float> logits, const serve::sampling_options&,
                    const serve::sampling_state&) {
    std::ranges::fill(logits.first(100), serve::processors::ruled_out);
  }
};
using own_sampler = serve::sampler<unsaid, serve::filters::temperature>;

/// Counts the tensors' allocations, and the most bytes that lived at once.
struct counting final : al::memory::resource {
  al::memory::resource& from;
  std::int64_t allocations = 0;
  std::size_t live = 0;
  std::size_t peak = 0;

  explicit counting(al::memory::resource& r) : from(r) {}
  std::byte* allocate(std::size_t bytes) override {
    ++allocations;
    live += bytes;
    peak = std::max(peak, live);
    return from.allocate(bytes);
  }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    live -= bytes;
    from.deallocate(p, bytes);
  }
};

/// `requests` prompts of `prompt` tokens, each continued greedily by `more` tokens.
template <class Execution, class Sampler, class Model>
void generate(benchmark::State& state, Model& model, int requests, int prompt, int more,
              int threads = 1) {
  const stack::session session;
  const al::chip::thread_limit limit(threads);
  counting memory(al::context<al::chip::host>::current().allocator());
  const al::context<al::chip::host>::use_allocator here(memory);
  const auto start = std::chrono::steady_clock::now();
  serve::engine<Model, al::kv::paged<16>, schedule, Sampler, Execution> e(
      model, {.cache_tokens = requests * std::max(prompt + more, 512)});
  const std::chrono::duration<double, std::milli> made = std::chrono::steady_clock::now() - start;
  const std::size_t standing = memory.live;
  memory.peak = standing;
  std::int64_t allocations = memory.allocations;
  for (auto _ : state) {
    for (int r = 0; r < requests; ++r) {
      serve::request wish;
      for (int t = 0; t < prompt; ++t) {
        wish.tokens.push_back(t == 0 ? 1 : (t * 37 + r) % 500 + 3);
      }
      wish.max_tokens = more;
      wish.ignore_eos = true;
      e.submit(wish);
    }
    benchmark::DoNotOptimize(e.run());
  }
  allocations = memory.allocations - allocations;
  state.SetItemsProcessed(state.iterations() * requests * (more == 1 ? prompt : more));
  state.counters["start_ms"] = made.count();
  state.counters["arena_bytes"] = static_cast<double>(e.execution().arena_bytes);
  state.counters["step_bytes"] = static_cast<double>(memory.peak - standing);  // at once
  state.counters["allocations_per_step"] =
      static_cast<double>(allocations) / static_cast<double>(e.statistics().steps);
}

template <class Execution, class Sampler = serve::vllm_sampler>
void small(benchmark::State& state, int requests, int prompt, int more) {
  if (auto model = stories::load(state)) {
    generate<Execution, Sampler>(state, *model, requests, prompt, more);
  }
}

struct half_stack : stack {
  using scalar = al::float16;
};
using half_model = al::models::llama<half_stack>;

template <class Model = model_type>
Model& large() {
  static Model made = [] {
    auto m = Model::make({.dim = 768,
                          .hidden = 2048,
                          .layers = 12,
                          .heads = 12,
                          .kv_heads = 4,
                          .head_dim = 64,
                          .vocab = 32'000,
                          .context = 1024},
                         1);
    m.lay_out_for_decoding();
    return m;
  }();
  return made;
}

void read_memory(benchmark::State& state, int threads) {
  const al::chip::thread_limit limit(threads);
  const std::vector<std::uint64_t> numbers(std::size_t{64} << 20, 1);
  for (auto _ : state) {
    al::chip::parallel_for(std::ssize(numbers), 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::uint64_t sum = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        sum += numbers[static_cast<std::size_t>(i)];
      }
      benchmark::DoNotOptimize(sum);
    });
  }
  state.SetBytesProcessed(state.iterations() * std::ssize(numbers) * 8);
}

void add(const std::string& name, auto run) {
  benchmark::RegisterBenchmark((name + "/impl:ashlar").c_str(), run)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

template <class Execution>
void add_large(const std::string& execution) {
  for (const int requests : {1, 2, 4, 8}) {
    add("decode/f32/model:125M/B:" + std::to_string(requests) + "/execution:" + execution,
        [requests](benchmark::State& s) {
          generate<Execution, serve::vllm_sampler>(s, large(), requests, 1, 32);
        });
  }
  add("decode/f32/model:125M/B:8/execution:" + execution + "/sampler:own",
      [](benchmark::State& s) { generate<Execution, own_sampler>(s, large(), 8, 1, 32); });
}

template <class Model>
void add_on_cores(const std::string& type) {
  for (const int cores : {1, 2}) {
    const std::string on = "/" + type + "/model:125M/cores:" + std::to_string(cores);
    add("prefill" + on + "/T:512", [cores](benchmark::State& s) {
      generate<serve::dynamic, serve::vllm_sampler>(s, large<Model>(), 1, 512, 1, cores);
    });
    for (const int requests : {1, 8}) {
      add("decode" + on + "/B:" + std::to_string(requests), [=](benchmark::State& s) {
        generate<serve::dynamic, serve::vllm_sampler>(s, large<Model>(), requests, 1, 32, cores);
      });
    }
  }
}

[[maybe_unused]] const bool registered = [] {
  const std::string stories = "/f32/model:stories260K/";
  add("decode" + stories + "execution:dynamic",
      [](auto& s) { small<serve::dynamic>(s, 1, 1, 256); });
  add("decode" + stories + "execution:static", [](auto& s) { small<recorded>(s, 1, 1, 256); });
  add("decode" + stories + "B:8/execution:dynamic",
      [](auto& s) { small<serve::dynamic>(s, 8, 1, 256); });
  add("decode" + stories + "B:8/execution:static", [](auto& s) { small<recorded>(s, 8, 1, 256); });
  add("decode" + stories + "B:8/execution:dynamic/sampler:own",
      [](auto& s) { small<serve::dynamic, own_sampler>(s, 8, 1, 256); });
  add("decode" + stories + "B:8/execution:static/sampler:own",
      [](auto& s) { small<recorded, own_sampler>(s, 8, 1, 256); });
  add("prefill" + stories + "T:448", [](auto& s) { small<serve::dynamic>(s, 1, 448, 1); });
  for (const int cores : {1, 2}) {
    add("read/cores:" + std::to_string(cores), [cores](auto& s) { read_memory(s, cores); });
  }
  add_large<serve::dynamic>("dynamic");
  add_large<recorded>("static");
  add_on_cores<model_type>("f32");
  add_on_cores<half_model>("f16");
  return true;
}();

}  // namespace
