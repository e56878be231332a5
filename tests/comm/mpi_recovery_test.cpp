// SPDX-License-Identifier: Apache-2.0
// Runs as several processes of `mpirun --enable-recovery`, of which rank 1 dies. CMake counts who
// says that it has survived: what mpirun returns does not tell.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/mpi.hpp"

namespace comm = ashlar::comm;

TEST_CASE("comm/mpi_recovery: a rank that dies leaves the others an error in time") {
  // Messages go in pieces, not by one read of the sender's memory: else there is no middle.
  setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
  constexpr std::chrono::duration<double> patience = std::chrono::milliseconds(300);
  auto began = std::chrono::steady_clock::now();
  bool told = false;
  try {
    const comm::mpi_session session;
    comm::mpi on(MPI_COMM_WORLD, patience);
    std::vector<float> data(1000000, 1.0F);
    comm::all_reduce<comm::ring>(on, std::span(data));
    began = std::chrono::steady_clock::now();
    if (on.rank() == 1 && on.size() == 3) {
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    if (on.rank() == 1) {  // in the middle of a message
      auto out = on.isend(0, std::as_bytes(std::span(data)), 7);
      on.test(out);
      std::raise(SIGKILL);
    }
    if (on.rank() == 0 && on.size() == 4) {
      REQUIRE_THROWS_AS(on.recv(1, std::as_writable_bytes(std::span(data)), 7), comm::timed_out);
      REQUIRE_THROWS_AS(comm::mpi(MPI_COMM_SELF), comm::peer_failed);  // done with MPI
    }
    comm::all_reduce<comm::ring>(on, std::span(data));  // of which rank 0 hears from rank 3
  } catch (const comm::timed_out& e) {
    told = e.seconds == patience.count();
  } catch (const comm::peer_failed& e) {
    told = e.rank == 0 && e.peer == 1;
  }
  REQUIRE(told);
  // Neither waiting nor leaving hangs: both end within some time-outs, not within minutes.
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(30));
  std::printf("survived\n");
}
