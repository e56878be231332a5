// SPDX-License-Identifier: Apache-2.0
// What continuous batching, blocks and chunks of prompts are good for.
//
// `batches/*` counts steps and memory, with a scheduler and no model. `serving/*` measures a Llama
// of 16 million random weights, more than the caches hold, so that a step of few tokens costs what
// reading the weights costs, and `serving/model:125M/*` that of decode_bench.cpp. Prompts and
// outputs are log-normal with the mean lengths of ShareGPT (161.3 and 338.0 tokens) and Alpaca
// (19.3 and 58.5), not those data sets themselves.
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/models/llama.hpp"
#include "ashlar/serve.hpp"
#include "ashlar/stack.hpp"

namespace {

namespace al = ashlar;
namespace kv = ashlar::kv;
namespace serve = ashlar::serve;

struct lengths {
  const char* name;
  double prompt;
  double output;
  bool spread = true;
  std::int32_t tenth = 0;  ///< what every tenth output is long, if not as the others
};
constexpr lengths sharegpt{"sharegpt", 161.3, 338.0};
constexpr lengths alpaca{"alpaca", 19.3, 58.5};
constexpr lengths equal{"equal", 161.3, 338.0, false};
/// What is served: lengths of ShareGPT's are halved, so that a run takes seconds.
constexpr lengths served[] = {{"equal", 80.6, 169.0, false},
                              {"sharegpt", 80.6, 169.0},
                              {"alpaca", 19.3, 58.5},
                              {"documents", 750, 30},
                              {"one_in_ten_thinks", 80.6, 50, true, 512}};

struct job {
  std::int32_t prompt;
  std::int32_t output;
};
std::vector<job> draw(const lengths& mix, int count, std::int32_t most_prompt,
                      std::int32_t most_output) {
  std::mt19937 random(5);
  const auto one = [&](double mean, std::int32_t most) {
    std::lognormal_distribution<double> some(std::log(mean) - 0.5, 1.0);
    return std::clamp(static_cast<std::int32_t>(mix.spread ? some(random) : mean), 1, most);
  };
  std::vector<job> jobs;
  for (int i = 0; i < count; ++i) {
    const std::int32_t prompt = one(mix.prompt, most_prompt);
    const std::int32_t output = one(mix.output, most_output);
    jobs.push_back({prompt, mix.tenth != 0 && i % 10 == 3 ? mix.tenth : output});
  }
  return jobs;
}

template <int Sequences>
using continuous = serve::continuous<serve::chunked_prefill<2048>, serve::max_sequences<Sequences>>;
template <int Sequences>
using closed = serve::continuous<serve::whole_prefill<1 << 20>, serve::max_sequences<Sequences>,
                                 serve::static_batches>;

/// Counts tokens and keeps none.
template <class Cache>
struct counted : serve::scheduled_sequence<Cache> {
  using serve::scheduled_sequence<Cache>::scheduled_sequence;
  std::int32_t known = 0;
  [[nodiscard]] std::int32_t remaining() const { return known - this->computed; }
};

/// A thousand requests, 64 at once, where there is memory for all.
template <class Cache, class Schedule>
void count_steps(benchmark::State& state, const lengths& mix) {
  using sequence = counted<Cache>;
  const auto jobs = draw(mix, 1000, 1024, 1024);
  std::int64_t steps = 0;
  std::int64_t tokens = 0;
  double waste = 0;
  for (auto _ : state) {
    typename Cache::pool pool(64 * (2048 / Cache::block_tokens));
    typename Schedule::template queue<sequence> queue;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const serve::scheduling asked{.id = i, .most_tokens = jobs[i].prompt + jobs[i].output};
      auto s = std::make_unique<sequence>(asked, pool);
      s->known = jobs[i].prompt;
      queue.add(std::move(s));
    }
    steps = tokens = 0;
    waste = 0;
    while (!queue.empty()) {
      auto plan = queue.next(pool);
      waste +=
          kv::measure(pool, Cache::block_tokens, queue.running(), [](const sequence* s) -> auto& {
            return s->table;
          }).waste();
      ++steps;
      for (sequence* s : plan.batch) {
        serve::advance(*s);
        if (s->remaining() == 0) {
          ++s->known;
          ++tokens;
          if (s->known == s->most_tokens) {
            queue.drop(*s);
          }
        }
      }
    }
  }
  state.counters["steps"] = static_cast<double>(steps);
  state.counters["tokens_per_step"] = static_cast<double>(tokens) / static_cast<double>(steps);
  state.counters["waste"] = waste / static_cast<double>(steps);
}

using stack = al::stack<al::on<al::chip::host>>;
using model_type = al::models::llama<stack>;

model_type made(const al::models::llama_config& config) {
  auto m = model_type::make(config, 1);
  m.lay_out_for_decoding();
  return m;
}
model_type& model() {
  static model_type m = made({.dim = 384,
                              .hidden = 1024,
                              .layers = 8,
                              .heads = 6,
                              .kv_heads = 2,
                              .head_dim = 64,
                              .vocab = 4096,
                              .context = 4096});
  return m;
}
model_type& large_model() {
  static model_type m = made({.dim = 768,
                              .hidden = 2048,
                              .layers = 12,
                              .heads = 12,
                              .kv_heads = 4,
                              .head_dim = 64,
                              .vocab = 32'000,
                              .context = 2048});
  return m;
}

serve::request wish(const job& j, int number) {
  serve::request r{.max_tokens = j.output, .ignore_eos = true};
  for (int t = 0; t < j.prompt; ++t) {
    r.tokens.push_back((t * 37 + number * 11) % 4000);
  }
  return r;
}

/// `count` requests, 16 at once. `padded`: a static batch in which every sequence is computed until
/// the longest is done, as where a batch is one tensor.
template <class Schedule>
void serve_all(benchmark::State& state, model_type& by, int count, const lengths& mix,
               bool padded) {
  const stack::session session;
  const al::chip::thread_limit one(1);
  auto jobs = draw(mix, count, 1024, 512);
  std::int64_t asked = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    asked += jobs[i].output;
  }
  for (std::size_t i = 0; padded && i < jobs.size(); i += 16) {
    std::int32_t longest = 0;
    for (std::size_t j = i; j < i + 16; ++j) {
      longest = std::max(longest, jobs[j].output);
    }
    for (std::size_t j = i; j < i + 16; ++j) {
      jobs[j].output = longest;
    }
  }
  for (auto _ : state) {
    serve::engine<model_type, kv::paged<16>, Schedule> e(by, {.cache_tokens = 16 * 1088});
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      e.submit(wish(jobs[i], static_cast<int>(i)));
    }
    benchmark::DoNotOptimize(e.run());
    const auto s = e.statistics();
    state.counters["steps"] = static_cast<double>(s.steps);
    state.counters["seconds"] = s.seconds;
    state.counters["tokens/s"] = static_cast<double>(asked) / s.seconds;
    state.counters["waste"] = s.waste_mean;
  }
}

/// Eight requests generate while prompts of 2,000 tokens arrive: times between two tokens of one
/// request.
template <class Schedule>
void latency(benchmark::State& state) {
  using clock = std::chrono::steady_clock;
  const stack::session session;
  const al::chip::thread_limit one(1);
  for (auto _ : state) {
    std::vector<clock::time_point> last(8);
    std::vector<double> gaps;
    serve::engine<model_type, kv::paged<16>, Schedule> e(
        model(), {.cache_tokens = 20'000, .on_token = [&](const serve::token_event& t) {
                    if (t.id >= last.size()) {
                      return;
                    }
                    const auto now = clock::now();
                    if (t.index > 0) {
                      gaps.push_back(std::chrono::duration<double>(now - last[t.id]).count());
                    }
                    last[t.id] = now;
                  }});
    for (int i = 0; i < 8; ++i) {
      e.submit(wish({20 + i, 150}, i));
    }
    for (int step = 0; e.step(); ++step) {
      if (step % 40 == 10 && step < 160) {
        e.submit(wish({2000, 1}, step));
      }
    }
    std::ranges::sort(gaps);
    const auto at = [&](double share) {
      return 1e3 * gaps[static_cast<std::size_t>(share * static_cast<double>(gaps.size() - 1))];
    };
    state.counters["p50_ms"] = at(0.5);
    state.counters["p99_ms"] = at(0.99);
    state.counters["worst_ms"] = at(1);
  }
}

void once(const std::string& name, auto run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->Iterations(1)->Unit(benchmark::kMillisecond);
}

[[maybe_unused]] const bool registered = [] {
  for (const lengths& mix : {sharegpt, alpaca, equal}) {
    const std::string name = std::string("batches/lengths:") + mix.name + "/";
    once(name + "schedule:continuous/blocks:16",
         [mix](benchmark::State& s) { count_steps<kv::paged<16>, continuous<64>>(s, mix); });
    once(name + "schedule:continuous/blocks:2048",
         [mix](benchmark::State& s) { count_steps<kv::contiguous<2048>, continuous<64>>(s, mix); });
    once(name + "schedule:static/blocks:16",
         [mix](benchmark::State& s) { count_steps<kv::paged<16>, closed<64>>(s, mix); });
  }
  const auto serve_with = [](const std::string& name, const lengths& mix, int count,
                             model_type& (*by)()) {
    once(name + "continuous",
         [=](benchmark::State& s) { serve_all<continuous<16>>(s, by(), count, mix, false); });
    once(name + "static",
         [=](benchmark::State& s) { serve_all<closed<16>>(s, by(), count, mix, false); });
    once(name + "static_padded",
         [=](benchmark::State& s) { serve_all<closed<16>>(s, by(), count, mix, true); });
  };
  for (const lengths& mix : served) {
    serve_with(std::string("serving/lengths:") + mix.name + "/schedule:", mix, 128, model);
  }
  serve_with("serving/model:125M/lengths:sharegpt/schedule:", served[1], 64, large_model);
  once("serving/prompts:whole", latency<serve::continuous<serve::whole_prefill<2048>>>);
  once("serving/prompts:chunks_of_512", latency<serve::continuous<serve::chunked_prefill<512>>>);
  once("serving/prompts:chunks_of_128", latency<serve::continuous<serve::chunked_prefill<128>>>);
  once("serving/prompts:chunks_of_64", latency<serve::continuous<serve::chunked_prefill<64>>>);
  return true;
}();

}  // namespace
