// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/dequantize.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/gguf_write.hpp"
#include "ashlar/io/safetensors.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/serve/engine.hpp"
#include "io/io_support.hpp"
#include "support/llama.hpp"
#include "support/training.hpp"

namespace al = ashlar;
namespace io = ashlar::io;
namespace testing = ashlar::testing;

namespace {

using tokens = std::vector<std::int32_t>;

/// A tokenizer of the 256 bytes, an end of text, and `extra` tokens that nothing becomes.
io::tokenizer byte_tokenizer(int extra) {
  io::tokenizer_parts parts;
  for (int b = 0; b < 256; ++b) {
    parts.tokens.push_back({std::string(1, static_cast<char>(b))});
  }
  for (int i = 0; i <= extra; ++i) {
    parts.tokens.push_back({"<" + std::to_string(i) + ">", io::token_kind::control});
  }
  parts.eos = 256;
  return io::tokenizer(std::move(parts));
}

/// What a model generates after nothing, greedily.
tokens generate(testing::serving_llama& model, std::int32_t count) {
  al::serve::engine<testing::serving_llama, al::kv::paged<16>> engine(model,
                                                                      {.eos_tokens = {1, 2}});
  engine.submit({.tokens = {1}, .max_tokens = count});
  return engine.run().at(0).tokens;
}

std::string told(const testing::opened& from, std::int32_t count = 256) {
  auto model = from.model;
  model.config.context = 512;  // one of the files says 128
  io::stream_decoder decoder(from.tokenizer, tokens{1});
  std::string text;
  for (const std::int32_t t : generate(model, count)) {
    text += t == 1 || t == 2 ? "" : decoder.push(t);
  }
  return text + decoder.finish();
}

std::string expected_text(const std::filesystem::path& folder) {
  std::string text = io_test::read_all(folder / "expected.txt");
  while (text.ends_with('\n')) {
    text.pop_back();
  }
  REQUIRE(text.size() > 500);
  return text;
}

/// Logits along the expected story.
std::vector<float> story_logits(const testing::opened& from, const std::string& story) {
  return testing::whole_logits(
      from.model, std::span<const std::int32_t>(from.tokenizer.encode_prompt(story)).first(120));
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

/// Writes `from` with its matrices in another format; Q8_0 wants rows of 32, others become F16.
void convert(const std::filesystem::path& from, const std::filesystem::path& to,
             io::storage_format format) {
  const auto file = io::gguf::open(from);
  std::vector<io::tensor_entry> entries;
  std::vector<std::vector<std::byte>> bytes;
  for (io::tensor_entry entry : file.entries()) {
    if (entry.extents.rank() == 2 && format != io::storage_format::float32) {
      std::vector<float> values(static_cast<std::size_t>(entry.size()));
      io::dequantize(entry, values);
      if (format == io::storage_format::q8_0 && entry.extents[1] % 32 == 0) {
        bytes.push_back(io::quantize_q8_0(values));
        entry.format = io::storage_format::q8_0;
      } else {
        const std::vector<al::float16> halves(values.begin(), values.end());
        const auto view = std::as_bytes(std::span(halves));
        bytes.emplace_back(view.begin(), view.end());
        entry.format = io::storage_format::float16;
      }
      entry.bytes = bytes.back();
    }
    entries.push_back(entry);
  }
  io::write_gguf(to, file.metadata(), entries);
}

}  // namespace

TEST_CASE("models/load: a saved model loads with the same configuration, weights and logits") {
  const io_test::scratch folder;
  for (auto c : {testing::odd_config(), testing::even_config()}) {
    c.rope_interleaved = false;
    c.eos = 256;
    c.rope_theta = 1234.5;
    c.norm_eps = 3e-6;
    CAPTURE(c.tied_embeddings);
    const auto model = testing::make_serving(c, 1);
    const auto tokenizer = byte_tokenizer(20);
    testing::save(folder / "model", model, tokenizer);
    const auto loaded = testing::open(folder / "model");
    CHECK(loaded.model.config == c);
    CHECK(loaded.tokenizer == tokenizer);
    CHECK(testing::weights_of(loaded.model) == testing::weights_of(model));
    const tokens text = testing::random_tokens(40, c.vocab, 2);
    CHECK(testing::whole_logits(loaded.model, text) == testing::whole_logits(model, text));

    auto laid_out = model;  // its tied output layer is a copy, which is not written
    laid_out.lay_out_for_decoding();
    testing::save(folder / "again", laid_out, tokenizer);
    CHECK(io_test::read_all(folder / "again/model.safetensors") ==
          io_test::read_all(folder / "model/model.safetensors"));
  }
}

TEST_CASE("models/load: a trained model is saved, and served with the same logits") {
  const io_test::scratch folder;
  auto c = testing::odd_config();
  c.eos = 256;
  const auto trained = testing::train(c, {.steps = 4}).at(0).model;
  testing::save(folder / "model", trained, byte_tokenizer(20));
  const auto loaded = testing::open(folder / "model");
  CHECK(loaded.model.config == c);
  const tokens text = testing::random_tokens(40, c.vocab, 2);
  CHECK(testing::whole_logits(loaded.model, text) == testing::whole_logits(trained, text));
}

TEST_CASE("models/load: the rows of q and k go to the other form of RoPE and back") {
  auto c = testing::odd_config();
  c.rope_interleaved = true;
  const auto model = testing::make_serving(c, 1);
  const auto turned = testing::to_rotate_half(model);
  CHECK_FALSE(turned.config.rope_interleaved);
  CHECK(model.config.rope_interleaved);
  CHECK(testing::weights_of(turned) != testing::weights_of(model));
  const auto back = testing::to_interleaved(turned);
  CHECK(back.config == model.config);
  CHECK(testing::weights_of(back) == testing::weights_of(model));
  CHECK(testing::weights_of(testing::to_rotate_half(turned)) == testing::weights_of(turned));
  // The same products, added in another order: rounding; measured 2e-5.
  const tokens text = testing::random_tokens(50, c.vocab, 2);
  const auto own = testing::whole_logits(model, text);
  CHECK(largest_difference(testing::whole_logits(turned, text), own) < 2e-4);
  // The form of RoPE matters: the same weights with the other pairs are another model.
  auto wrong = model;
  wrong.config.rope_interleaved = false;
  CHECK(largest_difference(testing::whole_logits(wrong, text), own) > 0.1);
}

TEST_CASE("models/load: what cannot be saved or loaded is told by name") {
  const io_test::scratch folder;
  auto c = testing::odd_config();
  const auto tokenizer = byte_tokenizer(20);
  c.rope_interleaved = true;
  const auto interleaved = testing::make_serving(c, 1);
  try {
    testing::save(folder / "model", interleaved, tokenizer);
    FAIL("accepted");
  } catch (const al::argument_error& e) {
    CHECK(std::string(e.what()).find("to_rotate_half") != std::string::npos);
  }
  const auto model = testing::to_rotate_half(interleaved);
  CHECK_THROWS_AS(testing::save(folder / "model", model, byte_tokenizer(100)), io::format_error);
  CHECK_FALSE(std::filesystem::exists(folder / "model"));

  testing::save(folder / "model", model, tokenizer);
  const auto file = folder / "model/model.safetensors";
  const auto tampered = [&](auto&& change) {
    testing::save(folder / "model", model, tokenizer);
    {
      const std::string whole = io_test::read_all(file);
      const auto exact = io_test::exact(whole);
      const io::safetensors reader{std::span<const std::byte>(exact)};
      std::vector<io::tensor_entry> entries(reader.entries().begin(), reader.entries().end());
      change(entries);
      io::safetensors::write(file, entries);
    }
    return io_test::rejected_field([&] { static_cast<void>(testing::open(folder / "model")); });
  };
  CHECK(tampered([](auto& entries) {
          std::erase_if(
              entries, [](const auto& e) { return e.name == "model.layers.1.mlp.up_proj.weight"; });
        }) == "safetensors: tensors[\"model.layers.1.mlp.up_proj.weight\"]");
  CHECK(tampered([](auto& entries) {
          for (auto& e : entries) {
            if (e.name == "lm_head.weight") {
              std::swap(e.extents[0], e.extents[1]);
            }
          }
        }) == "safetensors: tensors[\"lm_head.weight\"].shape");
  CHECK(tampered([](auto&) {}) == "(accepted)");
  std::filesystem::remove(folder / "model/config.json");
  CHECK_THROWS_AS(static_cast<void>(testing::open(folder / "model")), io::file_error);
  CHECK_THROWS_AS(static_cast<void>(testing::open(folder / "nothing")), io::file_error);
}

TEST_CASE("models/load: stories260K tells its story word for word from both files") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  const std::string story = expected_text(*folder);
  const auto bin = testing::open(*folder / "stories260K.bin");
  const auto gguf = testing::open(*folder / "stories260K.gguf");
  CHECK(told(bin) == story);
  CHECK(told(gguf) == story);
  auto weights = testing::weights_of(gguf.model);  // with its tied output layer written out
  weights.resize(testing::weights_of(bin.model).size());
  CHECK(weights == testing::weights_of(bin.model));
  CHECK(story_logits(bin, story) == story_logits(gguf, story));
  auto laid_out = bin;
  laid_out.model.lay_out_for_decoding();
  CHECK(told(laid_out) == story);
}

TEST_CASE("models/load: stories260K as a Hugging Face folder tells the same story") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  const io_test::scratch scratch;
  const std::string story = expected_text(*folder);
  const auto bin = testing::open(*folder / "stories260K.bin");
  CHECK_THROWS_AS(testing::save(scratch / "hf", bin.model, bin.tokenizer), al::argument_error);
  testing::save(scratch / "hf", testing::to_rotate_half(bin.model), bin.tokenizer);
  const auto loaded = testing::open(scratch / "hf");
  CHECK(loaded.model.config.tied_embeddings);
  CHECK(told(loaded) == story);
  // The products of q and k are added in another order: rounding; measured 1.5e-5.
  CHECK(largest_difference(story_logits(bin, story), story_logits(loaded, story)) < 2e-4);
  auto turned = loaded;
  turned.model = testing::to_interleaved(loaded.model);
  CHECK(testing::weights_of(turned.model) == testing::weights_of(bin.model));
  CHECK(story_logits(turned, story) == story_logits(bin, story));
}

TEST_CASE("models/load: stories260K written as GGUF in F32, F16 and Q8_0 loads and serves") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  const io_test::scratch scratch;
  const std::string story = expected_text(*folder);
  const auto bin = testing::open(*folder / "stories260K.bin");
  const auto own = story_logits(bin, story);
  const auto converted = [&](io::storage_format format, const char* name) {
    convert(*folder / "stories260K.gguf", scratch / name, format);
    return testing::open(scratch / name);
  };
  const auto f32 = converted(io::storage_format::float32, "f32.gguf");
  CHECK(story_logits(f32, story) == own);
  CHECK(told(f32) == story);
  // Weights rounded to 11 bits: measured 0.011 on logits up to about 20.
  const auto f16 = converted(io::storage_format::float16, "f16.gguf");
  CHECK(largest_difference(story_logits(f16, story), own) < 0.05);
  CHECK(largest_difference(story_logits(f16, story), own) > 0);
  CHECK(told(f16, 60) == told(bin, 60));
  // Weights rounded to 7 bits below the largest of 32: measured 0.3.
  const auto q8 = converted(io::storage_format::q8_0, "q8_0.gguf");
  CHECK(largest_difference(story_logits(q8, story), own) < 1.0);
  CHECK(told(q8, 20) == told(bin, 20));
}
