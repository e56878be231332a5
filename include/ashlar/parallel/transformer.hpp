// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/io/model_config.hpp"

/// How large a transformer is and how much it computes: what memory and time models start from.
namespace ashlar::parallel {

/// A decoder of equal layers.
struct transformer {
  std::int64_t layers = 1;
  std::int64_t width = 1;  ///< of the residual stream
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;
  std::int64_t head_dim = 1;
  std::int64_t hidden = 1;  ///< of the feed-forward layer
  std::int64_t vocabulary = 1;
  std::int64_t sequence = 1;  ///< tokens of a text
  bool gated = false;         ///< three matrices in the feed-forward layer, not two
  bool biases = false;        ///< of matrices and norms
  bool positions = false;     ///< a learnt table of them
  bool tied = true;           ///< the output layer is the embedding
  bool dropout = false;       ///< masks are kept for the backward pass
  bool scores_kept = false;   ///< the attention's, for the backward pass; a fused kernel keeps none

  /// The architecture that Megatron's papers reckon with.
  [[nodiscard]] static transformer gpt(std::int64_t layers, std::int64_t width, std::int64_t heads,
                                       std::int64_t vocabulary, std::int64_t sequence) {
    return {layers,   width, heads, heads, width / heads, 4 * width, vocabulary,
            sequence, false, true,  true,  true,          true,      true};
  }
  [[nodiscard]] static transformer llama(const io::model_config& c, std::int64_t sequence) {
    return {c.layers, c.dim, c.heads, c.kv_heads, c.head_dim,        c.hidden, c.vocab,
            sequence, true,  false,   false,      c.tied_embeddings, false,    false};
  }

  [[nodiscard]] std::int64_t query_width() const { return heads * head_dim; }
  [[nodiscard]] std::int64_t key_width() const { return kv_heads * head_dim; }
  /// Elements of a layer's matrices.
  [[nodiscard]] std::int64_t layer_matrices() const {
    return width * (2 * query_width() + 2 * key_width() + (gated ? 3 : 2) * hidden);
  }
  [[nodiscard]] std::int64_t layer_parameters() const {
    const std::int64_t bias = query_width() + 2 * key_width() + width + hidden + width;
    return layer_matrices() + (biases ? bias + 4 * width : 2 * width);
  }
  [[nodiscard]] std::int64_t embedding_parameters() const {
    return (vocabulary + (positions ? sequence : 0)) * width;
  }
  /// All but the last norm, which Megatron's formula leaves out too.
  [[nodiscard]] std::int64_t parameters() const {
    return layers * layer_parameters() + embedding_parameters() + (tied ? 0 : vocabulary * width);
  }

  /// Operations of a layer's forward pass, for one text; those of attention count every pair of
  /// tokens, as if it were not causal.
  [[nodiscard]] double layer_flops() const {
    return 2.0 * static_cast<double>(sequence) * static_cast<double>(layer_matrices()) +
           attention_flops();
  }
  /// Of these, scores and what is done with them.
  [[nodiscard]] double attention_flops() const {
    return 4.0 * static_cast<double>(sequence) * static_cast<double>(sequence) *
           static_cast<double>(query_width());
  }
  [[nodiscard]] double output_flops() const {
    return 2.0 * static_cast<double>(sequence) * static_cast<double>(width) *
           static_cast<double>(vocabulary);
  }

  friend bool operator==(const transformer&, const transformer&) = default;
};

}  // namespace ashlar::parallel
