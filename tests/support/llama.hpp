// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ashlar/io/tokenizer.hpp"
#include "ashlar/kv/precision.hpp"
#include "ashlar/models/llama.hpp"
#include "ashlar/models/narrow_cache.hpp"
#include "ashlar/stack.hpp"

/// Small models for tests. What is costly to compile is compiled once, in the files beside this.
namespace ashlar::testing {

using training_stack = stack<on<chip::host>, differentiate<autograd::tape<>>>;
using serving_stack = training_stack::inference;
using training_llama = models::llama<training_stack>;
using serving_llama = models::llama<serving_stack>;
using models::llama_config;
template <class Precision>
using narrow_llama = models::narrow_cache<serving_llama, Precision>;

/// Grouped queries, and no size that is a multiple of a vector's: tails everywhere.
llama_config odd_config();
/// The sizes of stories260K with fewer layers.
llama_config even_config();
/// Large enough that kernels use a second thread for prompts and for batches of eight.
llama_config wide_config();

/// A model with large random weights: its logits differ, and so do its tokens.
serving_llama make_serving(const llama_config& c, std::uint64_t seed);
training_llama make_training(const llama_config& c, std::uint64_t seed);
/// The same weights on the stack without the tape.
serving_llama served(const training_llama& model);

/// A prompt of `n` tokens that depends on `seed` alone.
std::vector<std::int32_t> random_tokens(std::int64_t n, std::int64_t vocabulary,
                                        std::uint64_t seed);

/// Logits of each row of one sequence by the forward pass of training.
std::vector<float> whole_logits(const serving_llama& model, std::span<const std::int32_t> tokens);
std::vector<float> whole_logits(const training_llama& model, std::span<const std::int32_t> tokens);

/// Every parameter's elements, one after the other.
std::vector<float> weights_of(const serving_llama& model);
std::vector<float> weights_of(const training_llama& model);

/// The same model for the other form of RoPE.
serving_llama to_rotate_half(const serving_llama& model);
serving_llama to_interleaved(const serving_llama& model);

/// A model with its tokenizer, out of a file or folder.
struct opened {
  serving_llama model;
  io::tokenizer tokenizer;
};
opened open(const std::filesystem::path& path);
void save(const std::filesystem::path& folder, const serving_llama& model,
          const io::tokenizer& tokenizer);
void save(const std::filesystem::path& folder, const training_llama& model,
          const io::tokenizer& tokenizer);

}  // namespace ashlar::testing

extern template class ashlar::models::llama<ashlar::testing::training_stack>;
extern template class ashlar::models::llama<ashlar::testing::serving_stack>;
extern template class ashlar::models::narrow_cache<ashlar::testing::serving_llama,
                                                   ashlar::kv::as<float>>;
extern template class ashlar::models::narrow_cache<ashlar::testing::serving_llama,
                                                   ashlar::kv::int8_per_head>;
