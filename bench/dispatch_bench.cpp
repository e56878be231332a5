// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "ashlar/autograd.hpp"
#include "ashlar/dispatch/any.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/reduction.hpp"

// What a call at run time costs over the same call by type: tensors of four elements, so that the
// kernel is next to nothing.
// Pin to one core from outside: taskset -c 1, OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;

/// A key that scopes switch, so that every call reads its flags.
struct watched {
  static constexpr int priority = 500;
  static constexpr bool excludable = true;
};

template <class... Keys>
struct world {
  using chips = al::chip_list<al::chip::meta, al::chip::host>;
  using element_types = al::element_list<std::int32_t, float>;
  using keys = al::make_key_set<al::keys::backend<al::chip::host>, Keys...>;
};

}  // namespace

template <>
struct al::fallback<watched> : al::fallthrough {};

namespace {

template <class Stack, bool AtRunTime>
auto four() {
  const auto x = al::ones<al::tensor<float, typename Stack::keys>>({4});
  if constexpr (AtRunTime) {
    return al::any_tensor<Stack>(x);
  } else {
    return x;
  }
}

template <class Stack, bool AtRunTime>
void add(benchmark::State& state) {
  const auto a = four<Stack, AtRunTime>();
  const auto b = four<Stack, AtRunTime>();
  for (auto _ : state) {
    auto c = al::add(a, b);
    benchmark::DoNotOptimize(c);
  }
}
template <class Stack, bool AtRunTime>
void add_out(benchmark::State& state) {
  const auto a = four<Stack, AtRunTime>();
  const auto b = four<Stack, AtRunTime>();
  auto c = four<Stack, AtRunTime>();
  for (auto _ : state) {
    al::add.out(c, a, b);
    benchmark::ClobberMemory();
  }
}

template <class Stack>
void register_for(const std::string& keys) {
  const auto one = [&](const char* what, const char* how, auto f) {
    benchmark::RegisterBenchmark(
        (std::string(what) + "/f32/n:4/keys:" + keys + "/impl:" + how).c_str(), f);
  };
  one("add", "by_type", add<Stack, false>);
  one("add", "at_run_time", add<Stack, true>);
  one("add_out", "by_type", add_out<Stack, false>);
  one("add_out", "at_run_time", add_out<Stack, true>);
}

const int registered = [] {
  register_for<world<>>("none");
  register_for<world<al::keys::autograd>>("autograd");
  register_for<world<al::keys::autograd, watched>>("autograd+switched");
  return 0;
}();

}  // namespace
