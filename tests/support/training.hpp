// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <vector>

#include "support/llama.hpp"

/// Training of small models for tests, compiled once in `training.cpp`.
namespace ashlar::testing {

struct training_plan {
  int ranks = 1;
  int micro_batches = 1;  ///< per rank and step
  int threads = 1;        ///< of the host, per rank
  int steps = 20;
  std::uint64_t seed = 1;
  bool ordered = false;             ///< all-reduce in the order of ranks; otherwise in a ring
  std::size_t bucket_bytes = 4096;  ///< small, so that there are several
};

struct training_result {
  training_llama model;
  std::vector<float> losses;  ///< of each micro-batch on this rank
};

/// Trains from `plan.seed` with AdamW, clipping and a schedule; what each rank ends with.
///
/// Global micro-batch `n` is a function of the seed and `n`; each step uses the next `ranks *
/// micro_batches` of them, rank by rank.
std::vector<training_result> train(const llama_config& c, const training_plan& plan);

}  // namespace ashlar::testing
