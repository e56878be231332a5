// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace ashlar::io {

/// The dimensions and constants of a Llama-architecture model.
struct model_config {
  std::int64_t dim = 0;     ///< width of the residual stream
  std::int64_t hidden = 0;  ///< width of the feed-forward layer
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  ///< divides `heads`
  std::int64_t head_dim = 0;  ///< even, for RoPE
  std::int64_t vocab = 0;
  std::int64_t context = 0;  ///< the most tokens the model was made for
  double norm_eps = 1e-5;
  double rope_theta = 10000;
  /// Whether RoPE turns (0, 1), (2, 3), ... or (0, head_dim / 2), (1, head_dim / 2 + 1), ...
  bool rope_interleaved = false;
  bool tied_embeddings = false;  ///< the output layer is the embedding
  std::int32_t bos = -1;         ///< -1: none
  std::int32_t eos = -1;

  friend bool operator==(const model_config&, const model_config&) = default;
};

}  // namespace ashlar::io
