// SPDX-License-Identifier: Apache-2.0
#include "data.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

#include "text.hpp"

namespace demo {

namespace {

using tokens = std::vector<std::int32_t>;
using integers = training_model::integers;

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

}  // namespace

prepared prepare(const options& o) {
  const corpus text = read_corpus(o.text);
  al::io::tokenizer tokenizer = al::io::train_bpe(text.training, o.vocabulary);
  tokens training = tokenizer.encode(text.training);
  tokens held_out = tokenizer.encode(text.held_out);
  if (training.size() < static_cast<std::size_t>(o.context) + 2 || held_out.size() < 2) {
    throw std::runtime_error((o.text.empty() ? "the text" : "--text: '" + o.text + "'") + " has " +
                             std::to_string(training.size()) + " tokens to learn from and " +
                             std::to_string(held_out.size()) + " to judge by; --context " +
                             std::to_string(o.context) + " needs at least " +
                             std::to_string(o.context + 2) +
                             " and 2: give a longer text or a smaller --context");
  }
  std::fprintf(stderr, "text: %zu bytes, %zu tokens to learn from, %zu held out; vocabulary %d\n",
               text.training.size() + text.held_out.size(), training.size(), held_out.size(),
               static_cast<int>(tokenizer.size()));
  const auto config = shape_of(o, tokenizer);
  return {std::move(tokenizer), std::move(training), std::move(held_out), config};
}

batch draw(std::span<const std::int32_t> text, std::uint64_t seed, int context, std::uint64_t first,
           int rows) {
  tokens in;
  tokens out;
  const auto places = static_cast<std::uint64_t>(text.size() - static_cast<std::size_t>(context));
  for (int r = 0; r < rows; ++r) {
    const auto bits = al::philox_block(seed, first + static_cast<std::uint64_t>(r));
    const auto at = static_cast<std::ptrdiff_t>((std::uint64_t{bits[0]} << 32 | bits[1]) % places);
    in.insert(in.end(), text.begin() + at, text.begin() + at + context);
    out.insert(out.end(), text.begin() + at + 1, text.begin() + at + 1 + context);
  }
  return {al::from_values<integers>({rows, context}, in),
          al::from_values<integers>({std::int64_t{rows} * context}, out)};
}

double held_out_loss(const training_model& model, std::span<const std::int32_t> text, int context) {
  const al::no_grad off;
  double sum = 0;
  std::size_t count = 0;
  const auto step = static_cast<std::size_t>(context);
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

}  // namespace demo
