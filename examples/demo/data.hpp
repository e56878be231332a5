// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/io.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "model.hpp"
#include "options.hpp"

namespace demo {

/// A text as a model sees it.
struct prepared {
  al::io::tokenizer tokenizer;
  std::vector<std::int32_t> training, held_out;
  al::models::llama_config config;  ///< of a model for it
};

/// Reads the text, learns a tokenizer from it and cuts it into tokens.
///
/// Effects: says on stderr how much it is.
/// Throws:  `std::runtime_error` where the text cannot be read or is too short.
prepared prepare(const options& o);

/// Rows of a batch: `context` tokens each, and the same shifted by one.
struct batch {
  training_model::integers inputs, targets;
};

/// The sequences of one micro-batch. Which ones depends on the seed and their numbers alone, so
/// that any number of ranks sees the same global batches.
batch draw(std::span<const std::int32_t> text, std::uint64_t seed, int context, std::uint64_t first,
           int rows);

/// Mean loss over a whole text, in windows of the context, each token predicted once.
double held_out_loss(const training_model& model, std::span<const std::int32_t> text, int context);

}  // namespace demo
