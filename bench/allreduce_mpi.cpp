// SPDX-License-Identifier: Apache-2.0
// All-reduce of float32 between processes: MPI_Allreduce, and Ashlar's algorithms over MPI's
// messages, in turns. Run as `mpirun -n 2 allreduce_mpi`.
#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <span>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/mpi.hpp"

namespace {

namespace comm = ashlar::comm;

/// The best of several turns, in seconds per call.
template <class F>
void best_of(std::vector<double>& best, std::size_t at, int rounds, const F& call) {
  call();
  MPI_Barrier(MPI_COMM_WORLD);
  const double began = MPI_Wtime();
  for (int i = 0; i < rounds; ++i) {
    call();
  }
  best[at] = std::min(best[at], (MPI_Wtime() - began) / rounds);
}

}  // namespace

int main() {
  const comm::mpi_session session;
  comm::mpi on;
  if (on.rank() == 0) {
    std::printf("%12s %14s %14s %14s %14s   [us, best of 3]\n", "bytes", "MPI_Allreduce",
                "doubling", "ring", "segmented");
  }
  for (std::size_t bytes = 1024; bytes <= std::size_t{64} << 20; bytes *= 4) {
    std::vector<float> data(bytes / sizeof(float), 0.0F);
    const std::span<float> all(data);
    const int rounds = static_cast<int>(std::size_t{50'000'000} / (bytes + 100'000)) + 2;
    std::vector<double> best(4, 1e9);
    for (int turn = 0; turn < 3; ++turn) {
      best_of(best, 0, rounds, [&] {
        MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_FLOAT, MPI_SUM,
                      MPI_COMM_WORLD);
      });
      best_of(best, 1, rounds,
              [&] { comm::all_reduce(on, all, comm::sum, comm::recursive_doubling{}); });
      best_of(best, 2, rounds, [&] { comm::all_reduce(on, all, comm::sum, comm::ring{}); });
      best_of(best, 3, rounds, [&] {
        comm::all_reduce(on, all, comm::sum, comm::segmented_ring{std::size_t{1} << 20});
      });
    }
    if (on.rank() == 0) {
      std::printf("%12zu %14.2f %14.2f %14.2f %14.2f\n", bytes, best[0] * 1e6, best[1] * 1e6,
                  best[2] * 1e6, best[3] * 1e6);
    }
  }
}
