// SPDX-License-Identifier: Apache-2.0
#include "train.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <span>
#include <stdexcept>
#include <utility>

#include "bigram.hpp"
#include "data.hpp"
#include "progress.hpp"

namespace demo {

namespace {

training_model run_ranks(const options& o, const al::models::llama_config& config,
                         std::span<const std::int32_t> text) {
  const int rows = o.batch / o.ranks;
  auto models = al::comm::run(o.ranks, [&](al::comm::threads& endpoint) {
    const training_stack::session session;
    const al::chip::thread_limit one(1);  // the ranks are the threads
    auto model = training_model::make(config, o.seed);
    al::nn::require_grad(model);
    al::parallel::ddp_for<training_stack> ddp(model, endpoint);
    const auto parameters = al::nn::parameters(model);
    al::nn::adamw optimizer(model, {.weight_decay = o.weight_decay});
    const al::nn::warmup_cosine rate{.peak = o.learning_rate,
                                     .floor = o.learning_rate / 10,
                                     .warmup = std::max(1, o.steps / 20),
                                     .total = o.steps};
    progress_bar bar(o.steps);
    const auto start = std::chrono::steady_clock::now();
    double smooth = 0;
    for (int step = 0; step < o.steps; ++step) {
      const auto first = static_cast<std::uint64_t>(step) * static_cast<std::uint64_t>(o.batch) +
                         static_cast<std::uint64_t>(endpoint.rank() * rows);
      const batch b = draw(text, o.seed, o.context, first, rows);
      const auto loss = model.loss(b.inputs, b.targets);
      al::backward(loss);
      al::nn::clip_grad_norm(parameters, o.clip);
      optimizer.step(rate(step));
      al::nn::zero_grad(model);
      if (endpoint.rank() == 0) {
        const double now = static_cast<double>(al::item(loss));
        smooth = step == 0 ? now : 0.95 * smooth + 0.05 * now;
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        char text_buffer[96];
        std::snprintf(text_buffer, sizeof text_buffer, "loss %.3f  %.0f tokens/s", smooth,
                      (step + 1.0) * o.batch * o.context / seconds);
        bar.show(step + 1, text_buffer);
      }
    }
    return model;
  });
  return std::move(models.front());
}

}  // namespace

trained train(const options& o) {
  prepared data = prepare(o);
  std::fprintf(stderr, "training: %d ranks, %d steps of %d x %d tokens\n", o.ranks, o.steps,
               o.batch, o.context);
  training_model model = run_ranks(o, data.config, data.training);

  const double loss = held_out_loss(model, data.held_out, o.context);
  const double yardstick =
      interpolated_bigram(data.training, static_cast<std::size_t>(data.tokenizer.size()))
          .loss(data.held_out);
  std::FILE* const to = o.raw ? stderr : stdout;
  std::fprintf(to, "parameters %lld, held-out loss %.4f, interpolated bigram %.4f: %s\n",
               static_cast<long long>(al::nn::parameter_count(model)), loss, yardstick,
               loss < yardstick ? "the model is better" : "the bigram is better");

  std::vector<std::string> prompts;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t at = data.held_out.size() * i / 8;
    const std::size_t n = std::min<std::size_t>(12, data.held_out.size() - at);
    prompts.push_back(data.tokenizer.decode(std::span(data.held_out).subspan(at, n)));
  }
  return {std::move(model), std::move(data.tokenizer), std::move(prompts)};
}

}  // namespace demo
