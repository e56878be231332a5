// SPDX-License-Identifier: Apache-2.0
#ifdef ASHLAR_BENCH_DEBUG_BUILD
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/attention_backward.hpp"
#include "ashlar/chip/host/kept_attention.hpp"
#include "ashlar/chip/host/paged_attention.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/kv/precision.hpp"

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

constexpr std::int64_t block_tokens = 16;

/// One new token for each of B sequences of T tokens; `attend(out, q, tables, sequence, position)`.
void decode_with(benchmark::State& state, const problem& p, const auto& attend) {
  const std::int64_t blocks = (p.T + block_tokens - 1) / block_tokens;
  array<float> q({p.B, p.H, p.Dh});
  array<float> out({p.B, p.H, p.Dh});
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
    attend(out, q, tables, sequence, position);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * p.B * p.H * p.T * p.Dh * 4);
}

void decode(benchmark::State& state, const problem& p) {
  const std::int64_t blocks = p.B * ((p.T + block_tokens - 1) / block_tokens);
  array<float> keys({blocks, p.Hkv, p.Dh, block_tokens});
  array<float> values({blocks, p.Hkv, block_tokens, p.Dh});
  keys.randomise(1);
  values.randomise(2);
  decode_with(state, p, [&](auto& out, auto& q, auto& tables, auto& sequence, auto& position) {
    kernels::paged_attention<float>(out, q, keys, values, tables, sequence, position, p.scale());
  });
}

/// The same over a cache kept by `P`.
template <class P>
void decode_kept(benchmark::State& state, const problem& p) {
  const std::int64_t blocks = p.B * ((p.T + block_tokens - 1) / block_tokens);
  array<float> head({p.Dh});
  const auto each = P::bytes(static_cast<std::size_t>(p.Dh));
  std::vector<std::byte> keys(static_cast<std::size_t>(blocks * p.Hkv * block_tokens) * each);
  for (std::size_t at = 0; at < keys.size(); at += each) {
    P::write(head.randomise(static_cast<unsigned>(at)).storage, std::span(keys).subspan(at, each));
  }
  const auto values = keys;
  const kernels::kept_cache cache{
      keys, values, blocks, p.Hkv, p.Dh, block_tokens, static_cast<std::int64_t>(each)};
  const auto read = [](auto from, auto to) { P::read(from, to); };
  decode_with(state, p, [&](auto& out, auto& q, auto& tables, auto& sequence, auto& position) {
    kernels::kept_attention<float>(out, q, cache, tables, sequence, position, p.scale(), read);
  });
  state.counters["cache_bytes"] = static_cast<double>(2 * keys.size());
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
  const auto kept = [](const char* what, auto run) {
    for (const problem p : {problem{1, 32, 8, 2048, 64}, problem{32, 32, 8, 2048, 64}}) {
      benchmark::RegisterBenchmark(p.name(what).c_str(), [p, run](auto& s) {
        run(s, p);
      })->UseRealTime();
    }
  };
  kept("_decode_own", [](auto& s, const problem& p) { decode(s, p); });
  kept("_decode_kept_f32", decode_kept<ashlar::kv::as<float>>);
  kept("_decode_kept_bf16", decode_kept<ashlar::kv::as<ashlar::bfloat16>>);
  kept("_decode_kept_f16", decode_kept<ashlar::kv::as<ashlar::float16>>);
  kept("_decode_kept_e4m3", decode_kept<ashlar::kv::as<ashlar::float8_e4m3>>);
  kept("_decode_kept_int8", decode_kept<ashlar::kv::int8_per_head>);
  return true;
}();

}  // namespace
