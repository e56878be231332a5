// SPDX-License-Identifier: Apache-2.0
// Small valid files, damaged in every place: a reader accepts or throws `format_error`.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/io/config.hpp"
#include "ashlar/io/dequantize.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/gguf_write.hpp"
#include "ashlar/io/llama2c.hpp"
#include "ashlar/io/safetensors.hpp"
#include "ashlar/io/tokenizer_files.hpp"
#include "ashlar/io/tokenizer_json.hpp"
#include "ashlar/io/train_bpe.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;

namespace {

using reader = std::function<void(std::span<const std::byte>)>;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads every byte that an entry claims, so that a sanitizer sees a wrong claim.
void touch(const io::entry_list& entries) {
  for (const io::tensor_entry& entry : entries) {
    std::vector<float> out(static_cast<std::size_t>(entry.size()));
    io::dequantize(entry, out);
  }
}

/// Returns: how many of the damaged files were rejected.
int damage(const std::string& valid, const reader& read, int flips) {
  int rejected = 0;
  const auto attempt = [&](std::string_view bytes) {
    const auto own = exact(bytes);
    try {
      read(own);
    } catch (const ashlar::io::format_error& e) {
      rejected += e.field.empty() || e.reason.empty() ? 0 : 1;
    }
  };
  const auto own = exact(valid);
  CHECK_NOTHROW(read(own));
  for (std::size_t length = 0; length < valid.size(); ++length) {
    attempt(std::string_view(valid).substr(0, length));
  }
  std::mt19937 random(12345);
  for (int i = 0; i < flips; ++i) {
    std::string damaged = valid;
    const int times = 1 + i % 3;
    for (int t = 0; t < times; ++t) {
      const std::size_t at = random() % damaged.size();
      damaged[at] = i % 2 == 0 ? static_cast<char>(damaged[at] ^ (1 << random() % 8))
                               : static_cast<char>(random());
    }
    attempt(damaged);
  }
  return rejected;
}

std::string small_gguf(const scratch& folder) {
  const std::string data(256, '\x11');
  const std::vector<io::gguf_pair> metadata{
      {"general.architecture", std::string("llama")},
      {"general.alignment", std::uint32_t{8}},
      {"tokenizer.ggml.model", std::string("llama")},
      {"tokenizer.ggml.tokens",
       io::gguf_array{std::vector<std::string>{"<unk>", "<s>", "<0x41>", "a", "b", "ab"}}},
      {"tokenizer.ggml.scores", io::gguf_array{std::vector<float>{0, 0, 0, -1, -2, -3}}},
      {"tokenizer.ggml.token_type", io::gguf_array{std::vector<std::int32_t>{2, 3, 6, 1, 1, 1}}},
      {"tokenizer.ggml.bos_token_id", std::uint32_t{1}},
      {"nested",
       io::gguf_array{std::vector<io::gguf_array>{io::gguf_array{std::vector<bool>{true}}}}}};
  const std::vector<io::tensor_entry> entries{
      {"a", io::storage_format::float32, {2, 3}, bytes_of(data).first(24)},
      {"q", io::storage_format::q8_0, {1, 32}, bytes_of(data).first(34)},
      {"k", io::storage_format::q4_k, {256}, bytes_of(data).first(144)}};
  io::write_gguf(folder / "a.gguf", metadata, entries);
  return read_all(folder / "a.gguf");
}

}  // namespace

TEST_CASE("io/fuzz: a damaged safetensors file is rejected by name or read within its bounds") {
  const scratch folder;
  const std::string data(64, 'x');
  const std::vector<io::tensor_entry> entries{
      {"a", io::storage_format::float32, {2, 3}, bytes_of(data).first(24)},
      {"b", io::storage_format::int8, {3}, bytes_of(data).first(3)},
      {"c", io::storage_format::bfloat16, {0, 7}, {}}};
  io::safetensors::write(folder / "a", entries, {{"format", "pt"}});
  const std::string valid = read_all(folder / "a");
  const int rejected = damage(
      valid, [](std::span<const std::byte> bytes) { touch(io::safetensors(bytes).entries()); },
      5000);
  CHECK(rejected > static_cast<int>(valid.size()));  // every truncation, and flips
}

TEST_CASE("io/fuzz: a damaged GGUF file is rejected by name or read within its bounds") {
  const scratch folder;
  const std::string valid = small_gguf(folder);
  damage(
      valid,
      [](std::span<const std::byte> bytes) {
        const io::gguf file(bytes);
        touch(file.entries());
        const io::tokenizer model = io::read_tokenizer(file);
        CHECK(model.decode(model.encode("abba")).size() < 64);
      },
      10000);
}

TEST_CASE("io/fuzz: damaged llama2.c files are rejected by name or read within their bounds") {
  builder checkpoint;
  for (const std::int32_t n : {4, 6, 1, 2, 1, 5, 3}) {
    checkpoint.put(n);
  }
  checkpoint.raw(std::string(158 * 4, 'w'));
  const int rejected = damage(
      checkpoint.bytes,
      [](std::span<const std::byte> bytes) { touch(io::llama2c(bytes).entries()); }, 3000);
  CHECK(rejected >= static_cast<int>(checkpoint.bytes.size()));

  builder tokens;
  tokens.put(5);
  for (const std::string_view text : {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", " "}) {
    tokens.put(-1.0F).put(static_cast<std::int32_t>(text.size())).raw(text);
  }
  damage(
      tokens.bytes,
      [](std::span<const std::byte> bytes) {
        const io::tokenizer model = io::read_llama2c_tokenizer(bytes);
        static_cast<void>(model.decode(model.encode("ab ba\xff")));
      },
      5000);
}

TEST_CASE("io/fuzz: damaged JSON files are rejected by name or read") {
  const scratch folder;
  io::write_tokenizer_json(folder / "t", io::train_bpe("low lower lowest", 262));
  const std::string full = read_all(folder / "t");
  std::string text;  // without the indentation, so that damage hits what counts
  bool line_begins = true;
  for (const char c : full) {
    line_begins = c == '\n' || (line_begins && c == ' ');
    if (!line_begins) {
      text += c;
    }
  }
  CHECK_NOTHROW(io::read_tokenizer_json(text));
  std::mt19937 random(3);
  int rejected = 0;
  for (int i = 0; i < 300; ++i) {
    std::string damaged = text;
    if (i % 3 == 0) {
      damaged.resize(random() % damaged.size());
    } else {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    const auto own = exact(damaged);
    try {
      const io::tokenizer model = io::read_tokenizer_json(text_of(own));
      static_cast<void>(model.decode(model.encode("lowest of all", io::control_names::as_tokens)));
    } catch (const ashlar::io::format_error&) {
      ++rejected;
    }
  }
  CHECK(rejected >= 100);

  damage(R"({"hidden_size":64,"intermediate_size":172,"num_hidden_layers":5,"vocab_size":512,)"
         R"("num_attention_heads":8,"num_key_value_heads":4,"rope_scaling":{"type":"default"}})",
         [](std::span<const std::byte> bytes) { io::read_config_json(text_of(bytes)); }, 3000);
}
