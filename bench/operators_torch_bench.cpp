// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"

// Kernels that move more bytes than they compute, allocation included, on one thread.
// Pin both to one core from outside: taskset -c 1, OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;

using keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using floats = al::tensor<float, keys>;
using integers = al::tensor<std::int64_t, keys>;

/// The same elements for both.
struct operands {
  floats a, b;
  at::Tensor x, y;
  integers classes;
  at::Tensor targets;

  explicit operands(const al::shape& s)
      : a(al::randn<floats>(s, 1)), b(al::randn<floats>(s, 2)), x(copy_of(a)), y(copy_of(b)) {
    const std::int64_t rows = s.rank() > 1 ? s[0] : 0;
    classes = al::empty<integers>({rows});
    targets = at::empty({rows}, at::kLong);
    for (std::int64_t i = 0; i < rows; ++i) {
      classes.data()[i] = targets.data_ptr<std::int64_t>()[i] = i * 7919 % s[1];
    }
  }
  static at::Tensor copy_of(const floats& from) {
    const at::Tensor to = at::empty(at::IntArrayRef(from.shape().data(), from.shape().size()));
    std::memcpy(to.data_ptr<float>(), from.data(), to.nbytes());
    return to;
  }
};

void measure(benchmark::State& state, const al::shape& s, const auto& f) {
  const operands o(s);
  for (auto _ : state) {
    auto result = f(o);
    benchmark::DoNotOptimize(result);
  }
  state.SetItemsProcessed(state.iterations() * o.a.size());
}

template <class Ours, class Theirs>
void add(const std::string& what, const al::shape& s, Ours ours, Theirs theirs) {
  std::string dims = "n:" + std::to_string(s[0]);
  if (s.rank() == 2) {
    dims = "rows:" + std::to_string(s[0]) + "/columns:" + std::to_string(s[1]);
  }
  const std::string name = what + "/f32/" + dims + "/impl:";
  benchmark::RegisterBenchmark((name + "ashlar").c_str(),
                               [=](auto& state) { measure(state, s, ours); });
  benchmark::RegisterBenchmark((name + "libtorch").c_str(),
                               [=](auto& state) { measure(state, s, theirs); });
}

const int registered = [] {
  at::set_num_threads(1);
  using in = const operands&;
  const al::shape line{1 << 20};
  const al::shape rows{512, 1024};
  const std::int64_t width = 1024;
  const at::Tensor one = at::ones({width});
  const at::Tensor zero = at::zeros({width});
  const floats our_one = al::ones<floats>({width});
  const floats our_zero = al::zeros<floats>({width});

  add(
      "add", line, [](in o) { return al::add(o.a, o.b); }, [](in o) { return at::add(o.x, o.y); });
  add(
      "exp", line, [](in o) { return al::exp(o.a); }, [](in o) { return at::exp(o.x); });
  add(
      "silu", line, [](in o) { return al::silu(o.a); }, [](in o) { return at::silu(o.x); });
  add(
      "gelu", line, [](in o) { return al::gelu(o.a); }, [](in o) { return at::gelu(o.x); });
  add(
      "tanh", line, [](in o) { return al::tanh(o.a); }, [](in o) { return at::tanh(o.x); });
  add(
      "sum", line, [](in o) { return al::sum(o.a); }, [](in o) { return at::sum(o.x); });
  add(
      "sum_rows", rows, [](in o) { return al::sum(o.a, 1); }, [](in o) { return at::sum(o.x, 1); });
  add(
      "sum_columns", rows, [](in o) { return al::sum(o.a, 0); },
      [](in o) { return at::sum(o.x, 0); });
  add(
      "softmax", rows, [](in o) { return al::softmax(o.a); },
      [](in o) { return at::softmax(o.x, -1); });
  add(
      "layer_norm", rows, [=](in o) { return al::layer_norm(o.a, our_one, our_zero); },
      [=](in o) { return at::layer_norm(o.x, {width}, one, zero, 1e-5); });
  // LibTorch 1.13 has no RMSNorm of its own; this is how models wrote it.
  add(
      "rms_norm", rows, [=](in o) { return al::rms_norm(o.a, our_one); },
      [=](in o) {
        return at::mul(at::mul(o.x, at::rsqrt(at::mean(at::square(o.x), {-1}, true) + 1e-5)), one);
      });
  add(
      "cross_entropy", {512, 2048}, [](in o) { return al::cross_entropy(o.a, o.classes); },
      [](in o) { return at::cross_entropy_loss(o.x, o.targets); });
  return 0;
}();

}  // namespace
