// SPDX-License-Identifier: Apache-2.0
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/attention_backward.hpp"
#include "ashlar/chip/host/paged_attention.hpp"

namespace {

namespace kernels = ashlar::chip::host_kernels;

template <class T>
struct array {
  ashlar::tensor_spec spec;
  std::vector<T> storage;

  explicit array(std::initializer_list<std::int64_t> extents, T value = T(0))
      : spec(ashlar::contiguous_spec(ashlar::dtype_of<T>, {extents.begin(), extents.size()})),
        storage(static_cast<std::size_t>(spec.size), value) {}
  array& randomise(unsigned seed) {
    std::mt19937 bits(seed);
    for (T& x : storage) {
      x = static_cast<T>(static_cast<double>(bits()) / 2147483648.0 - 1.0);
    }
    return *this;
  }
  operator ashlar::view<T>() { return {storage.data(), &spec}; }
  operator ashlar::view<const T>() const { return {storage.data(), &spec}; }
};

struct problem {
  std::int64_t B, H, Hkv, T, Dh;
  [[nodiscard]] std::string name(const char* what) const {
    return std::string("attention") + what + "/f32/B:" + std::to_string(B) +
           "/H:" + std::to_string(H) + (Hkv == H ? "" : "/Hkv:" + std::to_string(Hkv)) +
           "/T:" + std::to_string(T) + "/Dh:" + std::to_string(Dh) + "/impl:ashlar";
  }
  [[nodiscard]] double scale() const { return 1 / std::sqrt(static_cast<double>(Dh)); }
  /// Multiplications and additions of one matrix product per causal triangle.
  [[nodiscard]] std::int64_t flops() const { return B * H * T * (T + 1) * Dh; }
};

void forward(benchmark::State& state, const problem& p) {
  array<float> q({p.B, p.H, p.T, p.Dh});
  array<float> k({p.B, p.Hkv, p.T, p.Dh});
  array<float> v({p.B, p.Hkv, p.T, p.Dh});
  array<float> out({p.B, p.H, p.T, p.Dh});
  q.randomise(1);
  k.randomise(2);
  v.randomise(3);
  for (auto _ : state) {
    kernels::sdpa<float>(out, q, k, v, true, p.scale());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * p.flops());
}

void backward(benchmark::State& state, const problem& p) {
  array<float> q({p.B, p.H, p.T, p.Dh});
  array<float> k({p.B, p.Hkv, p.T, p.Dh});
  array<float> v({p.B, p.Hkv, p.T, p.Dh});
  array<float> dout({p.B, p.H, p.T, p.Dh});
  q.randomise(1);
  k.randomise(2);
  v.randomise(3);
  dout.randomise(4);
  array<float> out = q;
  array<float> dq = q;
  array<float> dk = k;
  array<float> dv = v;
  kernels::sdpa<float>(out, q, k, v, true, p.scale());
  for (auto _ : state) {
    kernels::sdpa_backward<float>(dq, dk, dv, dout, q, k, v, out, true, p.scale());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 5 * p.flops());
}

/// One new token for each of B sequences of T tokens.
void decode(benchmark::State& state, const problem& p) {
  constexpr std::int64_t block_tokens = 16;
  const std::int64_t blocks = (p.T + block_tokens - 1) / block_tokens;
  array<float> keys({p.B * blocks, p.Hkv, p.Dh, block_tokens});
  array<float> values({p.B * blocks, p.Hkv, block_tokens, p.Dh});
  array<float> q({p.B, p.H, p.Dh});
  array<float> out({p.B, p.H, p.Dh});
  keys.randomise(1);
  values.randomise(2);
  q.randomise(3);
  array<std::int32_t> tables({p.B, blocks});
  array<std::int32_t> sequence({p.B});
  array<std::int32_t> position({p.B}, static_cast<std::int32_t>(p.T - 1));
  for (std::size_t i = 0; i < tables.storage.size(); ++i) {
    tables.storage[i] = static_cast<std::int32_t>(i);
  }
  for (std::size_t i = 0; i < sequence.storage.size(); ++i) {
    sequence.storage[i] = static_cast<std::int32_t>(i);
  }
  for (auto _ : state) {
    kernels::paged_attention<float>(out, q, keys, values, tables, sequence, position, p.scale());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * p.B * p.H * p.T * p.Dh * 4);
}

const bool registered = [] {
  for (const problem p :
       {problem{4, 8, 8, 256, 32}, problem{8, 4, 2, 128, 16}, problem{1, 12, 12, 1024, 64}}) {
    benchmark::RegisterBenchmark(p.name("").c_str(), [p](auto& s) {
      forward(s, p);
    })->UseRealTime();
    benchmark::RegisterBenchmark(p.name("_backward").c_str(), [p](auto& s) {
      backward(s, p);
    })->UseRealTime();
  }
  for (const problem p : {problem{1, 8, 4, 128, 8}, problem{1, 8, 4, 256, 8},
                          problem{8, 8, 4, 256, 8}, problem{1, 32, 8, 2048, 64}}) {
    benchmark::RegisterBenchmark(p.name("_decode").c_str(), [p](auto& s) {
      decode(s, p);
    })->UseRealTime();
  }
  return true;
}();

}  // namespace
