// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/any_endpoint.hpp"
#include "ashlar/parallel/memory_model.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"
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
  int zero = 0;                     ///< optimizer state (1) and gradients (2) in parts
  bool clip = true;                 ///< by the norm, which parts add up in another order
  double peak = 1e-2;               ///< of the learning rate
};

struct training_result {
  training_llama model;
  std::vector<float> losses;           ///< of each micro-batch on this rank
  std::size_t optimizer_elements = 0;  ///< that this rank's optimizer remembers
};

/// Trains from `plan.seed` with AdamW, clipping and a schedule; what each rank ends with.
///
/// Global micro-batch `n` is a function of the seed and `n`; each step uses the next `ranks *
/// micro_batches` of them, rank by rank.
std::vector<training_result> train(const llama_config& c, const training_plan& plan);

/// The same through a pipeline of `schedule`, with all of a step's micro-batches on every rank and
/// without clipping: every parameter's elements, each from the rank that trains it.
std::vector<float> train_pipeline(const llama_config& c, const training_plan& plan,
                                  const parallel::pipeline::schedule& schedule);

/// How a Llama is divided: ranks of one tensor parallel group follow each other, then those of one
/// context, of one pipeline and of one data parallel group.
struct model_parallel_plan {
  int tensor = 1;
  int context = 1;
  int pipeline = 1;       ///< by 1F1B
  int data = 1;           ///< by `ddp` where there is one stage and one micro-batch
  int micro_batches = 1;  ///< per data parallel rank and step
  bool sequence = false;  ///< parallel, in the tensor group
  bool zigzag = true;
  bool from_state = false;  ///< parts are loaded, not cut
  bool clip = false;        ///< by the norm
  int zero = 0;             ///< of `ddp`
  int steps = 10;
  std::uint64_t seed = 1;
  double peak = 1e-3;
};

/// Elements of a whole model by the names of its parameters.
using named_weights = std::vector<std::pair<std::string, std::vector<float>>>;

/// One rank of the plan: trains as `train` on one rank with all micro-batches.
/// Returns: the whole parameters of this rank's stage.
named_weights train_model_parallel(const llama_config& c, const model_parallel_plan& plan,
                                   comm::any_endpoint& endpoint);
/// All of its ranks as threads; each parameter from the first rank that trains it.
named_weights train_model_parallel(const llama_config& c, const model_parallel_plan& plan);
named_weights named_weights_of(const training_llama& model);

/// A layer's collectives in one step, by the messages of this rank: with `sequence`, all-gathers
/// and reduce-scatters.
struct layer_collectives {
  int all_reduces = 0, all_gathers = 0, reduce_scatters = 0;
  std::size_t bytes = 0;
};
/// Of a Llama with `layers` layers, less those of one without: what a step's forward and backward
/// passes begin on each of `ranks`.
layer_collectives collectives_of(const llama_config& c, const model_parallel_plan& plan);

/// The same with everything in parts, the embedding, every layer and what is behind them a unit
/// each; summed in the order of ranks, without clipping.
struct sharded_result {
  std::vector<float> weights;
  std::size_t peak_bytes = 0;  ///< of tensors too large to lie with their handles, while training
};
std::vector<sharded_result> train_sharded(const llama_config& c, const training_plan& plan,
                                          parallel::prefetch prefetch = parallel::prefetch::pre);

/// Rows and tokens of a micro-batch.
constexpr std::int64_t text_rows = 2, text_length = 12;

}  // namespace ashlar::testing
