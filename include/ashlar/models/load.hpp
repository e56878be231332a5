// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ashlar/io/dequantize.hpp"
#include "ashlar/io/model_file.hpp"
#include "ashlar/io/rope_rows.hpp"
#include "ashlar/models/llama.hpp"

/// Models to and from files. Apart from the models, since it brings the file formats (and JSON).
namespace ashlar::models {

/// The model of an open file, its weights as the stack's element type on the stack's chip.
///
/// Throws: `io::format_error` naming the tensor, `memory::out_of_memory`.
template <class Stack>
[[nodiscard]] llama<Stack> from_file(const io::model_file& file) {
  using model_type = llama<Stack>;
  using parameter = typename model_type::parameter;
  const llama_config& c = file.config;
  model_type m;
  m.config = c;
  m.model.layers.resize(static_cast<std::size_t>(c.layers));
  std::vector<float> buffer;
  const auto read = [&](const std::string& name, parameter& to) {
    const io::tensor_entry* entry = file.find(name);
    if (entry == nullptr) {
      throw io::format_error("model", "tensors[\"" + name + "\"]", "it is missing");
    }
    buffer.resize(static_cast<std::size_t>(element_count(entry->extents)));
    io::dequantize(*entry, buffer);
    const std::vector<typename parameter::value_type> values(buffer.begin(), buffer.end());
    to = from_values<parameter>(entry->extents, values);
  };
  read("model.embed_tokens.weight", m.model.embed_tokens.weight);
  for (std::size_t i = 0; i < m.model.layers.size(); ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    auto& layer = m.model.layers[i];
    read(at + "input_layernorm.weight", layer.input_layernorm.weight);
    read(at + "self_attn.q_proj.weight", layer.self_attn.q_proj.weight);
    read(at + "self_attn.k_proj.weight", layer.self_attn.k_proj.weight);
    read(at + "self_attn.v_proj.weight", layer.self_attn.v_proj.weight);
    read(at + "self_attn.o_proj.weight", layer.self_attn.o_proj.weight);
    read(at + "post_attention_layernorm.weight", layer.post_attention_layernorm.weight);
    read(at + "mlp.gate_proj.weight", layer.mlp.gate_proj.weight);
    read(at + "mlp.up_proj.weight", layer.mlp.up_proj.weight);
    read(at + "mlp.down_proj.weight", layer.mlp.down_proj.weight);
    layer.input_layernorm.eps = layer.post_attention_layernorm.eps = c.norm_eps;
  }
  read("model.norm.weight", m.model.norm.weight);
  m.model.norm.eps = c.norm_eps;
  if (!c.tied_embeddings) {
    read("lm_head.weight", m.lm_head.weight);
  }
  return m;
}

/// The same model with the rows of q and k in the order that `to` calls for.
///
/// Effects: none; other weights are shared with `model`. Scores of attention are sums over the same
///          products in another order, so logits agree up to rounding.
template <class Stack>
[[nodiscard]] llama<Stack> with_rope_order(const llama<Stack>& model, io::rope_order to) {
  using parameter = typename llama<Stack>::parameter;
  using scalar = typename llama<Stack>::scalar;
  llama<Stack> m = model;
  const bool interleaved = to == io::rope_order::interleaved;
  if (m.config.rope_interleaved == interleaved) {
    return m;
  }
  const no_grad off;
  m.config.rope_interleaved = interleaved;
  const auto reorder = [&](parameter& weight, std::int64_t heads) {
    const std::vector<scalar> from = to_vector(weight);
    std::vector<scalar> into(from.size());
    io::reorder_rope_rows(std::span(from), std::span(into), heads, m.config.head_dim, to);
    weight = from_values<parameter>(shape(weight.shape()), into);
  };
  for (auto& layer : m.model.layers) {
    reorder(layer.self_attn.q_proj.weight, m.config.heads);
    reorder(layer.self_attn.k_proj.weight, m.config.kv_heads);
  }
  return m;
}

/// The model as Hugging Face folders have it.
template <class Stack>
[[nodiscard]] llama<Stack> to_rotate_half(const llama<Stack>& model) {
  return with_rope_order(model, io::rope_order::rotate_half);
}

/// Writes `model` and its tokenizer as a Hugging Face folder.
///
/// Requires: rotate-half RoPE, as those files have it; `to_rotate_half` turns other models.
/// Throws:   `io::file_error`, `io::format_error`, `argument_error`.
template <class Stack>
void save(const std::filesystem::path& folder, const llama<Stack>& model,
          const io::tokenizer& tokenizer) {
  if (model.config.rope_interleaved) {
    throw argument_error("ashlar::models::save",
                         "the model turns neighbouring pairs; Hugging Face files hold rotate-half "
                         "weights: save to_rotate_half(model)");
  }
  std::vector<std::vector<typename llama<Stack>::scalar>> values;
  std::vector<io::tensor_entry> entries;
  nn::named_parameters(model, [&](const std::string& name, const auto& x) {
    if (model.config.tied_embeddings && name == "lm_head.weight") {
      return;  // a copy that `lay_out_for_decoding` made
    }
    values.push_back(to_vector(x));
    io::tensor_entry entry;
    entry.name = name;
    entry.format = io::storage_of(x.spec().type);
    entry.extents = shape(x.shape());
    entry.bytes = std::as_bytes(std::span(values.back()));
    entries.push_back(entry);
  });
  io::save_model(folder, model.config, tokenizer, entries);
}

template <class Stack>
llama<Stack> llama<Stack>::load(const std::string& path) {
  return from_file<Stack>(io::open_model(path));
}

}  // namespace ashlar::models
