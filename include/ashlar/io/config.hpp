// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"
#include "ashlar/io/detail/json.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/model_config.hpp"

namespace ashlar::io {

namespace detail {

/// What each file format calls the fields, in the order of `model_config`.
struct config_names {
  std::string_view dim, hidden, layers, heads, kv_heads, head_dim, vocab, context, norm_eps,
      rope_theta, bos, eos;
};

inline constexpr config_names config_json_names{
    "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings",
    "rms_norm_eps",        "rope_theta",        "bos_token_id",      "eos_token_id"};
inline constexpr config_names gguf_names{"llama.embedding_length",
                                         "llama.feed_forward_length",
                                         "llama.block_count",
                                         "llama.attention.head_count",
                                         "llama.attention.head_count_kv",
                                         "llama.attention.key_length",
                                         "llama.vocab_size",
                                         "llama.context_length",
                                         "llama.attention.layer_norm_rms_epsilon",
                                         "llama.rope.freq_base",
                                         "tokenizer.ggml.bos_token_id",
                                         "tokenizer.ggml.eos_token_id"};
inline constexpr config_names llama2c_names{"dim",        "hidden_dim", "n_layers",   "n_heads",
                                            "n_kv_heads", "head_size",  "vocab_size", "seq_len",
                                            "norm_eps",   "rope_theta", "bos",        "eos"};

/// Throws: `format_error` naming the first field that is out of its range.
///
/// The bounds are far above any model, and low enough that products of three do not overflow.
inline void check(const model_config& c, const std::string& format, const config_names& names) {
  const auto fail = [&](std::string_view field, const std::string& reason) {
    throw format_error(format, std::string(field), reason);
  };
  const auto range = [&](std::string_view field, std::int64_t value, std::int64_t most) {
    if (value < 1 || value > most) {
      fail(field, std::to_string(value) + " is not between 1 and " + std::to_string(most));
    }
  };
  range(names.dim, c.dim, 1 << 20);
  range(names.hidden, c.hidden, 1 << 22);
  range(names.layers, c.layers, 1 << 14);
  range(names.heads, c.heads, 1 << 16);
  range(names.kv_heads, c.kv_heads, c.heads);
  range(names.head_dim, c.head_dim, 1 << 16);
  range(names.vocab, c.vocab, 1 << 26);
  range(names.context, c.context, 1 << 30);
  if (c.heads % c.kv_heads != 0) {
    fail(names.kv_heads,
         std::to_string(c.kv_heads) + " does not divide the " + std::to_string(c.heads) + " heads");
  }
  if (c.head_dim % 2 != 0) {
    fail(names.head_dim, std::to_string(c.head_dim) + " is odd; RoPE turns pairs");
  }
  if (!(c.norm_eps > 0 && c.norm_eps < 1)) {
    fail(names.norm_eps, std::to_string(c.norm_eps) + " is not between 0 and 1");
  }
  if (!(c.rope_theta > 0 && std::isfinite(c.rope_theta))) {
    fail(names.rope_theta, std::to_string(c.rope_theta) + " is not positive and finite");
  }
  const auto token = [&](std::string_view field, std::int32_t id) {
    if (id < -1 || id >= c.vocab) {
      fail(field, std::to_string(id) + " is not a token of " + std::to_string(c.vocab));
    }
  };
  token(names.bos, c.bos);
  token(names.eos, c.eos);
}

/// `dim / heads`, for files that do not say.
inline std::int64_t default_head_dim(std::int64_t dim, std::int64_t heads,
                                     const std::string& format, std::string_view field) {
  if (heads < 1 || dim % heads != 0) {
    throw format_error(format, std::string(field),
                       std::to_string(heads) + " heads do not divide " + std::to_string(dim));
  }
  return dim / heads;
}

}  // namespace detail

/// Reads the text of a Hugging Face `config.json` of a Llama model.
///
/// Throws: `format_error` naming the field that is missing, out of range, or asks for something
///         else than Llama: another `model_type`, biases, an activation other than SiLU, scaled or
///         partial RoPE, quantised weights.
inline model_config read_config_json(std::string_view text) {
  static const std::string format = "config.json";
  constexpr std::int64_t most = std::int64_t{1} << 40;  // `check` knows the narrow bounds
  const detail::json_value document = detail::parse_json(text, format, "document");
  const detail::json_field root(document, format);
  const auto only = [&](const char* key, auto allowed, const char* shown) {
    if (root.has(key) && !root[key].value().is(allowed)) {
      root[key].fail(detail::printable(detail::to_text(root[key].value())) +
                     " is not supported, only " + shown);
    }
  };
  only("model_type", std::string_view("llama"), "\"llama\"");
  only("hidden_act", std::string_view("silu"), "\"silu\"");
  only("attention_bias", false, "false");
  only("mlp_bias", false, "false");
  only("partial_rotary_factor", 1.0, "1.0");
  if (root.has("quantization_config")) {
    root["quantization_config"].fail("quantised weights are not supported in this layout");
  }

  const auto integer = [&](const char* key) { return root[key].integer(0, most); };
  model_config c;
  c.dim = integer("hidden_size");
  c.hidden = integer("intermediate_size");
  c.layers = integer("num_hidden_layers");
  c.heads = integer("num_attention_heads");
  c.kv_heads = root.has("num_key_value_heads") ? integer("num_key_value_heads") : c.heads;
  c.head_dim = root.has("head_dim")
                   ? integer("head_dim")
                   : detail::default_head_dim(c.dim, c.heads, format, "num_attention_heads");
  c.vocab = integer("vocab_size");
  c.context = root.has("max_position_embeddings") ? integer("max_position_embeddings") : 2048;
  c.norm_eps = root.has("rms_norm_eps") ? root["rms_norm_eps"].number() : 1e-6;
  c.tied_embeddings = root.has("tie_word_embeddings") && root["tie_word_embeddings"].boolean();

  // Up to version 4 of the transformers library rope_theta stands alone, later in an object.
  const auto plain = [](const detail::json_field& rope) {
    bool named = false;
    for (const char* key : {"rope_type", "type"}) {
      named = named || rope.has(key);
      if (rope.has(key) && rope[key].text() != "default") {
        rope[key].fail("'" + detail::printable(rope[key].text()) +
                       "' is not supported, only 'default'");
      }
    }
    if (!named && rope.has("factor")) {
      rope["factor"].fail("scaled RoPE is not supported");
    }
    if (rope.has("partial_rotary_factor") && rope["partial_rotary_factor"].number() != 1.0) {
      rope["partial_rotary_factor"].fail("partial RoPE is not supported, only 1.0");
    }
  };
  if (root.has("rope_scaling")) {
    plain(root["rope_scaling"]);
  }
  if (root.has("rope_parameters")) {
    const detail::json_field rope = root["rope_parameters"];
    plain(rope);
    c.rope_theta = rope.has("rope_theta") ? rope["rope_theta"].number() : c.rope_theta;
  }
  if (root.has("rope_theta")) {
    c.rope_theta = root["rope_theta"].number();
  }

  const auto token = [&](const char* key) -> std::int32_t {
    if (!root.has(key)) {
      return -1;
    }
    const detail::json_field id = root[key];  // several ends of text are allowed; the first counts
    const bool list = id.value().kind == detail::json_kind::array && id.size() > 0;
    const detail::json_field first = list ? id[std::size_t{0}] : id;
    return static_cast<std::int32_t>(first.integer(-1, (std::int64_t{1} << 31) - 1));
  };
  c.bos = token("bos_token_id");
  c.eos = token("eos_token_id");
  detail::check(c, format, detail::config_json_names);
  return c;
}

/// Writes a `config.json` that Hugging Face transformers reads as a Llama model.
///
/// Throws: `argument_error` where `c` has interleaved RoPE: the layout knows rotate-half only, so
///         permute the rows of q and k first; `format_error` for a field out of range;
///         `file_error`.
template <class Json = detail::json>
void write_config_json(const std::filesystem::path& path, const model_config& c,
                       std::string_view torch_dtype = "float32") {
  if (c.rope_interleaved) {
    throw argument_error("ashlar::io::write_config_json",
                         "Hugging Face layout has rotate-half RoPE; permute the rows of q and k");
  }
  detail::check(c, "config.json", detail::config_json_names);
  Json out;
  const auto token = [&](const char* key, std::int32_t id) {
    out[key] = id < 0 ? Json(nullptr) : Json(id);
  };
  out["architectures"] = {"LlamaForCausalLM"};
  out["model_type"] = "llama";
  out["hidden_size"] = c.dim;
  out["intermediate_size"] = c.hidden;
  out["num_hidden_layers"] = c.layers;
  out["num_attention_heads"] = c.heads;
  out["num_key_value_heads"] = c.kv_heads;
  out["head_dim"] = c.head_dim;
  out["vocab_size"] = c.vocab;
  out["max_position_embeddings"] = c.context;
  out["rms_norm_eps"] = c.norm_eps;
  out["rope_theta"] = c.rope_theta;
  out["hidden_act"] = "silu";
  out["attention_bias"] = false;
  out["mlp_bias"] = false;
  out["tie_word_embeddings"] = c.tied_embeddings;
  token("bos_token_id", c.bos);
  token("eos_token_id", c.eos);
  out["torch_dtype"] = torch_dtype;
  file_writer file(path);
  file.write(out.dump(2) + "\n");
  file.commit();
}

/// Reads the `llama.*` metadata of a GGUF file.
///
/// Throws: `format_error` naming the key that is missing, out of range, or asks for something that
///         is not plain Llama: another architecture, scaled or partial RoPE, experts.
inline model_config read_config(const gguf& file) {
  const auto only = [&](const char* key, const auto& allowed) {
    const auto given = file.get_if<std::remove_cvref_t<decltype(allowed)>>(key);
    if (given && *given != allowed) {
      file.fail(key, "only plain Llama models are supported");
    }
  };
  if (file.get<std::string>("general.architecture") != "llama") {
    file.fail("general.architecture", "only 'llama' is supported");
  }
  only("llama.rope.scaling.type", std::string("none"));
  only("llama.expert_count", std::uint64_t{0});

  const auto& names = detail::gguf_names;
  const auto integer = [&](std::string_view key) { return file.get<std::int64_t>(key); };
  model_config c;
  c.dim = integer(names.dim);
  c.hidden = integer(names.hidden);
  c.layers = integer(names.layers);
  c.heads = integer(names.heads);
  c.kv_heads = file.get_if<std::int64_t>(names.kv_heads).value_or(c.heads);
  const auto head_dim = file.get_if<std::int64_t>(names.head_dim);
  c.head_dim = head_dim ? *head_dim : detail::default_head_dim(c.dim, c.heads, "gguf", names.heads);
  if (file.get_if<std::int64_t>("llama.rope.dimension_count").value_or(c.head_dim) != c.head_dim) {
    file.fail("llama.rope.dimension_count",
              "RoPE must turn whole heads, of " + std::to_string(c.head_dim) + " elements");
  }
  if (const auto vocab = file.get_if<std::int64_t>(names.vocab)) {
    c.vocab = *vocab;
  } else if (const tensor_entry* embedding = file.find("token_embd.weight");
             embedding != nullptr && embedding->extents.rank() == 2) {
    c.vocab = embedding->extents[0];
  } else {
    file.fail(names.vocab, "it is missing, and there is no token_embd.weight to count");
  }
  c.context = integer(names.context);
  c.norm_eps = file.get<double>(names.norm_eps);
  c.rope_theta = file.get_if<double>(names.rope_theta).value_or(10000);
  c.rope_interleaved = true;
  c.tied_embeddings = file.find("output.weight") == nullptr;
  const auto token = [&](std::string_view key) -> std::int32_t {
    const auto id = file.get_if<std::int64_t>(key).value_or(-1);
    if (id == 0xffffffff || id == -1) {
      return -1;
    }
    if (id < 0 || id >= c.vocab) {
      file.fail(key, std::to_string(id) + " is not a token of " + std::to_string(c.vocab));
    }
    return static_cast<std::int32_t>(id);
  };
  c.bos = token(names.bos);
  c.eos = token(names.eos);
  detail::check(c, "gguf", names);
  return c;
}

}  // namespace ashlar::io
