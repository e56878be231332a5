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
#include "progress.hpp"
#include "text.hpp"

namespace demo {

namespace {

using tokens = std::vector<std::int32_t>;
using integers = training_model::integers;
using parameter = training_model::parameter;

/// Rows of a batch: `context` tokens each, and the same shifted by one.
struct batch {
  integers inputs, targets;
};

/// The sequences of one micro-batch. Which ones depends on the seed and their numbers alone, so
/// that any number of ranks sees the same global batches.
batch draw(std::span<const std::int32_t> text, const options& o, std::uint64_t first, int rows) {
  tokens in;
  tokens out;
  const auto places = static_cast<std::uint64_t>(text.size() - static_cast<std::size_t>(o.context));
  for (int r = 0; r < rows; ++r) {
    const auto bits = al::philox_block(o.seed, first + static_cast<std::uint64_t>(r));
    const auto at = static_cast<std::ptrdiff_t>((std::uint64_t{bits[0]} << 32 | bits[1]) % places);
    in.insert(in.end(), text.begin() + at, text.begin() + at + o.context);
    out.insert(out.end(), text.begin() + at + 1, text.begin() + at + 1 + o.context);
  }
  return {al::from_values<integers>({rows, o.context}, in),
          al::from_values<integers>({std::int64_t{rows} * o.context}, out)};
}

/// Mean loss over a whole text, in windows of the context, each token predicted once.
double held_out_loss(const training_model& model, std::span<const std::int32_t> text,
                     const options& o) {
  const al::no_grad off;
  double sum = 0;
  std::size_t count = 0;
  const auto step = static_cast<std::size_t>(o.context);
  for (std::size_t at = 0; at + 1 < text.size(); at += step) {
    const std::size_t n = std::min(step, text.size() - 1 - at);
    const auto in = text.subspan(at, n);
    const auto out = text.subspan(at + 1, n);
    const auto length = static_cast<std::int64_t>(n);
    const auto loss = model.loss(al::from_values<integers>({1, length}, in),
                                 al::from_values<integers>({length}, out));
    sum += static_cast<double>(al::item(loss)) * static_cast<double>(n);
    count += n;
  }
  return sum / static_cast<double>(count);
}

al::models::llama_config shape_of(const options& o, const al::io::tokenizer& tokenizer) {
  al::models::llama_config c;
  c.dim = o.dim;
  c.hidden = (o.dim * 8 / 3 + 15) / 16 * 16;
  c.layers = o.layers;
  c.heads = o.heads;
  c.kv_heads = o.kv_heads;
  c.head_dim = o.dim / o.heads;
  c.vocab = tokenizer.size();
  c.context = o.context;
  c.tied_embeddings = true;
  c.bos = tokenizer.bos();
  c.eos = tokenizer.eos();
  return c;
}

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
      const batch b = draw(text, o, first, rows);
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
  const corpus text = read_corpus(o.text);
  al::io::tokenizer tokenizer = al::io::train_bpe(text.training, o.vocabulary);
  const tokens training = tokenizer.encode(text.training);
  const tokens held_out = tokenizer.encode(text.held_out);
  if (training.size() < static_cast<std::size_t>(o.context) + 2 || held_out.size() < 2) {
    throw std::runtime_error((o.text.empty() ? "the text" : "--text: '" + o.text + "'") + " has " +
                             std::to_string(training.size()) + " tokens to learn from and " +
                             std::to_string(held_out.size()) + " to judge by; --context " +
                             std::to_string(o.context) + " needs at least " +
                             std::to_string(o.context + 2) +
                             " and 2: give a longer text or a smaller --context");
  }
  const auto config = shape_of(o, tokenizer);
  std::fprintf(stderr, "text: %zu bytes, %zu tokens to learn from, %zu held out; vocabulary %d\n",
               text.training.size() + text.held_out.size(), training.size(), held_out.size(),
               static_cast<int>(tokenizer.size()));
  std::fprintf(stderr, "training: %d ranks, %d steps of %d x %d tokens\n", o.ranks, o.steps,
               o.batch, o.context);
  training_model model = run_ranks(o, config, training);

  const double loss = held_out_loss(model, held_out, o);
  const double yardstick =
      interpolated_bigram(training, static_cast<std::size_t>(tokenizer.size())).loss(held_out);
  std::FILE* const to = o.raw ? stderr : stdout;
  std::fprintf(to, "parameters %lld, held-out loss %.4f, interpolated bigram %.4f: %s\n",
               static_cast<long long>(al::nn::parameter_count(model)), loss, yardstick,
               loss < yardstick ? "the model is better" : "the bigram is better");

  std::vector<std::string> prompts;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t at = held_out.size() * i / 8;
    const std::size_t n = std::min<std::size_t>(12, held_out.size() - at);
    prompts.push_back(tokenizer.decode(std::span(held_out).subspan(at, n)));
  }
  return {std::move(model), std::move(tokenizer), std::move(prompts)};
}

}  // namespace demo
