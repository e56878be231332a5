// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/gemm.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/views.hpp"

#ifdef ASHLAR_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef ASHLAR_BENCH_ONEDNN
#include <dnnl.hpp>
#endif
#ifdef ASHLAR_BENCH_EIGEN
#include <Eigen/Core>
#endif

// Products of matrices by the operator, by the kernel beneath it, and by the peers.
// Pin all to one core from outside: taskset -c 1, OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace matmul_bench {

struct problem {
  std::int64_t m, n, k;
  bool weights;  ///< B is stored as N rows of K, as the weights of a linear layer are
};

/// Memory as every framework hands it out: where registers and cache lines begin.
template <class T>
struct aligned {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, alignment); }
  bool operator==(const aligned&) const = default;
};

template <class T, class R = T>
struct operands {
  std::vector<T, aligned<T>> a, b;
  std::vector<R, aligned<R>> c;

  explicit operands(const problem& p)
      : a(static_cast<std::size_t>(p.m * p.k)),
        b(static_cast<std::size_t>(p.k * p.n)),
        c(static_cast<std::size_t>(p.m * p.n)) {
    std::mt19937 bits(1);
    for (auto* values : {&a, &b}) {
      for (T& x : *values) {
        if constexpr (std::is_integral_v<T>) {
          x = static_cast<T>(bits());
        } else {
          x = T(static_cast<float>(bits()) / 2147483648.0f - 1.0f);
        }
      }
    }
  }
};

template <class T, class R = T, class F>
void measure(benchmark::State& state, const problem& p, F multiply) {
  operands<T, R> x(p);
  for (auto _ : state) {
    multiply(x);
    benchmark::DoNotOptimize(x.c.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * p.m * p.n * p.k);
}

template <class T>
void by_hand(benchmark::State& state, const problem& p) {
  measure<T>(state, p, [&](operands<T>& x) {
    ashlar::chip::gemm(ashlar::chip::gemm_args<T>{.m = p.m,
                                                  .n = p.n,
                                                  .k = p.k,
                                                  .a = x.a.data(),
                                                  .a_row = p.k,
                                                  .b = x.b.data(),
                                                  .b_row = p.weights ? 1 : p.n,
                                                  .b_col = p.weights ? p.k : 1,
                                                  .c = x.c.data(),
                                                  .c_row = p.n});
  });
}

/// As a user calls it: dispatch and, with `Fresh`, the result's allocation included. The peers
/// write into memory that is there, as `matmul.out` does.
template <bool Fresh, class T>
void by_operator(benchmark::State& state, const problem& p) {
  using tensor = ashlar::tensor<T, ashlar::make_key_set<ashlar::keys::backend<ashlar::chip::host>>>;
  const operands<T> x(p);
  const auto a = ashlar::from_values<tensor>({p.m, p.k}, x.a);
  const auto b = p.weights ? ashlar::transpose(ashlar::from_values<tensor>({p.n, p.k}, x.b), 0, 1)
                           : ashlar::from_values<tensor>({p.k, p.n}, x.b);
  auto c = ashlar::matmul(a, b);
  for (auto _ : state) {
    if constexpr (Fresh) {
      const auto y = ashlar::matmul(a, b);
      benchmark::DoNotOptimize(y.data());
    } else {
      ashlar::matmul.out(c, a, b);
      benchmark::DoNotOptimize(c.data());
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * p.m * p.n * p.k);
}

#ifdef ASHLAR_BENCH_OPENBLAS
template <class T>
void with_openblas(benchmark::State& state, const problem& p) {
  const auto m = static_cast<int>(p.m);
  const auto n = static_cast<int>(p.n);
  const auto k = static_cast<int>(p.k);
  const auto turn = p.weights ? CblasTrans : CblasNoTrans;
  measure<T>(state, p, [&](operands<T>& x) {
    if constexpr (sizeof(T) == sizeof(float)) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, turn, m, n, k, 1, x.a.data(), k, x.b.data(),
                  p.weights ? k : n, 0, x.c.data(), n);
    } else {
      cblas_dgemm(CblasRowMajor, CblasNoTrans, turn, m, n, k, 1, x.a.data(), k, x.b.data(),
                  p.weights ? k : n, 0, x.c.data(), n);
    }
  });
}
#endif

#ifdef ASHLAR_BENCH_ONEDNN
inline void with_onednn(benchmark::State& state, const problem& p) {
  measure<float>(state, p, [&](operands<float>& x) {
    dnnl_sgemm('N', p.weights ? 'T' : 'N', p.m, p.n, p.k, 1, x.a.data(), p.k, x.b.data(),
               p.weights ? p.k : p.n, 0, x.c.data(), p.n);
  });
}
#endif

#ifdef ASHLAR_BENCH_ONEDNN
/// As its primitive `matmul`, operands in plain layouts.
template <class T, class R>
void with_onednn_narrow(benchmark::State& state, const problem& p) {
  using dnnl::memory;
  constexpr bool whole = std::is_integral_v<T>;
  const auto from = whole ? memory::data_type::s8 : memory::data_type::bf16;
  const auto to = whole ? memory::data_type::s32 : memory::data_type::f32;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc a({p.m, p.k}, from, memory::format_tag::ab);
  const memory::desc b({p.k, p.n}, from,
                       p.weights ? memory::format_tag::ba : memory::format_tag::ab);
  const memory::desc c({p.m, p.n}, to, memory::format_tag::ab);
  try {
    const dnnl::matmul multiply(dnnl::matmul::primitive_desc({a, b, c}, engine));
    measure<T, R>(state, p, [&](operands<T, R>& x) {
      multiply.execute(stream, {{DNNL_ARG_SRC, memory(a, engine, x.a.data())},
                                {DNNL_ARG_WEIGHTS, memory(b, engine, x.b.data())},
                                {DNNL_ARG_DST, memory(c, engine, x.c.data())}});
      stream.wait();
    });
  } catch (const dnnl::error& e) {
    state.SkipWithError(e.what());
  }
}
#endif

#ifdef ASHLAR_BENCH_EIGEN
template <class T>
void with_eigen(benchmark::State& state, const problem& p) {
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  measure<T>(state, p, [&](operands<T>& x) {
    Eigen::Map<const matrix> a(x.a.data(), p.m, p.k);
    Eigen::Map<matrix> c(x.c.data(), p.m, p.n);
    if (p.weights) {
      Eigen::Map<const matrix> b(x.b.data(), p.n, p.k);
      c.noalias() = a * b.transpose();
    } else {
      Eigen::Map<const matrix> b(x.b.data(), p.k, p.n);
      c.noalias() = a * b;
    }
  });
}
#endif

template <class F>
void add(const std::string& type, const problem& p, const char* impl, F run) {
  const std::string name = "gemm/" + type + "/M:" + std::to_string(p.m) +
                           "/N:" + std::to_string(p.n) + "/K:" + std::to_string(p.k) +
                           (p.weights ? "/B:nk" : "") + "/impl:" + impl;
  benchmark::RegisterBenchmark(name.c_str(), run, p)->UseRealTime();
}

/// Registers every peer that computes in `T`.
template <class T>
void add_peers([[maybe_unused]] const std::string& type, [[maybe_unused]] const problem& p) {
#ifdef ASHLAR_BENCH_OPENBLAS
  add(type, p, "openblas", with_openblas<T>);
#endif
#ifdef ASHLAR_BENCH_ONEDNN
  if constexpr (sizeof(T) == sizeof(float)) {
    add(type, p, "onednn", with_onednn);
  }
#endif
#ifdef ASHLAR_BENCH_EIGEN
  add(type, p, "eigen", with_eigen<T>);
#endif
}

}  // namespace matmul_bench
