// SPDX-License-Identifier: Apache-2.0
// Allocators: a block and back, from one thread and two, and whole traces against lists of
// policies.
//
// `reserved_over_live` is what the chip's memory peaked at over what callers held at their peak;
// ASHLAR_TRACE=FILE adds a recorded trace (memory/replay.hpp says what it looks like).
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "allocator_paper.hpp"
#include "allocator_torch_peer.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/memory.hpp"
#include "ashlar/memory/replay.hpp"
#include "ashlar/memory/traces.hpp"

#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "figures of a Debug build mean nothing; use the preset `bench`"
#endif

namespace {

namespace memory = ashlar::memory;
namespace traces = ashlar::memory::traces;
using allocator_bench::paper;
using host = ashlar::chip::host::memory;

template <class A>
void there_and_back(benchmark::State& state) {
  static A& a = *new A;
  const auto bytes = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    std::byte* p = a.allocate(bytes);
    benchmark::DoNotOptimize(p);
    a.deallocate(p, bytes);
  }
  state.SetItemsProcessed(state.iterations());
}

void malloc_there_and_back(benchmark::State& state, const char* library) {
  void* const from = library != nullptr ? dlopen(library, RTLD_NOW | RTLD_LOCAL) : nullptr;
  const auto find = [&](const char* plain, const char* own) -> void* {
    if (library != nullptr && from == nullptr) {
      return nullptr;
    }
    void* const f = library != nullptr ? dlsym(from, own) : nullptr;
    return f != nullptr ? f : dlsym(library != nullptr ? from : RTLD_DEFAULT, plain);
  };
  const auto take = reinterpret_cast<void* (*)(std::size_t)>(find("malloc", "mi_malloc"));
  const auto give = reinterpret_cast<void (*)(void*)>(find("free", "mi_free"));
  if (take == nullptr || give == nullptr) {
    state.SkipWithError("not to be loaded");
    return;
  }
  const auto bytes = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    void* p = take(bytes);
    benchmark::DoNotOptimize(p);
    give(p);
  }
  state.SetItemsProcessed(state.iterations());
}

template <class... Policies>
void replay(benchmark::State& state, const traces::trace& requests) {
  memory::replay_result last;
  for (auto _ : state) {
    memory::caching_allocator<paper, Policies...> a;
    last = memory::replay(a, requests);
    state.SetIterationTime(last.nanoseconds * 1e-9 * static_cast<double>(requests.size()));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(requests.size()));
  state.counters["reserved_over_live"] = last.overhead() + 1;
  state.counters["reserved_MB"] = static_cast<double>(last.peak_reserved) / 1e6;
  state.counters["chip_calls"] = static_cast<double>(last.chip_calls);
}

[[maybe_unused]] const bool registered = [] {
  for (const int threads : {1, 2}) {
    const auto add = [&](const char* impl, auto run) {
      benchmark::RegisterBenchmark(("allocate_free/impl:" + std::string(impl)).c_str(), run)
          ->ArgName("bytes")
          ->Arg(100)
          ->Arg(100000)
          ->Threads(threads);
    };
    add("ashlar", there_and_back<memory::caching_allocator<host>>);
    add("ashlar_pytorch_policies",
        there_and_back<memory::caching_allocator<host, memory::pytorch_policies>>);
    add("malloc", [](benchmark::State& s) { malloc_there_and_back(s, nullptr); });
#ifdef ASHLAR_BENCH_MIMALLOC
    add("mimalloc", [](benchmark::State& s) { malloc_there_and_back(s, ASHLAR_BENCH_MIMALLOC); });
#endif
#ifdef ASHLAR_BENCH_JEMALLOC
    add("jemalloc", [](benchmark::State& s) { malloc_there_and_back(s, ASHLAR_BENCH_JEMALLOC); });
#endif
#ifdef ASHLAR_BENCH_TORCH
    add("libtorch_empty", allocator_bench::torch_empty);
#endif
  }
  static std::vector<traces::named> all = traces::all();
  if (const char* file = std::getenv("ASHLAR_TRACE")) {
    std::ifstream in(file);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    all.push_back({file, memory::read_trace(text)});
  }
  for (const traces::named& t : all) {
    const auto add = [&](const char* impl, auto run) {
      benchmark::RegisterBenchmark(("replay/trace:" + t.name + "/impl:" + impl).c_str(), run,
                                   t.requests)
          ->UseManualTime();
    };
    add("ashlar", replay<>);
    add("ashlar_pytorch_policies", replay<memory::pytorch_policies>);
    add("ashlar_lowest_address", replay<memory::lowest_address>);
    add("ashlar_whole_blocks", replay<memory::whole_block_policies>);
  }
  return true;
}();

}  // namespace
