// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "ashlar/chip/host/gemm.hpp"

#ifdef ASHLAR_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef ASHLAR_BENCH_ONEDNN
#include <dnnl.hpp>
#endif
#ifdef ASHLAR_BENCH_EIGEN
#include <Eigen/Core>
#endif

// Pin peers to one core from outside: taskset -c 1, OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1.
namespace {

struct problem {
  std::int64_t m, n, k;
  bool weights;  ///< B is stored as N rows of K, as the weights of a linear layer are
};

template <class T>
struct operands {
  std::vector<T> a, b, c;

  explicit operands(const problem& p)
      : a(static_cast<std::size_t>(p.m * p.k)),
        b(static_cast<std::size_t>(p.k * p.n)),
        c(static_cast<std::size_t>(p.m * p.n)) {
    std::mt19937 bits(1);
    for (auto* values : {&a, &b}) {
      for (T& x : *values) {
        x = static_cast<T>(static_cast<double>(bits()) / 2147483648.0 - 1.0);
      }
    }
  }
};

template <class T, class F>
void measure(benchmark::State& state, const problem& p, F multiply) {
  operands<T> x(p);
  for (auto _ : state) {
    multiply(x);
    benchmark::DoNotOptimize(x.c.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 2 * p.m * p.n * p.k);
}

template <class T>
void with_ashlar(benchmark::State& state, const problem& p) {
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
void with_onednn(benchmark::State& state, const problem& p) {
  measure<float>(state, p, [&](operands<float>& x) {
    dnnl_sgemm('N', p.weights ? 'T' : 'N', p.m, p.n, p.k, 1, x.a.data(), p.k, x.b.data(),
               p.weights ? p.k : p.n, 0, x.c.data(), p.n);
  });
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

const int registered = [] {
  std::vector<problem> problems{
      {256, 256, 256, false},  {1024, 1024, 1024, false}, {2048, 2048, 2048, false},
      {128, 3072, 768, false}, {8, 128, 128, false},      {16, 344, 128, false},
      {32, 512, 128, false},   {64, 512, 512, false},     {1, 64, 64, false},
      {1, 172, 64, false},     {1, 512, 64, false},       {1, 4096, 4096, false}};
  for (std::size_t i = 0, count = problems.size(); i < count; ++i) {
    problems.push_back(problems[i]);
    problems.back().weights = true;
  }
  for (const problem& p : problems) {
    add("f32", p, "ashlar", with_ashlar<float>);
#ifdef ASHLAR_BENCH_OPENBLAS
    add("f32", p, "openblas", with_openblas<float>);
#endif
#ifdef ASHLAR_BENCH_ONEDNN
    add("f32", p, "onednn", with_onednn);
#endif
#ifdef ASHLAR_BENCH_EIGEN
    add("f32", p, "eigen", with_eigen<float>);
#endif
  }
  for (const problem& p : {problem{256, 256, 256, false}, problem{1024, 1024, 1024, false}}) {
    add("f64", p, "ashlar", with_ashlar<double>);
#ifdef ASHLAR_BENCH_OPENBLAS
    add("f64", p, "openblas", with_openblas<double>);
#endif
#ifdef ASHLAR_BENCH_EIGEN
    add("f64", p, "eigen", with_eigen<double>);
#endif
  }
  return 0;
}();

}  // namespace
