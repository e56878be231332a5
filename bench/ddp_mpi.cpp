// SPDX-License-Identifier: Apache-2.0
// How much of its communication data parallelism over MPI hides behind backward passes. Run as
// `mpirun -n 2 ddp_mpi`.
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/mpi.hpp"
#include "ashlar/comm/traced.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/stack.hpp"

namespace {

namespace al = ashlar;
namespace comm = ashlar::comm;
using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;
using layer = al::nn::linear<stack>;

struct tower {
  using layers_type = std::vector<layer>;
  BOOST_HANA_DEFINE_STRUCT(tower, (layers_type, layers));
};

constexpr std::int64_t width = 1024;
constexpr int layers = 12;  // 48 MiB: buckets of 4, 24 and 20

/// The longest of the ranks' times for `f`, each step begun together [s].
template <class F>
double time_of(const F& f) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double began = MPI_Wtime();
  f();
  double took = MPI_Wtime() - began;
  MPI_Allreduce(MPI_IN_PLACE, &took, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return took;
}

}  // namespace

int main() {
  const comm::mpi_session session;
  comm::mpi wires;
  const al::chip::thread_limit one(1);
  tower m;
  for (int i = 0; i < layers; ++i) {
    m.layers.push_back(layer::make(width, width));
  }
  al::nn::require_grad(m);
  comm::run_record record(wires.rank());
  comm::traced t(wires, record);
  al::parallel::ddp ddp(m, t);
  if (wires.rank() == 0) {
    std::printf("%6s %12s %12s %12s %10s %10s\n%71s\n", "rows", "computing", "reducing", "together",
                "hidden", "under way", "[ms, best of 7; shares of reducing, and of its timeline]");
  }
  for (const std::int64_t rows : {64, 256, 1024, 2048}) {
    const tensor input = al::randn<tensor>({rows, width}, 1);
    const auto step = [&] {
      tensor x = input;
      for (const layer& l : m.layers) {
        x = l(x);
      }
      const tensor loss = al::sum(x);
      const auto busy = t.compute("backward");
      al::backward(loss);
    };
    std::array<double, 3> best{1e9, 1e9, 1e9};
    std::int64_t from = 0;
    for (int turn = 0; turn < 7; ++turn) {
      best[0] = std::min(best[0], time_of([&] {
                           const auto quiet = ddp.no_sync();
                           step();
                         }));
      best[1] = std::min(best[1], time_of([&] { ddp.reduce(); }));
      al::nn::zero_grad(m);
      from = record.now();
      best[2] = std::min(best[2], time_of([&] {
                           step();
                           ddp.finish();
                         }));
      al::nn::zero_grad(m);
    }
    al::trace::timeline last;  // step of this size
    for (const auto& e : record.timeline().events()) {
      if (e.start >= from) {
        last.add(e);
      }
    }
    if (wires.rank() == 0) {
      std::printf("%6lld %12.2f %12.2f %12.2f %9.0f%% %9.0f%%\n", static_cast<long long>(rows),
                  best[0] * 1e3, best[1] * 1e3, best[2] * 1e3,
                  100 * (1 - (best[2] - best[0]) / best[1]),
                  100 * comm::overlap_of(last, 0).share());
    }
  }
}
