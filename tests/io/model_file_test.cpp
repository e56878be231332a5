// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/model_file.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/io/dequantize.hpp"
#include "ashlar/io/gguf_write.hpp"
#include "ashlar/io/rope_rows.hpp"
#include "ashlar/io/train_bpe.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;

namespace {

io::model_config small_config() {
  io::model_config c;
  c.dim = 8;
  c.hidden = 12;
  c.layers = 2;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 4;
  c.vocab = 260;
  c.context = 16;
  c.rope_theta = 500000;
  c.tied_embeddings = true;
  c.bos = 0;
  c.eos = 0;
  return c;
}

/// Weights with numbers of their own in every place.
struct weights {
  std::vector<std::vector<float>> data;
  std::vector<io::tensor_entry> entries;

  explicit weights(const io::model_config& config) {
    float next = 0;
    for (const io::weight_spec& weight : io::llama_weights(config)) {
      data.emplace_back(static_cast<std::size_t>(ashlar::element_count(weight.extents)));
      for (float& x : data.back()) {
        x = next++;
      }
      entries.push_back({weight.name, io::storage_format::float32, weight.extents,
                         std::as_bytes(std::span(data.back()))});
    }
  }
};

bool same_bytes(const io::tensor_entry& a, const io::tensor_entry& b) {
  return a.extents == b.extents && a.format == b.format &&
         std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
}

std::string opened(const std::filesystem::path& path) {
  return rejected_field([&] { io::open_model(path); });
}

}  // namespace

TEST_CASE("io/model_file: a saved folder opens as the same model") {
  const scratch folder;
  const auto tokenizer = io::train_bpe("some text, some more text", 260);
  for (const bool tied : {true, false}) {
    io::model_config config = small_config();
    config.tied_embeddings = tied;
    const weights w(config);
    io::save_model(folder / "model", config, tokenizer, w.entries);
    const io::model_file model = io::open_model(folder / "model");
    CHECK(model.config == config);
    CHECK(model.tokenizer == tokenizer);
    CHECK(model.entries.size() == w.entries.size());
    for (const io::tensor_entry& entry : w.entries) {
      REQUIRE(model.find(entry.name) != nullptr);
      CHECK(same_bytes(*model.find(entry.name), entry));
    }
  }
}

TEST_CASE("io/model_file: config.json says of which type the weights are") {
  const scratch folder;
  const io::model_config config = small_config();
  const weights w(config);
  std::vector<io::tensor_entry> half = w.entries;
  for (io::tensor_entry& e : half) {
    e.format = io::storage_format::bfloat16;
    e.bytes = e.bytes.first(e.bytes.size() / 2);
  }
  const auto tokenizer = io::train_bpe("", 257);
  const auto says = [&](const std::string& type) {
    std::stringstream text;
    text << std::ifstream(folder / "config.json").rdbuf();
    return text.str().find("\"torch_dtype\": \"" + type + "\"") != std::string::npos;
  };
  io::save_model(folder.path(), config, tokenizer, half);
  CHECK(says("bfloat16"));
  io::save_model(folder.path(), config, tokenizer, w.entries);
  CHECK(says("float32"));
}

TEST_CASE("io/model_file: an index leads to weights in several files of the folder") {
  const scratch folder;
  const io::model_config config = small_config();
  const weights w(config);
  io::save_model(folder.path(), config, io::train_bpe("", 257), w.entries);
  std::filesystem::remove(folder / "model.safetensors");
  const std::span<const io::tensor_entry> all(w.entries);
  io::safetensors::write(folder / "a.safetensors", all.first(5));
  io::safetensors::write(folder / "b.safetensors", all.subspan(5));
  std::string map;
  for (std::size_t i = 0; i < all.size(); ++i) {
    map += (i == 0 ? "\"" : ",\"") + all[i].name + (i < 5 ? "\":\"a" : "\":\"b") + ".safetensors\"";
  }
  const auto index = folder / "model.safetensors.index.json";
  write_all(index, "{\"weight_map\":{" + map + "}}");
  CHECK(io::open_model(folder.path()).entries.size() == all.size());
  write_all(index, R"({"weight_map":{"x":"../a.safetensors"}})");
  CHECK(opened(folder.path()) == "model.safetensors.index.json: weight_map.x");
}

TEST_CASE("io/model_file: a model that does not match its configuration is named by the weight") {
  const scratch folder;
  const io::model_config config = small_config();
  weights w(config);
  const auto tokenizer = io::train_bpe("", 257);
  io::save_model(folder.path(), config, tokenizer, w.entries);
  io::model_config other = config;
  other.hidden = 13;
  io::write_config_json(folder / "config.json", other);
  CHECK(opened(folder.path()) ==
        "safetensors: tensors[\"model.layers.0.mlp.gate_proj.weight\"].shape");
  other = config;
  other.layers = 3;
  io::write_config_json(folder / "config.json", other);
  CHECK(opened(folder.path()) == "safetensors: tensors[\"model.layers.2.input_layernorm.weight\"]");
  CHECK(rejected_field([&] { io::save_model(folder / "new", other, tokenizer, w.entries); }) ==
        "safetensors: tensors[\"model.layers.2.input_layernorm.weight\"]");
  CHECK(!std::filesystem::exists(folder / "new"));
  CHECK(rejected_field([&] {
          io::save_model(folder / "new", config, io::train_bpe("abcabcabc", 400, {.min_count = 1}),
                         w.entries);
        }) == "config.json: vocab_size");
  other = config;
  other.rope_interleaved = true;
  CHECK_THROWS_AS(io::save_model(folder / "new", other, tokenizer, w.entries),
                  ashlar::argument_error);
}

TEST_CASE("io/model_file: GGUF names become Hugging Face names, in any format of weights") {
  const scratch folder;
  const std::vector<std::pair<std::string, std::string>> names{
      {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"},
      {"input_layernorm", "attn_norm"},     {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},       {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"},  {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},        {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},        {"model.layers", "blk"}};
  io::model_config config = small_config();
  config.dim = 64;
  config.hidden = 96;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab = 3;
  config.rope_interleaved = true;
  config.norm_eps = 0x1p-17;
  config.bos = 1;
  config.eos = 2;
  const weights w(config);
  std::vector<std::vector<std::byte>> packed;
  std::vector<io::tensor_entry> entries = w.entries;
  for (io::tensor_entry& entry : entries) {
    for (const auto& [from, to] : names) {
      if (const auto at = entry.name.find(from); at != std::string::npos) {
        entry.name.replace(at, from.size(), to);
      }
    }
    if (entry.extents.rank() == 2) {
      packed.push_back(
          io::quantize_q8_0(w.data[static_cast<std::size_t>(&entry - entries.data())]));
      entry.format = io::storage_format::q8_0;
      entry.bytes = packed.back();
    }
  }
  const auto u = [](std::int64_t n) { return static_cast<std::uint32_t>(n); };
  const std::vector<io::gguf_pair> metadata{
      {"general.architecture", std::string("llama")},
      {"llama.embedding_length", u(config.dim)},
      {"llama.feed_forward_length", u(config.hidden)},
      {"llama.block_count", u(config.layers)},
      {"llama.attention.head_count", u(config.heads)},
      {"llama.attention.head_count_kv", u(config.kv_heads)},
      {"llama.context_length", u(config.context)},
      {"llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_eps)},
      {"llama.rope.freq_base", static_cast<float>(config.rope_theta)},
      {"tokenizer.ggml.model", std::string("gpt2")},
      {"tokenizer.ggml.tokens", io::gguf_array{std::vector<std::string>{"a", "<s>", "</s>"}}},
      {"tokenizer.ggml.token_type", io::gguf_array{std::vector<std::int32_t>{1, 3, 3}}},
      {"tokenizer.ggml.merges", io::gguf_array{std::vector<std::string>{}}},
      {"tokenizer.ggml.bos_token_id", u(1)},
      {"tokenizer.ggml.eos_token_id", u(2)}};
  io::write_gguf(folder / "m.gguf", metadata, entries);
  const io::model_file model = io::open_model(folder / "m.gguf");
  CHECK(model.config == config);
  CHECK(model.tokenizer.encode("aa") == std::vector<std::int32_t>{0, 0});
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const io::tensor_entry* read = model.find(w.entries[i].name);
    REQUIRE(read != nullptr);
    CHECK(same_bytes(*read, entries[i]));
  }

  entries.push_back({"rope_freqs.weight", io::storage_format::float32, {0}, {}});
  io::write_gguf(folder / "m.gguf", metadata, entries);
  CHECK(opened(folder / "m.gguf") == "gguf: tensors[\"rope_freqs.weight\"].name");
  entries.pop_back();
  for (const auto& [key, value, field] :
       std::vector<std::tuple<std::string, io::gguf_value, std::string>>{
           {"general.architecture", std::string("falcon"), "general.architecture"},
           {"llama.block_count", 1.5F, "llama.block_count"},
           {"llama.block_count", u(1 << 20), "llama.block_count"},
           {"llama.attention.head_count", u(3), "llama.attention.head_count"},
           {"llama.attention.head_count_kv", u(3), "llama.attention.head_count_kv"},
           {"tokenizer.ggml.bos_token_id", u(3), "tokenizer.ggml.bos_token_id"},
           {"tokenizer.ggml.model", std::string("bert"), "tokenizer.ggml.model"},
           {"tokenizer.ggml.token_type", io::gguf_array{std::vector<std::int32_t>{1}},
            "tokenizer.ggml.token_type"},
           {"tokenizer.ggml.merges", io::gguf_array{std::vector<std::string>{"a b"}},
            "tokenizer.ggml.merges[0]"}}) {
    std::vector<io::gguf_pair> changed = metadata;
    std::find_if(changed.begin(), changed.end(), [&key = key](const io::gguf_pair& pair) {
      return pair.key == key;
    })->value = value;
    io::write_gguf(folder / "m.gguf", changed, entries);
    CHECK(opened(folder / "m.gguf") == "gguf: " + field);
  }
}

TEST_CASE("io/model_file: paths that are no model are typed errors") {
  const scratch folder;
  write_all(folder / "notes.txt", "hello");
  write_all(folder / "bad.gguf", "hello");
  write_all(folder / "short.bin", "hello");
  CHECK_THROWS_AS(io::open_model(folder / "absent.gguf"), io::file_error);
  CHECK_THROWS_AS(io::open_model(folder / "notes.txt"), ashlar::argument_error);
  CHECK_THROWS_AS(io::open_model(folder.path()), io::file_error);
  CHECK(opened(folder / "bad.gguf") == "gguf: magic");
  CHECK(opened(folder / "short.bin") == "llama2c: header");
  try {
    io::open_model(folder / "bad.gguf");
  } catch (const io::format_error& e) {
    CHECK(e.path == (folder / "bad.gguf").string());
    CHECK(std::string(e.what()).find(e.path) != std::string::npos);
  }
}

TEST_CASE("io/model_file: the checkpoint and the GGUF file of stories260K hold one model") {
  const auto folder = real_model();
  if (!folder) {
    return;
  }
  const io::model_file a = io::open_model(*folder / "stories260K.bin");
  const io::model_file b = io::open_model(*folder / "stories260K.gguf", {});
  CHECK(a.config.dim == 64);
  CHECK(a.config.hidden == 172);
  CHECK(a.config.layers == 5);
  CHECK(a.config.heads == 8);
  CHECK(a.config.kv_heads == 4);
  CHECK(a.config.vocab == 512);
  CHECK(a.config.tied_embeddings);
  CHECK(a.config.rope_interleaved);
  CHECK(b.config.rope_interleaved);
  CHECK(!b.config.tied_embeddings);  // the GGUF file holds a copy of the embedding
  CHECK(same_bytes(*b.find("lm_head.weight"), *b.find("model.embed_tokens.weight")));
  CHECK(a.config.norm_eps == doctest::Approx(b.config.norm_eps).epsilon(1e-7));  // one is a float
  for (const io::tensor_entry& entry : a.entries) {
    CAPTURE(entry.name);
    REQUIRE(b.find(entry.name) != nullptr);
    CHECK(same_bytes(entry, *b.find(entry.name)));
  }
  CHECK(a.tokenizer == b.tokenizer);
  const std::string story = read_all(*folder / "expected.txt");
  const auto tokens = a.tokenizer.encode_prompt(story);
  CHECK(tokens.front() == 1);
  CHECK(tokens.size() < story.size() / 2);
  CHECK(a.tokenizer.decode(tokens) == story);
}

TEST_CASE("io/model_file: stories260K saved in Hugging Face layout opens with the same model") {
  const auto path = real_model();
  if (!path) {
    return;
  }
  const scratch folder;
  const io::model_file model = io::open_model(*path / "stories260K.bin");
  io::model_config config = model.config;
  config.rope_interleaved = false;
  std::vector<std::vector<float>> turned;
  std::vector<io::tensor_entry> entries(model.entries.begin(), model.entries.end());
  for (io::tensor_entry& entry : entries) {
    for (const auto& [part, heads] :
         {std::pair(".q_proj", config.heads), std::pair(".k_proj", config.kv_heads)}) {
      if (entry.name.find(part) != std::string::npos) {
        const auto in = io::elements<float>(entry);
        turned.emplace_back(in.size());
        io::reorder_rope_rows<float>(in, turned.back(), heads, config.head_dim,
                                     io::rope_order::rotate_half);
        entry.bytes = std::as_bytes(std::span(turned.back()));
      }
    }
  }
  io::save_model(folder / "hf", config, model.tokenizer, entries);
  const io::model_file back = io::open_model(folder / "hf");
  CHECK(back.config == config);
  const std::string story = read_all(*path / "expected.txt");
  CHECK(back.tokenizer.encode_prompt(story) == model.tokenizer.encode_prompt(story));
  const io::tensor_entry& q = back.entries.at("model.layers.3.self_attn.k_proj.weight");
  std::vector<float> interleaved(static_cast<std::size_t>(q.size()));
  io::reorder_rope_rows<float>(io::elements<float>(q), interleaved, config.kv_heads,
                               config.head_dim, io::rope_order::interleaved);
  const auto original = io::elements<float>(model.entries.at(q.name));
  CHECK(std::equal(interleaved.begin(), interleaved.end(), original.begin(), original.end()));
}
