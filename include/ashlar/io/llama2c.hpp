// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/shape.hpp"
#include "ashlar/io/config.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"

namespace ashlar::io {

/// A legacy checkpoint of llama2.c: seven int32, then float32 weights.
///
/// Entries carry Hugging Face names, but the rows of q and k are in the order of interleaved RoPE
/// (`config().rope_interleaved`). The file names no epsilon, base or token ids; they are the ones
/// that llama2.c uses: 1e-5, 10000, BOS 1, EOS 2.
/// Source: llama2.c (Karpathy), `run.c` and `export.py`, version 0.
class llama2c {
 public:
  /// Reads from memory that the caller keeps alive.
  ///
  /// Throws: `format_error`.
  explicit llama2c(std::span<const std::byte> bytes) { read(bytes); }

  /// Throws: `format_error` with the file's name.
  explicit llama2c(mapped_file file) : file_(std::move(file)) {
    detail::naming(file_.path().string(), [this] { read(file_.bytes()); });
  }

  /// Throws: `file_error`, `format_error`.
  static llama2c open(const std::filesystem::path& path) { return llama2c(mapped_file(path)); }

  [[nodiscard]] const model_config& config() const { return config_; }

  /// The mapping, for an owner that keeps entries longer than this reader.
  [[nodiscard]] mapped_file release() && { return std::move(file_); }
  [[nodiscard]] const entry_list& entries() const { return entries_; }
  [[nodiscard]] const tensor_entry* find(std::string_view name) const {
    return entries_.find(name);
  }

 private:
  void read(std::span<const std::byte> bytes);

  mapped_file file_;
  model_config config_;
  entry_list entries_;
};

inline void llama2c::read(std::span<const std::byte> bytes) {
  static const std::string format = "llama2c";
  std::array<std::int32_t, 7> header{};
  if (bytes.size() < sizeof(header)) {
    throw format_error(format, "header",
                       "the file has " + std::to_string(bytes.size()) + " bytes, not even " +
                           std::to_string(sizeof(header)));
  }
  std::memcpy(header.data(), bytes.data(), sizeof(header));
  model_config& c = config_;
  c.dim = header[0];
  c.hidden = header[1];
  c.layers = header[2];
  c.heads = header[3];
  c.kv_heads = header[4];
  c.vocab = std::abs(std::int64_t{header[5]});
  c.context = header[6];
  c.head_dim = detail::default_head_dim(c.dim, c.heads, format, "n_heads");
  c.rope_interleaved = true;
  c.tied_embeddings = header[5] > 0;
  c.bos = c.vocab > 2 ? 1 : -1;
  c.eos = c.vocab > 2 ? 2 : -1;
  detail::check(c, format, detail::llama2c_names);

  std::vector<tensor_entry> found;
  std::uint64_t at = sizeof(header);
  const auto take = [&](std::uint64_t floats) {
    if (floats > (bytes.size() - at) / 4) {
      throw format_error(format, "weights",
                         "the file has " + std::to_string(bytes.size()) +
                             " bytes, fewer than the header calls for");
    }
    const auto here =
        bytes.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(floats) * 4);
    at += here.size();
    return here;
  };
  const auto one = [&](std::string name, shape extents) {
    const auto floats = static_cast<std::uint64_t>(element_count(extents));
    found.push_back({std::move(name), storage_format::float32, extents, take(floats)});
  };
  // one kind of weight for all layers, then the next kind
  const auto each_layer = [&](const std::string& name, const shape& extents) {
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      one("model.layers." + std::to_string(layer) + "." + name + ".weight", extents);
    }
  };
  const std::int64_t q = c.heads * c.head_dim;
  const std::int64_t kv = c.kv_heads * c.head_dim;
  one("model.embed_tokens.weight", {c.vocab, c.dim});
  each_layer("input_layernorm", {c.dim});
  each_layer("self_attn.q_proj", {q, c.dim});
  each_layer("self_attn.k_proj", {kv, c.dim});
  each_layer("self_attn.v_proj", {kv, c.dim});
  each_layer("self_attn.o_proj", {c.dim, q});
  each_layer("post_attention_layernorm", {c.dim});
  each_layer("mlp.gate_proj", {c.hidden, c.dim});
  each_layer("mlp.down_proj", {c.dim, c.hidden});
  each_layer("mlp.up_proj", {c.hidden, c.dim});
  one("model.norm.weight", {c.dim});
  take(static_cast<std::uint64_t>(c.context * c.head_dim));  // RoPE tables, cosines then sines
  if (!c.tied_embeddings) {
    one("lm_head.weight", {c.vocab, c.dim});
  }
  if (at != bytes.size()) {
    throw format_error(format, "weights",
                       "the file has " + std::to_string(bytes.size()) +
                           " bytes, the header calls for " + std::to_string(at));
  }
  entries_ = entry_list(std::move(found));
}

}  // namespace ashlar::io
