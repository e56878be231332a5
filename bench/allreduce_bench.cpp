// SPDX-License-Identifier: Apache-2.0
// All-reduce of float32 between the threads of one process. The peer, Open MPI's MPI_Allreduce
// between processes, has a program of its own: allreduce_mpi.
#include <benchmark/benchmark.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/threads.hpp"

namespace {

namespace comm = ashlar::comm;

/// A core for each rank, as mpirun has it: else the first milliseconds pass on one core. More ranks
/// than cores take turns.
void bind_to_core(int rank) {
  static const unsigned available = std::max(1U, std::thread::hardware_concurrency());
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<unsigned>(rank) % available, &cores);
  sched_setaffinity(0, sizeof(cores), &cores);
}

/// Seconds per all-reduce, of many in a row.
template <class Algorithm>
double measure(int ranks, std::size_t bytes, const Algorithm& how) {
  const int rounds = static_cast<int>(std::size_t{200'000'000} / (bytes + 50'000)) + 3;
  return comm::run(ranks, [&](comm::threads& t) {
    bind_to_core(t.rank());
    std::vector<float> data(bytes / sizeof(float), 0.0F);
    const auto repeat = [&](int times) {
      for (int i = 0; i < times; ++i) {
        comm::all_reduce(t, std::span(data), comm::sum, how);
      }
    };
    repeat(rounds / 10 + 1);
    comm::barrier(t);
    const auto began = std::chrono::steady_clock::now();
    repeat(rounds);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    return took.count() / rounds;
  })[0];
}

template <class Algorithm>
void all_reduce(benchmark::State& state, const Algorithm& how) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto ranks = static_cast<int>(state.range(1));
  double total = 0;
  for (auto _ : state) {
    const double seconds = measure(ranks, bytes, how);
    total += seconds;
    state.SetIterationTime(seconds);
  }
  // What each rank must at least send, over time: of two ranks, bytes over time.
  const double sent = 2.0 * static_cast<double>(bytes) * (ranks - 1) / ranks;
  state.counters["bus"] =
      benchmark::Counter(sent * static_cast<double>(state.iterations()) / total,
                         benchmark::Counter::kDefaults, benchmark::Counter::kIs1000);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Iterations(5)->Unit(benchmark::kMicrosecond)->ArgNames({"bytes", "ranks"});
  for (const int ranks : {2, 4}) {
    for (int shift = 10; shift <= 26; shift += 2) {
      b->Args({std::int64_t{1} << shift, ranks});
    }
  }
}

BENCHMARK_CAPTURE(all_reduce, recursive_doubling, comm::recursive_doubling{})->Apply(sizes);
BENCHMARK_CAPTURE(all_reduce, ring, comm::ring{})->Apply(sizes);
BENCHMARK_CAPTURE(all_reduce, segmented_ring, comm::segmented_ring{})->Apply(sizes);
BENCHMARK_CAPTURE(all_reduce, ordered, comm::ordered{})->Apply(sizes);

}  // namespace
