// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/softmax.hpp"

// Tile programs as the host compiles them (`ashlar`), kernels written by hand (`hand`) and
// LibTorch. Nobody allocates but LibTorch, whose eager calls do. Pin to one core from outside:
// taskset -c 1, OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
namespace programs = ashlar::ops::programs;
namespace hand = ashlar::chip::host_kernels;

/// Memory as every framework hands it out: where cache lines begin.
template <class T>
struct aligned {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, alignment); }
  bool operator==(const aligned&) const = default;
};

struct array {
  al::tensor_spec spec;
  std::vector<float, aligned<float>> values;

  explicit array(std::initializer_list<std::int64_t> extents, unsigned seed = 1)
      : spec(al::contiguous_spec(al::dtype::float32, {extents.begin(), extents.size()})),
        values(static_cast<std::size_t>(spec.size)) {
    std::mt19937 bits(seed);
    for (float& x : values) {
      x = static_cast<float>(static_cast<double>(bits()) / 2147483648.0 - 1.0);
    }
  }
  [[nodiscard]] al::view<const float> in() const { return {values.data(), &spec}; }
  [[nodiscard]] al::view<float> out() { return {values.data(), &spec}; }
  /// The same memory.
  [[nodiscard]] at::Tensor torch() {
    return at::from_blob(values.data(), at::IntArrayRef(spec.shape().data(), spec.shape().size()));
  }
};

template <class F>
void add(const std::string& what, const std::string& dims, const char* impl, F run) {
  benchmark::RegisterBenchmark((what + "/f32/" + dims + "/impl:" + impl).c_str(), run)
      ->UseRealTime();
}

template <class F>
void measure(benchmark::State& state, std::int64_t bytes, const F& f) {
  for (auto _ : state) {
    f();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

struct relu_of_line {
  static constexpr auto name = "relu_of_line";
  static constexpr int block = 256;

  constexpr void operator()(tile::scope& k, tile::out<float, 1> y, tile::in<float, 1> x) const {
    const auto at = k.program_id(0) * block;
    tile::store(y, tile::max(tile::load<block>(x, at) * 2 + 1, 0), at);
  }
};

void elementwise() {
  constexpr std::int64_t n = 16 << 20;
  constexpr std::int64_t bytes = 2 * n * static_cast<std::int64_t>(sizeof(float));
  const std::string dims = "n:" + std::to_string(n);
  add("relu(x*2+1)", dims, "ashlar", [](benchmark::State& state) {
    const array x({n});
    array y({n});
    measure(state, bytes, [&] {
      al::chip::launch<relu_of_line>({n / relu_of_line::block, 1, 1}, y.out(), x.in());
    });
  });
  add("relu(x*2+1)", dims, "memcpy", [](benchmark::State& state) {
    const array x({n});
    array y({n});
    measure(state, bytes, [&] { std::memcpy(y.values.data(), x.values.data(), bytes / 2); });
  });
  add("relu(x*2+1)", dims, "torch", [](benchmark::State& state) {
    array x({n});
    const at::Tensor in = x.torch();
    measure(state, bytes, [&] { at::relu(at::add(at::mul(in, 2), 1)); });
  });
}

/// Rows of `columns` elements: the arrays stand in a struct so that each run owns its memory.
struct row_operands {
  array x, y, weight, bias;
  explicit row_operands(std::int64_t columns)
      : x({1, 1, 512, columns}, 1),
        y({1, 1, 512, columns}, 2),
        weight({columns}, 3),
        bias({columns}, 4) {}
};

template <class F>
void add_rows(const std::string& what, std::int64_t columns, const char* impl, F f) {
  add(what, "rows:512/columns:" + std::to_string(columns), impl,
      [columns, f](benchmark::State& state) {
        row_operands o(columns);
        measure(state, 2 * o.x.spec.size * static_cast<std::int64_t>(sizeof(float)), [&] { f(o); });
      });
}

constexpr float eps = 1e-5F;

void rows(std::int64_t columns) {
  add_rows("softmax", columns, "ashlar", [](row_operands& o) {
    al::chip::launch<programs::softmax<float, false>>({512, 1, 1}, o.y.out(), o.x.in());
  });
  add_rows("softmax", columns, "hand",
           [](row_operands& o) { hand::softmax(o.y.out(), o.x.in(), 3); });
  add_rows("softmax", columns, "torch", [](row_operands& o) { at::softmax(o.x.torch(), -1); });

  add_rows("rms_norm", columns, "ashlar", [](row_operands& o) {
    al::chip::launch<programs::rms_norm<float>>({512, 1, 1}, o.y.out(), o.x.in(), o.weight.in(),
                                                eps);
  });
  add_rows("rms_norm", columns, "hand",
           [](row_operands& o) { hand::rms_norm(o.y.out(), o.x.in(), o.weight.in(), eps); });
  // LibTorch 1.13 has no RMSNorm of its own; this is how models wrote it.
  add_rows("rms_norm", columns, "torch", [](row_operands& o) {
    const at::Tensor x = o.x.torch();
    at::mul(at::mul(x, at::rsqrt(at::add(at::mean(at::square(x), {-1}, true), eps))),
            o.weight.torch());
  });

  add_rows("layer_norm", columns, "ashlar", [](row_operands& o) {
    al::chip::launch<programs::layer_norm<float>>({512, 1, 1}, o.y.out(), o.x.in(), o.weight.in(),
                                                  o.bias.in(), eps);
  });
  add_rows("layer_norm", columns, "hand", [](row_operands& o) {
    hand::layer_norm(o.y.out(), o.x.in(), o.weight.in(), o.bias.in(), eps);
  });
  add_rows("layer_norm", columns, "torch", [columns](row_operands& o) {
    at::layer_norm(o.x.torch(), {columns}, o.weight.torch(), o.bias.torch(), eps);
  });
}

/// Causal attention of one sequence.
struct attention_operands {
  static constexpr std::int64_t heads = 12;
  static constexpr std::int64_t tokens = 1024;
  static constexpr int width = 64;
  static constexpr float scale = 0.125F;
  array q{{1, heads, tokens, width}, 1};
  array k{{1, heads, tokens, width}, 2};
  array v{{1, heads, tokens, width}, 3};
  array y{{1, heads, tokens, width}, 4};
};

template <class F>
void add_attention(const char* impl, F f) {
  using o = attention_operands;
  add("attention",
      "B:1/H:" + std::to_string(o::heads) + "/T:" + std::to_string(o::tokens) +
          "/Dh:" + std::to_string(o::width) + "/causal",
      impl, [f](benchmark::State& state) {
        attention_operands operands;
        measure(state, 4 * operands.q.spec.size * static_cast<std::int64_t>(sizeof(float)),
                [&] { f(operands); });
      });
}

void attention() {
  add_attention("ashlar", [](attention_operands& o) {
    using kernel = programs::attention<float, attention_operands::width>;
    const al::tensor_spec turned = al::geometry::transpose(o.k.spec, -1, -2);
    al::chip::launch<kernel>(
        {attention_operands::tokens / kernel::queries, 1, attention_operands::heads}, o.y.out(),
        o.q.in(), al::view<const float>{o.k.values.data(), &turned}, o.v.in(),
        attention_operands::scale, std::int64_t{1});
  });
  add_attention("hand", [](attention_operands& o) {
    hand::sdpa<float>(o.y.out(), o.q.in(), o.k.in(), o.v.in(), true, attention_operands::scale);
  });
  // As models wrote it before LibTorch had a fused kernel.
  const at::Tensor future =
      at::ones({attention_operands::tokens, attention_operands::tokens}, at::kBool).triu(1);
  add_attention("torch", [future](attention_operands& o) {
    const at::Tensor scores =
        at::mul(at::matmul(o.q.torch(), o.k.torch().transpose(-1, -2)), attention_operands::scale);
    at::matmul(at::softmax(at::masked_fill(scores, future, -INFINITY), -1), o.v.torch());
  });
}

const int registered = [] {
  at::set_num_threads(1);
  elementwise();
  rows(1024);
  rows(4096);
  attention();
  return 0;
}();

}  // namespace
