// SPDX-License-Identifier: Apache-2.0
#include "support/llama.hpp"

#include "ashlar/core/philox.hpp"
#include "support/recorded_llama.hpp"

template class ashlar::models::llama<ashlar::testing::training_stack>;
template class ashlar::models::llama<ashlar::testing::serving_stack>;
template class ashlar::models::narrow_cache<ashlar::testing::serving_llama, ashlar::kv::as<float>>;
template class ashlar::models::narrow_cache<ashlar::testing::serving_llama,
                                            ashlar::kv::int8_per_head>;
template class ashlar::models::recorded_step<ashlar::testing::serving_llama>;

namespace ashlar::testing {

namespace {

/// Llama's own start gives nearly equal logits; this one makes every layer matter.
template <class Model>
Model make(const llama_config& c, std::uint64_t seed) {
  Model m = Model::make(c, seed);
  std::uint64_t index = 0;
  nn::named_parameters(m, [&](const std::string&, auto& x) {
    const double deviation =
        x.rank() == 2 ? 2.0 / std::sqrt(static_cast<double>(x.extent(1))) : 0.3;
    normal.in_place(x, seed, index++ << 32, x.rank() == 2 ? 0.0 : 1.0, deviation);
  });
  return m;
}

template <class Model>
std::vector<float> logits_of(const Model& model, std::span<const std::int32_t> tokens) {
  using integers = typename Model::integers;
  return to_vector(model(from_values<integers>({1, std::ssize(tokens)}, tokens)));
}

template <class Model>
std::vector<float> weights(const Model& model) {
  std::vector<float> all;
  nn::named_parameters(model, [&](const std::string&, const auto& x) {
    const auto values = to_vector(x);
    all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}

}  // namespace

llama_config odd_config() {
  return {.dim = 72,
          .hidden = 101,
          .layers = 3,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 20,
          .vocab = 307,
          .context = 128};
}

llama_config even_config() {
  return {.dim = 64,
          .hidden = 172,
          .layers = 2,
          .heads = 8,
          .kv_heads = 4,
          .head_dim = 8,
          .vocab = 512,
          .context = 128,
          .rope_interleaved = true,
          .tied_embeddings = true};
}

llama_config wide_config() {
  return {.dim = 192,
          .hidden = 512,
          .layers = 2,
          .heads = 6,
          .kv_heads = 2,
          .head_dim = 32,
          .vocab = 1000,
          .context = 160};
}

serving_llama make_serving(const llama_config& c, std::uint64_t seed) {
  return make<serving_llama>(c, seed);
}
training_llama make_training(const llama_config& c, std::uint64_t seed) {
  return make<training_llama>(c, seed);
}
serving_llama served(const training_llama& model) { return nn::shared<serving_llama>(model); }

std::vector<std::int32_t> random_tokens(std::int64_t n, std::int64_t vocabulary,
                                        std::uint64_t seed) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto bits = philox_block(seed, static_cast<std::uint64_t>(i));
    tokens.push_back(static_cast<std::int32_t>(bits[0] % static_cast<std::uint64_t>(vocabulary)));
  }
  return tokens;
}

std::vector<float> whole_logits(const serving_llama& model, std::span<const std::int32_t> tokens) {
  return logits_of(model, tokens);
}
std::vector<float> whole_logits(const training_llama& model, std::span<const std::int32_t> tokens) {
  return logits_of(model, tokens);
}

std::vector<float> weights_of(const serving_llama& model) { return weights(model); }
std::vector<float> weights_of(const training_llama& model) { return weights(model); }

}  // namespace ashlar::testing
