// SPDX-License-Identifier: Apache-2.0
// A llama trained with AdamW, clipping and a schedule: the bits of its weights are a function of
// the seed and the global batches, whatever the ranks and threads that computed them.
#include "support/training.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "ashlar/parallel/llama.hpp"
#include "ashlar/parallel/pipeline.hpp"

namespace testing = ashlar::testing;

namespace {

testing::llama_config small() {
  return {.dim = 24,
          .hidden = 41,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 6,
          .vocab = 53,
          .context = 16,
          .tied_embeddings = true};
}

std::vector<float> weights(const testing::training_plan& plan, std::size_t rank = 0) {
  return testing::weights_of(testing::train(small(), plan).at(rank).model);
}

/// Shapes that a group of two, three or four divides unevenly.
testing::llama_config divisible(bool tied) {
  auto c = small();
  c.heads = 8;
  c.kv_heads = 4;
  c.tied_embeddings = tied;
  return c;
}

/// The largest distance of one parameter's elements from another's, by the norm of the latter.
double worst_distance(const testing::named_weights& found, const testing::named_weights& wanted) {
  REQUIRE(found.size() == wanted.size());
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i].first == wanted[i].first);
    REQUIRE(found[i].second.size() == wanted[i].second.size());
    double off = 0, all = 0;
    for (std::size_t j = 0; j < found[i].second.size(); ++j) {
      const double a = found[i].second[j], b = wanted[i].second[j];
      off += (a - b) * (a - b);
      all += b * b;
    }
    worst = std::max(worst, std::sqrt(off / all));
  }
  return worst;
}

}  // namespace

TEST_CASE("parallel/training: the same seed gives the same bits, another seed others") {
  const auto first = weights({});
  CHECK(weights({}) == first);
  CHECK(weights({.seed = 2}) != first);
  CHECK(weights({.steps = 19}) != first);
}

TEST_CASE("parallel/training: two ranks have the bits of one rank with two micro-batches") {
  const auto alone = weights({.micro_batches = 2});
  const auto together = testing::train(small(), {.ranks = 2});
  CHECK(testing::weights_of(together[0].model) == alone);
  CHECK(testing::weights_of(together[1].model) == alone);
  CHECK(weights({.ranks = 2, .bucket_bytes = std::size_t{1} << 20}) == alone);
  CHECK(weights({.ranks = 2, .ordered = true}) == alone);
  CHECK(weights({.micro_batches = 1}) != alone);
}

TEST_CASE("parallel/training: four ranks in order have the bits of one rank with four") {
  const auto alone = weights({.micro_batches = 4, .steps = 8});
  CHECK(weights({.ranks = 4, .steps = 8, .ordered = true}, 3) == alone);
}

TEST_CASE("parallel/training: optimizer state and gradients in parts change no bit") {
  const auto alone = weights({.micro_batches = 4, .steps = 8, .clip = false});
  const auto whole = testing::train(small(), {.steps = 1})[0].optimizer_elements;
  for (const int zero : {1, 2}) {
    CAPTURE(zero);
    // Buckets of one parameter, of several, and one for all.
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{1} << 20}) {
      const auto ranks = testing::train(small(), {.ranks = 4,
                                                  .steps = 8,
                                                  .ordered = true,
                                                  .bucket_bytes = bytes,
                                                  .zero = zero,
                                                  .clip = false});
      std::size_t remembered = 0;
      for (const auto& rank : ranks) {
        CHECK(testing::weights_of(rank.model) == alone);
        remembered += rank.optimizer_elements;
        // A fourth of each bucket, rounded either way.
        CHECK(rank.optimizer_elements <= whole / 4 + 32);
      }
      CHECK(remembered == whole);
    }
    CHECK(weights({.ranks = 2, .micro_batches = 2, .steps = 8, .zero = zero, .clip = false}) ==
          weights({.ranks = 2, .micro_batches = 2, .steps = 8, .clip = false}));
    CHECK(weights({.micro_batches = 4, .steps = 8, .zero = zero, .clip = false}) == alone);
  }
}

TEST_CASE("parallel/training: everything in parts has the bits of one rank") {
  auto c = small();
  c.tied_embeddings = false;
  for (const int ranks : {2, 4}) {
    CAPTURE(ranks);
    const testing::training_plan plan{.ranks = ranks, .steps = 10, .clip = false};
    auto alone = plan;
    alone.ranks = 1;
    alone.micro_batches = ranks;
    const auto expected = testing::weights_of(testing::train(c, alone)[0].model);
    for (const auto& rank : testing::train_sharded(c, plan)) {
      CHECK(rank.weights == expected);
    }
  }
}

TEST_CASE("parallel/training: a rank's memory with everything in parts is what the model says") {
  namespace parallel = ashlar::parallel;
  // Matrices of which a fourth is larger than 32 KiB: smaller tensors are not counted.
  auto c = small();
  c.dim = 384;
  c.hidden = 1024;
  c.layers = 4;
  c.heads = c.kv_heads = 4;
  c.head_dim = 96;
  c.vocab = 101;
  c.tied_embeddings = false;
  const auto m = parallel::transformer::llama(c, testing::text_length);
  const auto fp32 = parallel::precision::megatron_fp32();
  auto predicted =
      parallel::memory_of(m, fp32, {.data = 4, .micro_batch = testing::text_rows, .zero = 3}, 1);
  std::vector<double> units(6, static_cast<double>(m.layer_parameters()));
  units.front() = units.back() = static_cast<double>(c.vocab * c.dim);
  using parallel::prefetch;
  CHECK(predicted.gathered == parallel::fsdp_peak(units, fp32, prefetch::pre).together);
  // What gathers earlier holds more.
  std::size_t before = 0;
  for (const prefetch how : {prefetch::none, prefetch::post, prefetch::pre}) {
    CAPTURE(static_cast<int>(how));
    predicted.gathered = parallel::fsdp_peak(units, fp32, how).together;
    std::size_t most = 0;
    for (const auto& rank : testing::train_sharded(c, {.ranks = 4, .steps = 2}, how)) {
      CHECK(static_cast<double>(rank.peak_bytes) ==
            doctest::Approx(predicted.total()).epsilon(0.1));
      CHECK(rank.peak_bytes > before);
      most = std::max(most, rank.peak_bytes);
    }
    before = most;
  }
}

TEST_CASE("parallel/training: a pipeline has the bits of one rank with its micro-batches") {
  namespace pp = ashlar::parallel::pipeline;
  auto c = small();
  c.tied_embeddings = false;
  c.layers = 4;
  const testing::training_plan plan{.micro_batches = 6, .steps = 4, .clip = false};
  const auto alone = testing::weights_of(testing::train(c, plan)[0].model);
  for (const int ranks : {1, 2, 4}) {
    CAPTURE(ranks);
    auto together = plan;
    together.ranks = ranks;
    for (const auto& s : {pp::gpipe(ranks, 6), pp::one_f_one_b(ranks, 6),
                          pp::zero_bubble_h1(ranks, 6), pp::zero_bubble_h2(ranks, 6)}) {
      CHECK(testing::train_pipeline(c, together, s) == alone);
    }
    if (ranks == 2) {
      CHECK(testing::train_pipeline(c, together, pp::interleaved(2, 2, 6)) == alone);
    }
  }
  // Transfers written out, in an order in which sends may not wait for their receivers.
  CHECK(testing::train_pipeline(c, {.ranks = 2, .micro_batches = 6, .steps = 4},
                                pp::with_transfers(pp::one_f_one_b(2, 6))) == alone);
  // Written by hand: the second stage's rank has the third one too.
  const auto own = pp::parse_csv("0F0,0F1,0I0,0B1,0W0\n1F0,2F0,2B0,1B0,1F1,2F1,2I1,1B1,2W1\n");
  CHECK(testing::train_pipeline(c, {.ranks = 2, .micro_batches = 2, .steps = 4}, own) ==
        testing::weights_of(
            testing::train(c, {.micro_batches = 2, .steps = 4, .clip = false})[0].model));
}

TEST_CASE("parallel/training: tensor, sequence and context parallel steps are those of one rank") {
  for (const bool tied : {true, false}) {
    const auto c = divisible(tied);
    const auto alone = testing::named_weights_of(
        testing::train(c, {.steps = 10, .clip = false, .peak = 1e-3})[0].model);
    // 1e-5 of each parameter's norm is what the layouts owe: they add up in other orders.
    for (const testing::model_parallel_plan& plan :
         {testing::model_parallel_plan{},
          {.tensor = 2},
          {.tensor = 3, .from_state = true},
          {.tensor = 4},
          {.tensor = 2, .sequence = true},
          {.tensor = 4, .sequence = true},
          {.context = 2},
          {.context = 4},
          {.context = 3, .zigzag = false},
          {.tensor = 2, .context = 2, .sequence = true},
          {.tensor = 4, .context = 2, .from_state = true}}) {
      CAPTURE(plan.tensor);
      CAPTURE(plan.context);
      CAPTURE(plan.sequence);
      CHECK(worst_distance(testing::train_model_parallel(c, plan), alone) < 1e-5);
    }
  }
}

TEST_CASE("parallel/training: ranks share heads of keys where there are fewer of those") {
  auto c = divisible(true);
  c.kv_heads = 2;
  const auto alone =
      testing::named_weights_of(testing::train(c, {.steps = 10, .peak = 1e-3})[0].model);
  for (const testing::model_parallel_plan& plan :
       {testing::model_parallel_plan{.tensor = 4, .clip = true},
        {.tensor = 4, .sequence = true, .from_state = true, .clip = true},
        {.tensor = 8, .clip = true}}) {
    CAPTURE(plan.tensor);
    CHECK(worst_distance(testing::train_model_parallel(c, plan), alone) < 1e-5);
  }
  namespace parallel = ashlar::parallel;
  CHECK_THROWS_AS(static_cast<void>(parallel::part_of(c, 3, 0)), parallel::too_few_heads);
  CHECK_THROWS_AS(static_cast<void>(parallel::part_of(c, 16, 0)), parallel::too_few_heads);
  c.hidden = 3;
  CHECK_THROWS_AS(static_cast<void>(parallel::part_of(c, 4, 0)), ashlar::argument_error);
  c.kv_heads = 0;
  CHECK_THROWS_AS(static_cast<void>(parallel::part_of(c, 1, 0)), parallel::too_few_heads);
}

TEST_CASE("parallel/training: data, pipeline, tensor and context parallel steps go together") {
  auto c = divisible(false);
  const auto alone = testing::named_weights_of(
      testing::train(c, {.micro_batches = 4, .steps = 10, .peak = 1e-3})[0].model);
  for (testing::model_parallel_plan plan :
       {testing::model_parallel_plan{.tensor = 2, .micro_batches = 4},
        {.tensor = 2, .data = 4},
        {.context = 2, .data = 4, .sequence = true},
        {.pipeline = 2, .data = 2, .micro_batches = 2},
        {.tensor = 2, .pipeline = 2, .data = 2, .micro_batches = 2, .sequence = true},
        {.context = 2, .pipeline = 2, .data = 2, .micro_batches = 2},
        {.tensor = 2, .context = 2, .pipeline = 2, .micro_batches = 4}}) {
    plan.clip = true;
    CAPTURE(plan.tensor);
    CAPTURE(plan.context);
    CAPTURE(plan.pipeline);
    CHECK(worst_distance(testing::train_model_parallel(c, plan), alone) < 1e-5);
  }
}

TEST_CASE("parallel/training: optimizer state and gradients of parts are in parts") {
  auto c = divisible(true);
  c.kv_heads = 2;
  const auto alone = testing::named_weights_of(
      testing::train(c, {.micro_batches = 2, .steps = 10, .clip = false, .peak = 1e-3})[0].model);
  for (const testing::model_parallel_plan& plan :
       {testing::model_parallel_plan{.tensor = 2, .data = 2, .zero = 1},
        {.tensor = 4, .data = 2, .sequence = true, .zero = 2},
        {.tensor = 2, .context = 2, .data = 2, .sequence = true, .zero = 2}}) {
    CAPTURE(plan.tensor);
    CAPTURE(plan.context);
    CHECK(worst_distance(testing::train_model_parallel(c, plan), alone) < 1e-5);
  }
}

TEST_CASE("parallel/training: a layer has four all-reduces, or eight halves of them") {
  const auto plain = testing::collectives_of(divisible(true), {.tensor = 2});
  CHECK(plain.all_reduces == 4);
  CHECK(plain.all_gathers == 0);
  CHECK(plain.reduce_scatters == 0);
  const auto sequence = testing::collectives_of(divisible(true), {.tensor = 2, .sequence = true});
  CHECK(sequence.all_reduces == 0);
  CHECK(sequence.all_gathers == 4);
  CHECK(sequence.reduce_scatters == 4);
  // Megatron's 8 b s h (t - 1) / t elements per layer, of 4 bytes, and no more with sequences.
  CHECK(plain.bytes == 8u * 2 * 12 * 24 / 2 * 4);
  CHECK(sequence.bytes == plain.bytes);
}

TEST_CASE("parallel/training: one or two host threads per rank give the same bits") {
  // Large enough that kernels use the second thread.
  auto c = testing::wide_config();
  c.tied_embeddings = true;
  const auto run = [&](int ranks, int micro_batches, int threads) {
    return testing::weights_of(
        testing::train(
            c, {.ranks = ranks, .micro_batches = micro_batches, .threads = threads, .steps = 3})
            .at(0)
            .model);
  };
  const auto expected = run(1, 2, 1);
  CHECK(run(1, 2, 2) == expected);
  CHECK(run(2, 1, 2) == expected);
}

TEST_CASE("parallel/training: the loss falls, and the trained model serves what it learnt") {
  const auto result = testing::train(small(), {.micro_batches = 2, .steps = 120});
  const std::span<const float> losses(result[0].losses);
  const auto mean = [](std::span<const float> part) {
    return std::accumulate(part.begin(), part.end(), 0.0F) / static_cast<float>(part.size());
  };
  const float first = mean(losses.first(4));
  const float last = mean(losses.last(20));
  CHECK(first > 3.5F);  // log 53 = 3.97: nothing is known
  // The stride is seen from the second token on: what remains is one guess among three of twelve
  // tokens, log 3 / 12 = 0.09, and what 120 steps leave.
  CHECK(last < 1.5F);
  const auto served = testing::served(result[0].model);
  const auto text = testing::random_tokens(16, 53, 1);
  CHECK(testing::whole_logits(served, text) == testing::whole_logits(result[0].model, text));
}
