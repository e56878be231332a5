// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"

// What a call costs beside its kernel, by each way to run 64 of them: items are calls.
// Pin to one core from outside: taskset -c 1, OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;
using real = al::tensor<float, al::make_key_set<al::keys::backend<host>>>;

constexpr int calls = 64;

/// Each call needs the one before it.
constexpr auto chain = [](const auto& x) {
  std::remove_cvref_t<decltype(x)> y = x;
  for (int i = 0; i < calls; i += 2) {
    y = al::mul(al::add(y, x), x);
  }
  return y;
};

void run(benchmark::State& state, const auto& once) {
  const real x = al::full<real>({state.range(0)}, 0.5);
  auto f = once(x);
  static_cast<void>(f(x));
  for (auto _ : state) {
    auto y = f(x);
    benchmark::DoNotOptimize(y);
  }
  state.SetItemsProcessed(state.iterations() * calls);
}

const int registered = [] {
  const auto add = [](std::string_view impl, auto once) {
    benchmark::RegisterBenchmark(("graph/calls/impl:" + std::string(impl)).c_str(),
                                 [once](benchmark::State& state) { run(state, once); })
        ->ArgName("elements")
        ->Arg(16)
        ->Arg(1024);
  };
  add("eager", [](const real&) { return [](const real& x) { return chain(x); }; });
  add("interpreted",
      [](const real& x) { return graph::eager{}.compile(graph::capture(chain, x)); });
  add("planned",
      [](const real& x) { return graph::planned<host>{}.compile(graph::capture(chain, x)); });
  add("replayed", [](const real& x) { return graph::replayed<host>(graph::capture(chain, x)); });
  add("compiled", [](const real&) { return graph::compile(chain, graph::planned<host>{}); });
  add("capture",
      [](const real&) { return [](const real& x) { return graph::capture(chain, x); }; });
  return 0;
}();

}  // namespace
