// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/io/config.hpp"
#include "ashlar/io/detail/json.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/llama2c.hpp"
#include "ashlar/io/safetensors.hpp"
#include "ashlar/io/tokenizer.hpp"
#include "ashlar/io/tokenizer_files.hpp"
#include "ashlar/io/tokenizer_json.hpp"

namespace ashlar::io {

/// A Llama-architecture model on disk; owns the mappings that its entries point into.
struct model_file {
  model_config config;
  io::tokenizer tokenizer;
  entry_list entries;  ///< under Hugging Face names, every one that the configuration calls for

  /// Returns: the tensor of that name, or a null pointer.
  [[nodiscard]] const tensor_entry* find(std::string_view name) const { return entries.find(name); }

  std::vector<mapped_file> files;  ///< keeps the bytes of `entries` alive
};

/// One weight that a configuration calls for.
struct weight_spec {
  std::string name;  ///< Hugging Face name
  shape extents;
};

/// The weights of a Llama model, in the order of a forward pass.
///
/// Requires: `c` came from a reader, or holds values in their ranges.
inline std::vector<weight_spec> llama_weights(const model_config& c) {
  const std::int64_t q = c.heads * c.head_dim;
  const std::int64_t kv = c.kv_heads * c.head_dim;
  std::vector<weight_spec> weights{{"model.embed_tokens.weight", {c.vocab, c.dim}}};
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    weights.push_back({at + "input_layernorm.weight", {c.dim}});
    weights.push_back({at + "self_attn.q_proj.weight", {q, c.dim}});
    weights.push_back({at + "self_attn.k_proj.weight", {kv, c.dim}});
    weights.push_back({at + "self_attn.v_proj.weight", {kv, c.dim}});
    weights.push_back({at + "self_attn.o_proj.weight", {c.dim, q}});
    weights.push_back({at + "post_attention_layernorm.weight", {c.dim}});
    weights.push_back({at + "mlp.gate_proj.weight", {c.hidden, c.dim}});
    weights.push_back({at + "mlp.up_proj.weight", {c.hidden, c.dim}});
    weights.push_back({at + "mlp.down_proj.weight", {c.dim, c.hidden}});
  }
  weights.push_back({"model.norm.weight", {c.dim}});
  if (!c.tied_embeddings) {
    weights.push_back({"lm_head.weight", {c.vocab, c.dim}});
  }
  return weights;
}

namespace detail {

/// The Hugging Face name of a GGUF tensor of a Llama model, or nothing.
inline std::optional<std::string> hugging_face_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> outside{
      {{"token_embd.weight", "model.embed_tokens.weight"},
       {"output_norm.weight", "model.norm.weight"},
       {"output.weight", "lm_head.weight"}}};
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> inside{
      {{"attn_norm.weight", "input_layernorm.weight"},
       {"attn_q.weight", "self_attn.q_proj.weight"},
       {"attn_k.weight", "self_attn.k_proj.weight"},
       {"attn_v.weight", "self_attn.v_proj.weight"},
       {"attn_output.weight", "self_attn.o_proj.weight"},
       {"ffn_norm.weight", "post_attention_layernorm.weight"},
       {"ffn_gate.weight", "mlp.gate_proj.weight"},
       {"ffn_up.weight", "mlp.up_proj.weight"},
       {"ffn_down.weight", "mlp.down_proj.weight"}}};
  for (const auto& [from, to] : outside) {
    if (name == from) {
      return std::string(to);
    }
  }
  if (!name.starts_with("blk.")) {
    return std::nullopt;
  }
  name.remove_prefix(4);
  const auto dot = name.find('.');
  for (const auto& [from, to] : inside) {
    if (dot != std::string_view::npos && name.substr(dot + 1) == from) {
      return "model.layers." + std::string(name.substr(0, dot)) + "." + std::string(to);
    }
  }
  return std::nullopt;
}

/// Throws: `format_error` naming the weight that is missing or has other extents.
inline void check_weights(const model_config& config, const entry_list& entries,
                          const std::string& format) {
  for (const weight_spec& weight : llama_weights(config)) {
    const tensor_entry* entry = entries.find(weight.name);
    const std::string field = "tensors[\"" + weight.name + "\"]";
    if (entry == nullptr) {
      throw format_error(format, field, "it is missing");
    }
    if (entry->extents != weight.extents) {
      throw format_error(
          format, field + ".shape",
          to_string(entry->extents) + "; the configuration calls for " + to_string(weight.extents));
    }
  }
}

inline void check_tokenizer(const model_config& config, const tokenizer& model,
                            const std::string& format) {
  if (model.size() > config.vocab) {
    throw format_error(format, "vocab_size",
                       std::to_string(config.vocab) + " rows of embeddings; the tokenizer has " +
                           std::to_string(model.size()) + " tokens");
  }
}

/// The mapping of a reader that opened a file, after the reader is done.
template <class Reader>
model_file gathered(model_config config, tokenizer model, std::vector<tensor_entry> entries,
                    std::vector<Reader>&& readers, const std::string& format) {
  model_file out{config, std::move(model), entry_list(std::move(entries)), {}};
  for (Reader& reader : readers) {
    out.files.push_back(std::move(reader).release());
  }
  check_weights(config, out.entries, format);
  check_tokenizer(config, out.tokenizer, format);
  return out;
}

inline model_file open_gguf(const std::filesystem::path& path) {
  std::vector<gguf> readers;
  readers.push_back(gguf::open(path));
  const gguf& file = readers.front();
  return naming(path.string(), [&] {
    std::vector<tensor_entry> entries;
    for (tensor_entry entry : file.entries()) {
      const auto name = hugging_face_name(entry.name);
      if (!name) {
        throw format_error("gguf", "tensors[\"" + printable(entry.name) + "\"].name",
                           "plain Llama models have no such weight");
      }
      entry.name = *name;
      entries.push_back(std::move(entry));
    }
    return gathered(read_config(file), read_tokenizer(file), std::move(entries), std::move(readers),
                    "gguf");
  });
}

/// `tokenizer.bin`, else the only `tok*.bin` beside a checkpoint.
inline std::filesystem::path find_llama2c_tokenizer(const std::filesystem::path& checkpoint) {
  const std::filesystem::path folder =
      checkpoint.has_parent_path() ? checkpoint.parent_path() : std::filesystem::path(".");
  std::error_code code;
  if (std::filesystem::exists(folder / "tokenizer.bin", code)) {
    return folder / "tokenizer.bin";
  }
  std::vector<std::filesystem::path> found;
  std::filesystem::directory_iterator item(folder, code);
  for (; !code && item != std::filesystem::directory_iterator(); item.increment(code)) {
    const std::string name = item->path().filename().string();
    if (name.starts_with("tok") && name.ends_with(".bin") &&
        item->path().filename() != checkpoint.filename()) {
      found.push_back(item->path());
    }
  }
  if (code) {
    throw file_error(folder.string(), "list", code.value());
  }
  if (found.size() != 1) {
    throw argument_error("ashlar::io::open_model",
                         std::to_string(found.size()) + " files tok*.bin beside '" +
                             checkpoint.string() + "'; say which is the tokenizer");
  }
  return found.front();
}

inline model_file open_llama2c(const std::filesystem::path& path,
                               const std::filesystem::path& tokenizer_path) {
  std::vector<llama2c> readers;
  readers.push_back(llama2c::open(path));
  const llama2c& file = readers.front();
  tokenizer model = read_llama2c_tokenizer(tokenizer_path.empty() ? find_llama2c_tokenizer(path)
                                                                  : tokenizer_path);
  return naming(path.string(), [&] {
    return gathered(file.config(), std::move(model),
                    std::vector<tensor_entry>(file.entries().begin(), file.entries().end()),
                    std::move(readers), "llama2c");
  });
}

/// The files that hold the weights of a Hugging Face folder: one, or those of an index.
inline std::vector<std::filesystem::path> safetensors_files(const std::filesystem::path& folder) {
  const auto index = folder / "model.safetensors.index.json";
  std::error_code ignored;  // what cannot be examined cannot be opened either, and says so there
  if (!std::filesystem::exists(index, ignored)) {
    return {folder / "model.safetensors"};
  }
  const std::string format = "model.safetensors.index.json";
  const mapped_file file(index);
  return naming(index.string(), [&] {
    const json_value document = parse_json(file.text(), format, "document");
    const json_field map = json_field(document, format)["weight_map"];
    std::vector<std::string> names;
    for (const json_value& shard : map.members()) {
      const json_field name(shard, format, "weight_map." + printable(shard.key));
      const std::filesystem::path relative(name.text());
      if (relative.empty() || relative.filename() != relative || relative == "..") {
        name.fail("'" + printable(name.text()) + "' is not a file of the same folder");
      }
      names.push_back(name.text());
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    std::vector<std::filesystem::path> files;
    for (const std::string& name : names) {
      files.push_back(folder / name);
    }
    return files;
  });
}

inline model_file open_folder(const std::filesystem::path& folder) {
  const mapped_file config_file(folder / "config.json");
  const model_config config =
      naming(config_file.path().string(), [&] { return read_config_json(config_file.text()); });
  const mapped_file tokenizer_file(folder / "tokenizer.json");
  tokenizer_parts parts = naming(tokenizer_file.path().string(), [&] {
    return read_tokenizer_json(tokenizer_file.text()).parts();
  });
  const auto token = [&](std::int32_t& own, std::int32_t said) {
    if (said >= 0 && static_cast<std::size_t>(said) < parts.tokens.size()) {
      own = said;
    }
  };
  token(parts.bos, config.bos);
  token(parts.eos, config.eos);

  std::vector<safetensors> readers;
  std::vector<tensor_entry> entries;
  for (const std::filesystem::path& path : safetensors_files(folder)) {
    readers.push_back(safetensors::open(path));
    for (const tensor_entry& entry : readers.back().entries()) {
      entries.push_back(entry);
    }
  }
  return naming(folder.string(), [&] {
    return gathered(config, tokenizer(std::move(parts)), std::move(entries), std::move(readers),
                    "safetensors");
  });
}

}  // namespace detail

/// Opens a model: a GGUF file, a llama2.c checkpoint (`.bin`), or a Hugging Face folder.
///
/// `tokenizer_path` is for llama2.c only; without it, `tokenizer.bin` or the only `tok*.bin`
/// beside the checkpoint is taken.
/// Returns: configuration, tokenizer and every weight that the configuration calls for, checked
///          for its extents. Weights stay in the file until they are read.
/// Throws:  `file_error`, `format_error` naming the field, `argument_error` for a path that is
///          none of the three.
inline model_file open_model(const std::filesystem::path& path,
                             const std::filesystem::path& tokenizer_path = {}) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return detail::open_folder(path);
  }
  const mapped_file file(path);  // tells a missing file from an unknown one
  if (file.text().starts_with("GGUF")) {
    return detail::open_gguf(path);
  }
  if (path.extension() == ".gguf") {
    return detail::open_gguf(path);  // which says what is wrong with it
  }
  if (path.extension() == ".bin") {
    return detail::open_llama2c(path, tokenizer_path);
  }
  throw argument_error("ashlar::io::open_model",
                       "'" + path.string() +
                           "' is neither a GGUF file, nor a llama2.c .bin, nor a folder with "
                           "config.json, tokenizer.json and model.safetensors");
}

/// Writes a model as a Hugging Face folder: `config.json`, `tokenizer.json`, `model.safetensors`.
///
/// Requires: `entries` are under Hugging Face names, q and k for rotate-half RoPE.
/// Effects:  makes the folder; each file is replaced in one step, the weights last.
/// Throws:   `argument_error`, `format_error` for weights that are not what `config` calls for;
///           `file_error`.
template <class Json = detail::json>
void save_model(const std::filesystem::path& folder, const model_config& config,
                const tokenizer& model, std::span<const tensor_entry> entries,
                const safetensors::metadata_map& metadata = {{"format", "pt"}}) {
  detail::check_weights(config, entry_list({entries.begin(), entries.end()}), "safetensors");
  detail::check_tokenizer(config, model, "config.json");
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) {
    throw file_error(folder.string(), "create", code.value());
  }
  // One type for all of them, or else the first one's: transformers asks for nothing finer.
  write_config_json<Json>(
      folder / "config.json", config,
      entries.empty() ? std::string_view("float32") : name_of(entries.front().format));
  write_tokenizer_json<Json>(folder / "tokenizer.json", model);
  safetensors::write<Json>(folder / "model.safetensors", entries, metadata);
}

}  // namespace ashlar::io
