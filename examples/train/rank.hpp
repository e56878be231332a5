// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/comm/any_endpoint.hpp>
#include <ashlar/comm/recorded.hpp>
#include <ashlar/comm/traced.hpp>
#include <ashlar/parallel/mesh.hpp>
#include <ashlar/parallel/time_model.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "demo/data.hpp"

namespace train {

namespace al = ashlar;

struct options {
  demo::options model;  ///< and its text, steps and batch; `ranks` is the mesh's
  std::string mesh = "data=2";
  int zero = 0;
  int micro_batches = 2;  ///< per step and replica
  std::string transport = "threads";
  int stop = 0;              ///< before this step; 0: after the last
  std::string save, resume;  ///< folders of checkpoints; empty: none
};

/// How the ranks are divided. Throws: `std::runtime_error` for what cannot be trained.
al::parallel::mesh layout_of(const options& o);

/// What every rank ends with.
struct outcome {
  double first_loss = 0, last_loss = 0;  ///< means over the global batch
  double held_out = 0;
  std::uint64_t fingerprint = 0;    ///< of all parameters' bits
  std::vector<std::int64_t> marks;  ///< between steps, by the clock of who timed them
};

/// Who writes down what a rank does, or nobody: for a simulated network, with the chip that it is
/// to be timed on there, or with the times that it takes here.
struct note_taker {
  al::comm::program_recorder* record = nullptr;
  al::parallel::device_rates chip = {};
  al::comm::run_record* timed = nullptr;
};

/// One rank's part of the training; every rank of the mesh calls it.
///
/// The bits are a function of the seed, the steps and the sums of gradients: first of a replica's
/// micro-batches, then of the replicas, in order. Stages and parts change none of them.
outcome run_rank(al::comm::any_endpoint& wires, const options& o, const demo::prepared& data,
                 note_taker notes = {});

}  // namespace train
