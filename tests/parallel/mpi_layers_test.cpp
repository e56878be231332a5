// SPDX-License-Identifier: Apache-2.0
// Runs as several processes, each of which checks what it sees.
#include <doctest/doctest.h>

#include <span>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/mpi.hpp"
#include "support/training.hpp"

namespace comm = ashlar::comm;
namespace testing = ashlar::testing;

namespace {

const comm::mpi_session session;  // before main: doctest owns that

testing::llama_config config() {
  return {.dim = 16,
          .hidden = 21,
          .layers = 2,
          .heads = 8,
          .kv_heads = 8,
          .head_dim = 2,
          .vocab = 53,
          .context = 16,
          .tied_embeddings = true};
}

std::vector<float> flat(const testing::named_weights& weights) {
  std::vector<float> all;
  for (const auto& [name, values] : weights) {
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

/// Every rank compares what it gathers with what as many threads in rank 0 give.
void check(const testing::model_parallel_plan& plan) {
  comm::mpi on;
  comm::any_endpoint endpoint(on);
  const auto found = flat(testing::train_model_parallel(config(), plan, endpoint));
  auto expected = found;
  if (on.rank() == 0) {
    expected = flat(testing::train_model_parallel(config(), plan));
  }
  comm::broadcast(on, std::span(expected), 0);
  CHECK(found == expected);
}

}  // namespace

TEST_CASE("parallel/mpi_layers: processes train to the bits that threads train to") {
  const int ranks = comm::mpi().size();
  check({.tensor = ranks, .steps = 3});
  check({.tensor = ranks, .sequence = true, .steps = 3});
  check({.context = ranks, .steps = 3});
  if (ranks % 2 == 0) {
    check({.tensor = 2, .context = ranks / 2, .sequence = true, .steps = 3});
  }
}
