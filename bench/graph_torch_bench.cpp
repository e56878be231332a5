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
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/passes/pack_weights.hpp"
#include "ashlar/graph/tiles.hpp"
#include "ashlar/graph/traffic.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/views.hpp"

// A captured graph by the backend that makes tile programs at run time, beside the same calls one
// by one, here and in LibTorch. On one thread: pin it from outside with taskset -c 1,
// OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;
namespace graph = ashlar::graph;
using floats = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;
using integers = al::tensor<std::int64_t, floats::keys>;

at::Tensor copy_of(const floats& from) {
  const at::Tensor to = at::empty(at::IntArrayRef(from.shape().data(), from.shape().size()));
  std::memcpy(to.data_ptr<float>(), from.data(), to.nbytes());
  return to;
}

// ---- norms and GELU chains, 16M elements --------------------------------------------------------

struct chain {
  static constexpr std::int64_t rows = 16384, columns = 1024;
  floats w = al::randn<floats>({columns}, 3), v = al::randn<floats>({columns}, 4),
         b = al::randn<floats>({columns}, 5);
  at::Tensor tw = copy_of(w), tv = copy_of(v), tb = copy_of(b);

  /// Two residual branches: a norm, GELU, a gate, and the sum; the second with a bias and a scale.
  auto operator()(const auto& x, const auto& r) const {
    const auto h = al::add(x, r);
    const auto n = al::gelu_tanh(al::rms_norm(h, w, 1e-5));
    const auto y = al::add(h, al::mul(n, v));
    const auto m = al::gelu_tanh(al::add(al::layer_norm(y, v, b, 1e-5), w));
    return al::add(y, al::scale(m, 0.5));
  }
  at::Tensor in_torch(const at::Tensor& x, const at::Tensor& r) const {
    const auto h = x + r;
    const auto n = at::gelu(h * at::rsqrt(h.square().mean(-1, true) + 1e-5) * tw, "tanh");
    const auto y = h + n * tv;
    const auto m = at::gelu(at::layer_norm(y, {columns}, tv, tb, 1e-5) + tw, "tanh");
    return y + m * 0.5;
  }
};

// ---- one block of Llama, d = 768, T = 128 -------------------------------------------------------

struct block {
  static constexpr std::int64_t tokens = 128, width = 768, heads = 12, head = 64, hidden = 2048;
  floats first = al::randn<floats>({width}, 1), second = al::randn<floats>({width}, 2);
  floats q = weight(width, width, 3), k = weight(width, width, 4), v = weight(width, width, 5),
         o = weight(width, width, 6), gate = weight(hidden, width, 7),
         up = weight(hidden, width, 8), down = weight(width, hidden, 9);
  integers positions = al::arange<integers>(tokens);
  at::Tensor tfirst = copy_of(first), tsecond = copy_of(second), tq = copy_of(q), tk = copy_of(k),
             tv = copy_of(v), to = copy_of(o), tgate = copy_of(gate), tup = copy_of(up),
             tdown = copy_of(down), cosines, sines;

  block() {
    const auto at = at::arange(tokens, at::kFloat).unsqueeze(1);
    const auto step = at::pow(10000.0, at::arange(0, head, 2, at::kFloat).neg() / double(head));
    const auto angle = at::cat({at * step, at * step}, 1).unsqueeze(0);
    cosines = angle.cos();
    sines = angle.sin();
  }
  static floats weight(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
    return al::scale(al::randn<floats>({rows, columns}, seed), 0.03);
  }

  auto operator()(const auto& x) const {
    const auto n = al::rms_norm(x, first, 1e-5);
    const auto split = [](const auto& y) {
      return al::reshape(y, al::shape{1, tokens, heads, head});
    };
    const auto turned = [&](const auto& y) {
      return al::transpose(al::rope(y, positions, 10000.0, false), 1, 2);
    };
    const auto mixed = al::scaled_dot_product_attention(
        turned(split(al::linear(n, q))), turned(split(al::linear(n, k))),
        al::transpose(split(al::linear(n, v)), 1, 2), true);
    const auto merged = al::reshape(al::transpose(mixed, 1, 2), al::shape{tokens, width});
    const auto y = al::add(x, al::linear(merged, o));
    const auto m = al::rms_norm(y, second, 1e-5);
    return al::add(y, al::linear(al::swiglu(al::linear(m, gate), al::linear(m, up)), down));
  }
  static at::Tensor norm(const at::Tensor& x, const at::Tensor& w) {
    return x * at::rsqrt(x.square().mean(-1, true) + 1e-5) * w;
  }
  at::Tensor in_torch(const at::Tensor& x) const {
    const auto n = norm(x, tfirst);
    const auto split = [](const at::Tensor& y) {
      return y.view({1, tokens, heads, head}).transpose(1, 2);
    };
    const auto turned = [&](const at::Tensor& y) {
      const auto halves = y.chunk(2, -1);
      return y * cosines + at::cat({-halves[1], halves[0]}, -1) * sines;
    };
    const auto mixed = std::get<0>(at::_scaled_dot_product_attention(
        turned(split(at::linear(n, tq))), turned(split(at::linear(n, tk))),
        split(at::linear(n, tv)), {}, 0.0, false, true));
    const auto y = x + at::linear(mixed.transpose(1, 2).reshape({tokens, width}), to);
    const auto m = norm(y, tsecond);
    return y + at::linear(at::silu(at::linear(m, tgate)) * at::linear(m, tup), tdown);
  }
};

// ---- GPT-2, 12 layers, 128 tokens: to be captured only ------------------------------------------

struct gpt {
  static constexpr std::int64_t tokens = 128, width = 768, heads = 12, head = 64;
  struct layer {
    floats scale1 = blank({width}), shift1 = blank({width}), scale2 = blank({width}),
           shift2 = blank({width}), qkv = blank({3 * width, width}), qkv_bias = blank({3 * width}),
           out = blank({width, width}), out_bias = blank({width}), up = blank({4 * width, width}),
           up_bias = blank({4 * width}), down = blank({width, 4 * width}),
           down_bias = blank({width});
  };
  std::vector<layer> layers = std::vector<layer>(12);
  floats scale = blank({width}), shift = blank({width}), words = blank({50257, width});

  static floats blank(const al::shape& s) { return al::empty<floats>(s); }  // nobody reads it

  auto operator()(const auto& embedded) const {
    auto x = embedded;
    for (const layer& l : layers) {
      const auto all = al::linear(al::layer_norm(x, l.scale1, l.shift1, 1e-5), l.qkv, l.qkv_bias);
      const auto part = [&](std::int64_t i) {
        const auto y = al::narrow(all, 1, i * width, width);
        return al::transpose(al::reshape(y, al::shape{1, tokens, heads, head}), 1, 2);
      };
      const auto mixed = al::scaled_dot_product_attention(part(0), part(1), part(2), true);
      const auto merged = al::reshape(al::transpose(mixed, 1, 2), al::shape{tokens, width});
      x = al::add(x, al::linear(merged, l.out, l.out_bias));
      const auto wide = al::linear(al::layer_norm(x, l.scale2, l.shift2, 1e-5), l.up, l.up_bias);
      x = al::add(x, al::linear(al::gelu_tanh(wide), l.down, l.down_bias));
    }
    return al::linear(al::layer_norm(x, scale, shift, 1e-5), words);
  }
};

void report(benchmark::State& state, std::int64_t moved) {
  state.counters["bytes_outside_matmul"] =
      benchmark::Counter(static_cast<double>(moved), benchmark::Counter::kDefaults);
}

template <class F, class... X>
void eagerly(benchmark::State& state, const F& f, const X&... x) {
  for (auto _ : state) {
    auto y = f(x...);
    benchmark::DoNotOptimize(y);
  }
  report(state, graph::bytes_outside_products<al::chip::host>(graph::capture(f, x...)));
}
template <class F, class... X>
void compiled(benchmark::State& state, const F& f, const X&... x) {
  auto g = graph::tiles<al::chip::host>{}.compile(graph::capture(f, x...));
  for (auto _ : state) {
    auto y = g(x...);
    benchmark::DoNotOptimize(y);
  }
  report(state, graph::bytes_outside_products<al::chip::host>(g.source()));
}
/// The same by tile programs, which the host interprets strip by strip.
template <class F, class... X>
void by_strips(benchmark::State& state, const F& f, const X&... x) {
  auto g = graph::tiles<al::chip::host>{.options = {.host_blocks = false}}.compile(
      graph::capture(f, x...));
  for (auto _ : state) {
    auto y = g(x...);
    benchmark::DoNotOptimize(y);
  }
  report(state, graph::bytes_outside_products<al::chip::host>(g.source()));
}
/// With weights that stay as they are, packed where products read them.
template <class F, class... X>
void frozen(benchmark::State& state, const F& f, const X&... x) {
  auto g = graph::tiles<al::chip::host>{}.compile(
      graph::pack_weights<floats>(graph::freeze(graph::capture(f, x...))));
  for (auto _ : state) {
    auto y = g(x...);
    benchmark::DoNotOptimize(y);
  }
  report(state, graph::bytes_outside_products<al::chip::host>(g.source()));
}
template <class F, class... X>
void compiling(benchmark::State& state, const F& f, const X&... x) {
  const graph::graph g = graph::capture(f, x...);
  for (auto _ : state) {
    auto made = graph::tiles<al::chip::host>{}.compile(g);
    benchmark::DoNotOptimize(made);
  }
}
template <class F, class... X>
void capturing(benchmark::State& state, const F& f, const X&... x) {
  for (auto _ : state) {
    auto made = graph::capture(f, x...);
    benchmark::DoNotOptimize(made);
  }
}
template <class F, class... X>
void in_torch(benchmark::State& state, const F& f, const X&... x) {
  const at::InferenceMode mode;
  at::set_num_threads(1);
  for (auto _ : state) {
    auto y = f.in_torch(x...);
    benchmark::DoNotOptimize(y);
  }
}

template <class F, class... X>
void add(const std::string& name, const F* f, const X&... x) {
  const auto one = [&](const std::string& impl, const auto& run) {
    benchmark::RegisterBenchmark((name + "/impl:" + impl).c_str(), run)
        ->Unit(benchmark::kMillisecond);
  };
  one("ashlar_eager", [=](benchmark::State& s) { eagerly(s, *f, x...); });
  one("ashlar_compiled", [=](benchmark::State& s) { compiled(s, *f, x...); });
  one("ashlar_frozen", [=](benchmark::State& s) { frozen(s, *f, x...); });
  one("ashlar_strips", [=](benchmark::State& s) { by_strips(s, *f, x...); });
  one("ashlar_compile_time", [=](benchmark::State& s) { compiling(s, *f, x...); });
  one("libtorch_eager", [=](benchmark::State& s) { in_torch(s, *f, copy_of(x)...); });
}

const bool registered = [] {
  static const chain c;
  static const block b;
  add("norm_gelu/f32/elements:16M", &c, al::randn<floats>({chain::rows, chain::columns}, 1),
      al::randn<floats>({chain::rows, chain::columns}, 2));
  add("llama_block/f32/d:768/T:128", &b, al::randn<floats>({block::tokens, block::width}, 10));
  static const gpt g;
  const floats embedded = gpt::blank({gpt::tokens, gpt::width});
  benchmark::RegisterBenchmark("gpt2/layers:12/impl:ashlar_capture_time", [=](benchmark::State& s) {
    capturing(s, g, embedded);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("gpt2/layers:12/impl:ashlar_compile_time", [=](benchmark::State& s) {
    compiling(s, g, embedded);
  })->Unit(benchmark::kMillisecond);
  return true;
}();

}  // namespace
