// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/ops.hpp"

// What a call costs beside its kernel: tensors of a few elements, allocation included.
// Pin both to one core from outside: taskset -c 1, OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;

using plain = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;
using recorded =
    al::tensor<float, al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>>;

constexpr std::int64_t elements = 4;
constexpr int chain = 64;

template <class X>
X ours(bool wants_gradient = false) {
  const X x = al::full<X>({elements}, 1.0);
  if constexpr (al::Recorded<X>) {
    if (wants_gradient) {
      al::require_grad(x);
    }
  }
  return x;
}
at::Tensor theirs(bool wants_gradient = false) {
  return at::ones({elements}).requires_grad_(wants_gradient);
}

const auto our_add = [](const auto& a, const auto& b) { return al::add(a, b); };
const auto our_mul = [](const auto& a, const auto& b) { return al::mul(a, b); };
const auto their_add = [](const at::Tensor& a, const at::Tensor& b) { return at::add(a, b); };
const auto their_mul = [](const at::Tensor& a, const at::Tensor& b) { return at::mul(a, b); };

/// One call.
void one(benchmark::State& state, auto f, const auto& a, const auto& b) {
  for (auto _ : state) {
    auto c = f(a, b);
    benchmark::DoNotOptimize(c);
  }
}

/// The time of one of `chain` calls, each on the result of the one before.
void per_node(benchmark::State& state, const auto& f, const auto& a, const auto& b,
              const auto& finish) {
  for (auto _ : state) {
    auto y = a;
    for (int i = 0; i < chain; ++i) {
      y = f(y, b);
    }
    finish(y);
    benchmark::DoNotOptimize(y);
  }
  state.counters["node"] = benchmark::Counter(
      chain, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

template <class F>
void add(const char* what, const char* implementation, F f) {
  const std::string name =
      std::string(what) + "/f32/n:" + std::to_string(elements) + "/impl:" + implementation;
  benchmark::RegisterBenchmark(name.c_str(), f);
}

const int registered = [] {
  at::set_num_threads(1);
  const auto keep = [](const auto&) {};
  const auto our_backward = [](const recorded& y) { al::backward(y, ours<recorded>()); };
  const auto their_backward = [](const at::Tensor& y) { y.backward(theirs()); };

  add("add", "ashlar", [](auto& s) { one(s, our_add, ours<plain>(), ours<plain>()); });
  add("add", "libtorch", [](auto& s) { one(s, their_add, theirs(), theirs()); });
  add("add_out", "ashlar", [](auto& s) {
    one(
        s,
        [out = ours<plain>()](const auto& a, const auto& b) mutable {
          return al::add.out(out, a, b);
        },
        ours<plain>(), ours<plain>());
  });
  add("add_out", "libtorch", [](auto& s) {
    one(
        s,
        [out = theirs()](const auto& a, const auto& b) mutable { return at::add_out(out, a, b); },
        theirs(), theirs());
  });
  add("add_nothing_to_record", "ashlar",
      [](auto& s) { one(s, our_add, ours<recorded>(), ours<recorded>()); });
  add("add_no_grad", "ashlar", [](auto& s) {
    const al::no_grad off;
    one(s, our_add, ours<recorded>(true), ours<recorded>());
  });
  add("add_no_grad", "libtorch", [](auto& s) {
    const at::NoGradGuard off;
    one(s, their_add, theirs(true), theirs());
  });
  add("add_recorded", "ashlar",
      [](auto& s) { one(s, our_add, ours<recorded>(true), ours<recorded>()); });
  add("add_recorded", "libtorch", [](auto& s) { one(s, their_add, theirs(true), theirs()); });
  add("mul_recorded", "ashlar",
      [](auto& s) { one(s, our_mul, ours<recorded>(true), ours<recorded>()); });
  add("mul_recorded", "libtorch", [](auto& s) { one(s, their_mul, theirs(true), theirs()); });
  add("mul_chain_forward", "ashlar",
      [=](auto& s) { per_node(s, our_mul, ours<recorded>(true), ours<recorded>(), keep); });
  add("mul_chain_forward", "libtorch",
      [=](auto& s) { per_node(s, their_mul, theirs(true), theirs(), keep); });
  add("mul_chain_backward", "ashlar",
      [=](auto& s) { per_node(s, our_mul, ours<recorded>(true), ours<recorded>(), our_backward); });
  add("mul_chain_backward", "libtorch",
      [=](auto& s) { per_node(s, their_mul, theirs(true), theirs(), their_backward); });
  return 0;
}();

}  // namespace
