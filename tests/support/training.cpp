// SPDX-License-Identifier: Apache-2.0
#include "support/training.hpp"

#include <cstddef>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/nn/schedule.hpp"
#include "ashlar/parallel/ddp.hpp"

namespace ashlar::testing {

namespace {

using integers = training_llama::integers;

/// Counting sequences with strides that the model must notice: easy to learn.
auto loss_of(const training_llama& model, std::uint64_t seed, std::uint64_t number) {
  constexpr std::int64_t rows = 2;
  constexpr std::int64_t length = 12;
  std::vector<std::int32_t> in, out;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto bits = philox_block(seed, number * rows + static_cast<std::uint64_t>(r));
    const auto vocabulary = static_cast<std::uint32_t>(model.config.vocab);
    std::uint32_t token = bits[0] % vocabulary;
    const std::uint32_t stride = 1 + bits[1] % 3;
    for (std::int64_t t = 0; t < length; ++t) {
      in.push_back(static_cast<std::int32_t>(token));
      token = (token + stride) % vocabulary;
      out.push_back(static_cast<std::int32_t>(token));
    }
  }
  return model.loss(from_values<integers>({rows, length}, in),
                    from_values<integers>({rows * length}, out));
}

template <class Algorithm>
training_result train_rank(const llama_config& c, const training_plan& plan,
                           comm::threads& endpoint) {
  const chip::thread_limit limit(plan.threads);
  // Another rank's own start does not count: `ddp` hands out rank 0's.
  auto model = training_llama::make(c, plan.seed + static_cast<std::uint64_t>(endpoint.rank()));
  nn::require_grad(model);
  parallel::ddp ddp(model, endpoint,
                    parallel::ddp_options{.first_bucket_bytes = plan.bucket_bytes,
                                          .bucket_bytes = plan.bucket_bytes,
                                          .micro_batches = plan.micro_batches},
                    Algorithm{});
  nn::adamw optimizer(model, {.weight_decay = 0.1});
  const nn::warmup_cosine rate{.peak = 1e-2, .floor = 1e-3, .warmup = 3, .total = plan.steps};
  std::vector<float> losses;
  for (int step = 0; step < plan.steps; ++step) {
    const auto batch = [&](int b) {
      const int number = (step * plan.ranks + endpoint.rank()) * plan.micro_batches + b;
      const auto loss = loss_of(model, plan.seed, static_cast<std::uint64_t>(number));
      losses.push_back(item(loss));
      backward(loss);
    };
    for (int b = 0; b + 1 < plan.micro_batches; ++b) {
      const auto quiet = ddp.no_sync();
      batch(b);
    }
    batch(plan.micro_batches - 1);
    ddp.finish();
    nn::clip_grad_norm(model, 0.5);
    optimizer.step(rate(step));
    nn::zero_grad(model);
  }
  return {std::move(model), std::move(losses)};
}

}  // namespace

std::vector<training_result> train(const llama_config& c, const training_plan& plan) {
  return comm::run(plan.ranks, [&](comm::threads& endpoint) {
    return plan.ordered ? train_rank<comm::ordered>(c, plan, endpoint)
                        : train_rank<comm::ring>(c, plan, endpoint);
  });
}

}  // namespace ashlar::testing
