// SPDX-License-Identifier: Apache-2.0
// Hand-made bad files: each must end in a `format_error` that names the field.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/io/config.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/llama2c.hpp"
#include "ashlar/io/safetensors.hpp"
#include "ashlar/io/tokenizer_files.hpp"
#include "ashlar/io/tokenizer_json.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;

namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

struct bad_file {
  std::string name;
  std::string bytes;
  std::string field;
};

void check(const std::vector<bad_file>& files, const std::string& format,
           const std::function<void(std::span<const std::byte>)>& read) {
  for (const bad_file& file : files) {
    CAPTURE(file.name);
    const auto own = exact(file.bytes);
    CHECK(rejected_field([&] { read(own); }) == format + ": " + file.field);
  }
}

std::string st(std::string_view header, std::size_t data = 0) {
  return builder().text(header).raw(std::string(data, 'd')).bytes;
}

/// A safetensors file of one tensor `t`, with `data` bytes after the header.
std::string st_one(std::string_view type, std::string_view extents, std::string_view offsets,
                   std::size_t data) {
  std::string info = R"({"t":{"dtype":)";
  info += type;
  info += R"(,"shape":)";
  info += extents;
  info += R"(,"data_offsets":)";
  info += offsets;
  return st(info + "}}", data);
}

builder gguf_start(u64 tensors, u64 pairs, u32 version = 3) {
  return builder().raw("GGUF").put(version).put(tensors).put(pairs);
}

builder& info(builder& file, std::string_view name, const std::vector<u64>& dims, u32 type,
              u64 offset) {
  file.text(name).put(static_cast<u32>(dims.size()));
  for (const u64 d : dims) {
    file.put(d);
  }
  return file.put(type).put(offset);
}

std::string gguf_one(const std::vector<u64>& dims, u32 type, u64 offset, std::size_t data) {
  builder file = gguf_start(1, 0);
  return info(file, "t", dims, type, offset).pad(32).raw(std::string(data, 'd')).bytes;
}

std::string gguf_two(std::string_view a, std::string_view b, u64 second, std::size_t data) {
  builder file = gguf_start(2, 0);
  info(file, a, {3}, 24, 0);
  return info(file, b, {3}, 24, second).pad(32).raw(std::string(data, 'd')).bytes;
}

std::string gguf_pairs(u64 count, const std::function<void(builder&)>& fill) {
  builder file = gguf_start(0, count);
  fill(file);
  return file.bytes;
}

}  // namespace

TEST_CASE("io/malformed: bad safetensors files are rejected at the field that is wrong") {
  const std::string f32 = R"("F32")";
  check(
      {
          {"no bytes", "", "header_length"},
          {"seven bytes", std::string(7, '\0'), "header_length"},
          {"header longer than the file", builder().put(u64{9}).raw("{}").bytes, "header_length"},
          {"header of 2^64 - 1 bytes", builder().put(~u64{0}).raw("{}").bytes, "header_length"},
          {"header of 2^63 bytes", builder().put(u64{1} << 63).raw("{}").bytes, "header_length"},
          {"empty header", st(""), "header"},
          {"only spaces", st("        "), "header"},
          {"an array", st("[]"), "header"},
          {"zero bytes as padding", st(std::string("{}\0\0", 4)), "header"},
          {"text after the object", st("{} {}"), "header"},
          {"object not closed", st(R"({"a":)"), "header"},
          {"not UTF-8", st("{\"\xff\":1}"), "header"},
          {"deep nesting", st(R"({"a":)" + std::string(5000, '[')), "header"},
          {"a name twice", st(R"({"a":1,"a":1})"), "header"},
          {"a field twice", st(R"({"t":{"dtype":"U8","dtype":"U8"}})"), "header"},
          {"metadata is a list", st(R"({"__metadata__":[]})"), "__metadata__"},
          {"metadata of numbers", st(R"({"__metadata__":{"k":1}})"), "__metadata__.k"},
          {"a tensor is a number", st(R"({"t":1})"), "tensors[\"t\"]"},
          {"no dtype", st(R"({"t":{"shape":[],"data_offsets":[0,0]}})"), "tensors[\"t\"].dtype"},
          {"no shape", st(R"({"t":{"dtype":"U8","data_offsets":[0,0]}})"), "tensors[\"t\"].shape"},
          {"no offsets", st(R"({"t":{"dtype":"U8","shape":[0]}})"), "tensors[\"t\"].data_offsets"},
          {"unknown dtype", st_one(R"("F31")", "[1]", "[0,4]", 4), "tensors[\"t\"].dtype"},
          {"dtype in lower case", st_one(R"("f32")", "[1]", "[0,4]", 4), "tensors[\"t\"].dtype"},
          {"dtype is a number", st_one("32", "[1]", "[0,4]", 4), "tensors[\"t\"].dtype"},
          {"shape is a number", st_one(f32, "1", "[0,4]", 4), "tensors[\"t\"].shape"},
          {"negative extent", st_one(f32, "[-1]", "[0,4]", 4), "tensors[\"t\"].shape[0]"},
          {"fractional extent", st_one(f32, "[1.0]", "[0,4]", 4), "tensors[\"t\"].shape[0]"},
          {"extent of 2^64", st_one(f32, "[1,18446744073709551616]", "[0,4]", 4),
           "tensors[\"t\"].shape[1]"},
          {"extent of 2^63", st_one(f32, "[9223372036854775808]", "[0,4]", 4),
           "tensors[\"t\"].shape[0]"},
          {"product overflows", st_one(f32, "[4294967296,4294967296]", "[0,4]", 4),
           "tensors[\"t\"].shape"},
          {"product overflows beside a zero", st_one(f32, "[0,9223372036854775807,3]", "[0,0]", 0),
           "tensors[\"t\"].shape"},
          {"nine dimensions", st_one(f32, "[1,1,1,1,1,1,1,1,1]", "[0,4]", 4),
           "tensors[\"t\"].shape"},
          {"three offsets", st_one(f32, "[1]", "[0,4,4]", 4), "tensors[\"t\"].data_offsets"},
          {"negative offset", st_one(f32, "[1]", "[-4,0]", 4), "tensors[\"t\"].data_offsets[0]"},
          {"end before begin", st_one(f32, "[1]", "[4,0]", 4), "tensors[\"t\"].data_offsets"},
          {"end past the file", st_one(f32, "[2]", "[0,8]", 4), "tensors[\"t\"].data_offsets"},
          {"more bytes than the shape", st_one(f32, "[1]", "[0,8]", 8),
           "tensors[\"t\"].data_offsets"},
          {"fewer bytes than the shape", st_one(f32, "[3]", "[0,8]", 8),
           "tensors[\"t\"].data_offsets"},
          {"hole in front", st_one(f32, "[1]", "[4,8]", 8), "tensors[\"t\"].data_offsets"},
          {"bytes after the last tensor", st_one(f32, "[1]", "[0,4]", 5), "data"},
          {"data without tensors", st("{}", 1), "data"},
          {"overlap",
           st(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
              R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
              5),
           "tensors[\"b\"].data_offsets"},
          {"hole between",
           st(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
              R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
              5),
           "tensors[\"b\"].data_offsets"},
      },
      "safetensors", [](std::span<const std::byte> bytes) { io::safetensors{bytes}; });
}

TEST_CASE("io/malformed: a safetensors header above 100,000,000 bytes is rejected unread") {
  std::string big = builder().put(u64{100'000'001}).bytes;
  big.resize(8 + 100'000'001);
  CHECK(rejected_field([&] { io::safetensors{bytes_of(big)}; }) == "safetensors: header_length");
}

TEST_CASE("io/malformed: bad GGUF files are rejected at the field that is wrong") {
  const auto alignment = [](u32 value) {
    return gguf_pairs(
        1, [value](builder& file) { file.text("general.alignment").put(u32{4}).put(value); });
  };
  const auto array = [](u32 type, u64 count, std::string_view rest = {}) {
    return gguf_pairs(
        1, [=](builder& file) { file.text("k").put(u32{9}).put(type).put(count).raw(rest); });
  };
  const std::string deep = gguf_pairs(1, [](builder& file) {
    file.text("k").put(u32{9});
    for (int i = 0; i < 10000; ++i) {
      file.put(u32{9}).put(u64{1});
    }
    file.put(u32{0}).put(u64{0});
  });
  check(
      {
          {"no bytes", "", "magic"},
          {"three bytes", "GGU", "magic"},
          {"another magic", builder().raw("GGML").put(u32{3}).pad(64).bytes, "magic"},
          {"ends in the version", "GGUF\3", "version"},
          {"version 0", gguf_start(0, 0, 0).bytes, "version"},
          {"version 1", gguf_start(0, 0, 1).bytes, "version"},
          {"version 4", gguf_start(0, 0, 4).bytes, "version"},
          {"big-endian", gguf_start(0, 0, 0x03000000).bytes, "version"},
          {"ends in the counts", builder().raw("GGUF").put(u32{3}).put(u64{0}).bytes,
           "metadata_count"},
          {"2^63 tensors", gguf_start(u64{1} << 63, 0).bytes, "tensor_count"},
          {"one tensor, no bytes", gguf_start(1, 0).bytes, "tensor_count"},
          {"2^64 - 1 pairs", gguf_start(0, ~u64{0}).bytes, "metadata_count"},
          {"key past the end", gguf_pairs(1, [](builder& f) { f.put(u64{99}).pad(64); }),
           "metadata[0].key"},
          {"key of 2^64 - 1 bytes", gguf_pairs(1, [](builder& f) { f.put(~u64{0}).pad(64); }),
           "metadata[0].key"},
          {"empty key", gguf_pairs(1, [](builder& f) { f.text("").put(u32{0}).put(u64{0}); }),
           "metadata[0].key"},
          {"key twice",
           gguf_pairs(
               2, [](builder& f) { f.text("k").put(u32{5}).put(1).text("k").put(u32{5}).put(2); }),
           "metadata[1].key"},
          {"value type 13", gguf_pairs(1, [](builder& f) { f.text("k").put(u32{13}).pad(64); }),
           "metadata[0].type"},
          {"bool of 2", gguf_pairs(1, [](builder& f) { f.text("k").put(u32{7}).raw("\2"); }),
           "metadata[0].value"},
          {"number past the end",
           gguf_pairs(1, [](builder& f) { f.text("k").put(u32{12}).raw("1234567"); }),
           "metadata[0].value"},
          {"string past the end",
           gguf_pairs(1, [](builder& f) { f.text("k").put(u32{8}).put(u64{5}).raw("abcd"); }),
           "metadata[0].value"},
          {"array of type 13", array(13, 0), "metadata[0].value.type"},
          {"array of 2^61 doubles", array(12, u64{1} << 61), "metadata[0].value.count"},
          {"array of 2^64 - 1 bytes", array(0, ~u64{0}), "metadata[0].value.count"},
          {"array of strings past the end", array(8, 2, std::string(15, '\0')),
           "metadata[0].value.count"},
          {"array of arrays past the end", array(9, 2, std::string(23, '\0')),
           "metadata[0].value.count"},
          {"string of an array past the end", array(8, 1, builder().put(u64{1}).bytes),
           "metadata[0].value"},
          {"arrays 10000 deep", deep, "metadata[0].value"},
          {"alignment 0", alignment(0), "general.alignment"},
          {"alignment 24", alignment(24), "general.alignment"},
          {"alignment is a string",
           gguf_pairs(1, [](builder& f) { f.text("general.alignment").put(u32{8}).text("32"); }),
           "general.alignment"},
          {"name of 64 bytes",
           [] {
             builder f = gguf_start(1, 0);
             return info(f, std::string(64, 'n'), {1}, 0, 0).pad(64).bytes;
           }(),
           "tensors[0].name"},
          {"name past the end", gguf_start(1, 0).put(u64{1000}).pad(128).bytes, "tensors[0].name"},
          {"five dimensions", gguf_one({1, 1, 1, 1, 1}, 0, 0, 4), "tensors[0].rank"},
          {"2^32 - 1 dimensions", gguf_start(1, 0).text("t").put(~u32{0}).pad(128).bytes,
           "tensors[0].rank"},
          {"negative dimension", gguf_one({~u64{0}}, 0, 0, 4), "tensors[0].dims"},
          {"product overflows", gguf_one({u64{1} << 32, u64{1} << 32}, 0, 0, 4), "tensors[0].dims"},
          {"product overflows beside a zero", gguf_one({0, u64{1} << 62, 64}, 0, 0, 4),
           "tensors[0].dims"},
          {"row splits a block", gguf_one({48}, 8, 0, 51), "tensors[0].dims"},
          {"row splits a block of 256", gguf_one({128, 2}, 14, 0, 210), "tensors[0].dims"},
          {"type 31", gguf_one({1}, 31, 0, 4), "tensors[0].type"},
          {"type 2^32 - 1", gguf_one({1}, ~u32{0}, 0, 4), "tensors[0].type"},
          {"ends in the tensors",
           gguf_start(1, 0).text("t").put(u32{1}).put(u64{1}).put(u32{0}).put(u32{0}).bytes,
           "tensors[0].offset"},
          {"first offset not 0", gguf_one({1}, 0, 32, 64), "tensors[0].offset"},
          {"second offset not aligned", gguf_two("a", "b", 3, 64), "tensors[1].offset"},
          {"second offset on the first", gguf_two("a", "b", 0, 64), "tensors[1].offset"},
          {"second offset leaves a hole", gguf_two("a", "b", 64, 128), "tensors[1].offset"},
          {"offset of 2^64 - 32", gguf_two("a", "b", ~u64{0} - 31, 64), "tensors[1].offset"},
          {"data past the end", gguf_one({9}, 24, 0, 8), "tensors[0].data"},
          {"second tensor past the end", gguf_two("a", "b", 32, 34), "tensors[1].data"},
          {"no data at all", gguf_one({1}, 0, 0, 0), "tensors[0].data"},
          {"name twice", gguf_two("a", "a", 32, 64), "tensors[1].name"},
      },
      "gguf", [](std::span<const std::byte> bytes) { io::gguf{bytes}; });
}

TEST_CASE("io/malformed: bad llama2.c files are rejected at the field that is wrong") {
  const auto header = [](std::vector<std::int32_t> numbers, std::size_t data = 0) {
    builder file;
    for (const std::int32_t n : numbers) {
      file.put(n);
    }
    return file.raw(std::string(data, '\0')).bytes;
  };
  const auto most = std::numeric_limits<std::int32_t>::max();
  const auto least = std::numeric_limits<std::int32_t>::min();
  // dim 4, hidden 6, 1 layer, 2 heads, 1 kv head, vocabulary 5, context 3: 5*4 + 4 + 16 + 8 + 8 +
  // 16 + 4 + 3*24 + 4 + 3*2 floats
  const std::size_t right = (20 + 4 + 16 + 8 + 8 + 16 + 4 + 72 + 4 + 6) * 4;
  CHECK(rejected_field([&] {
          io::llama2c{bytes_of(header({4, 6, 1, 2, 1, 5, 3}, right))};
        }) == "(accepted)");
  check(
      {
          {"no bytes", "", "header"},
          {"six numbers", header({4, 6, 1, 2, 1, 5}), "header"},
          {"dim 0", header({0, 6, 1, 2, 1, 5, 3}), "dim"},
          {"dim of 2^31 - 2", header({most - 1, 6, 1, 2, 1, 5, 3}), "dim"},
          {"negative hidden", header({4, -6, 1, 2, 1, 5, 3}), "hidden_dim"},
          {"no layers", header({4, 6, 0, 2, 1, 5, 3}), "n_layers"},
          {"2^31 - 1 layers", header({4, 6, most, 2, 1, 5, 3}), "n_layers"},
          {"no heads", header({4, 6, 1, 0, 1, 5, 3}), "n_heads"},
          {"heads do not divide dim", header({4, 6, 1, 3, 1, 5, 3}), "n_heads"},
          {"kv heads do not divide heads", header({12, 6, 1, 6, 4, 5, 3}), "n_kv_heads"},
          {"more kv heads than heads", header({4, 6, 1, 2, 4, 5, 3}), "n_kv_heads"},
          {"odd head size", header({6, 6, 1, 2, 1, 5, 3}), "head_size"},
          {"vocabulary 0", header({4, 6, 1, 2, 1, 0, 3}), "vocab_size"},
          {"vocabulary -2^31", header({4, 6, 1, 2, 1, least, 3}), "vocab_size"},
          {"context 0", header({4, 6, 1, 2, 1, 5, 0}), "seq_len"},
          {"one byte short", header({4, 6, 1, 2, 1, 5, 3}, right - 1), "weights"},
          {"one byte long", header({4, 6, 1, 2, 1, 5, 3}, right + 1), "weights"},
          {"classifier missing", header({4, 6, 1, 2, 1, -5, 3}, right), "weights"},
          {"huge and short", header({1 << 20, 1 << 22, 1 << 14, 16, 16, 1 << 26, 1 << 30}, 64),
           "weights"},
      },
      "llama2c", [](std::span<const std::byte> bytes) { io::llama2c{bytes}; });

  const auto token = [](builder& file, float score, std::int32_t length, std::string_view text) {
    file.put(score).put(length).raw(text);
  };
  builder three;
  three.put(7);
  for (int i = 0; i < 3; ++i) {
    token(three, 0, 1, "x");
  }
  const auto after = [&](float score, std::int32_t length, std::string_view text) {
    builder file = three;
    token(file, score, length, text);
    return file.bytes;
  };
  check(
      {
          {"no bytes", "", "max_token_length"},
          {"longest token of 0", builder().put(0).bytes, "max_token_length"},
          {"two tokens", three.bytes.substr(0, 4 + 2 * 9), "tokens"},
          {"ends in a score", three.bytes + "abc", "tokens[3].score"},
          {"ends in a length", three.bytes + "abcd123", "tokens[3].length"},
          {"negative length", after(0, -1, "x"), "tokens[3].length"},
          {"text past the end", after(0, 2, "x"), "tokens[3].text"},
          {"text of 2^31 - 1 bytes", after(0, most, "x"), "tokens[3].text"},
          {"score is not a number", after(std::numeric_limits<float>::quiet_NaN(), 1, "x"),
           "tokens[3].score"},
      },
      "llama2c", [](std::span<const std::byte> bytes) { io::read_llama2c_tokenizer(bytes); });
}

TEST_CASE("io/malformed: bad config.json texts are rejected at the field that is wrong") {
  const auto with = [](const std::string& key, const std::string& value) {
    std::string text = "{";
    for (const auto& [k, v] :
         std::vector<std::pair<std::string, std::string>>{{"hidden_size", "64"},
                                                          {"intermediate_size", "172"},
                                                          {"num_hidden_layers", "5"},
                                                          {"num_attention_heads", "8"},
                                                          {"num_key_value_heads", "4"},
                                                          {"vocab_size", "512"},
                                                          {"rms_norm_eps", "1e-5"}}) {
      if (k != key) {
        text += "\"" + k + "\":" + v + ",";
      }
    }
    return text + (value.empty() ? "\"x\":0}" : "\"" + key + "\":" + value + "}");
  };
  CHECK(rejected_field([&] { io::read_config_json(with("eos_token_id", "[2,3]")); }) ==
        "(accepted)");
  check(
      {
          {"no bytes", "", "document"},
          {"an array", "[]", "document"},
          {"a key twice", R"({"a":1,"a":2})", "document"},
          {"another model", with("model_type", R"("gpt2")"), "model_type"},
          {"another activation", with("hidden_act", R"("gelu")"), "hidden_act"},
          {"biases", with("attention_bias", "true"), "attention_bias"},
          {"no width", with("hidden_size", ""), "hidden_size"},
          {"width of 0", with("hidden_size", "0"), "hidden_size"},
          {"width is a string", with("hidden_size", R"("64")"), "hidden_size"},
          {"width is fractional", with("hidden_size", "64.5"), "hidden_size"},
          {"width of 2^80", with("hidden_size", "1208925819614629174706176"), "hidden_size"},
          {"negative layers", with("num_hidden_layers", "-1"), "num_hidden_layers"},
          {"too many layers", with("num_hidden_layers", "1000000"), "num_hidden_layers"},
          {"heads do not divide", with("num_attention_heads", "7"), "num_attention_heads"},
          {"kv heads do not divide", with("num_key_value_heads", "3"), "num_key_value_heads"},
          {"odd heads", with("head_dim", "7"), "head_dim"},
          {"epsilon of 0", with("rms_norm_eps", "0"), "rms_norm_eps"},
          {"negative base", with("rope_theta", "-1"), "rope_theta"},
          {"scaled RoPE", with("rope_scaling", R"({"rope_type":"llama3"})"),
           "rope_scaling.rope_type"},
          {"scaled RoPE, as written since version 5",
           with("rope_parameters", R"({"rope_type":"yarn","rope_theta":1})"),
           "rope_parameters.rope_type"},
          {"scaled RoPE beside a plain base",
           with("rope_theta", R"(5e5,"rope_parameters":{"rope_type":"llama3","factor":8})"),
           "rope_parameters.rope_type"},
          {"scaled RoPE without a name", with("rope_scaling", R"({"factor":8})"),
           "rope_scaling.factor"},
          {"partial RoPE", with("rope_parameters", R"({"partial_rotary_factor":0.5})"),
           "rope_parameters.partial_rotary_factor"},
          {"quantised weights", with("quantization_config", R"({"bits":4})"),
           "quantization_config"},
          {"BOS past the vocabulary", with("bos_token_id", "512"), "bos_token_id"},
          {"EOS of -2", with("eos_token_id", "-2"), "eos_token_id"},
      },
      "config.json", [](std::span<const std::byte> bytes) {
        io::read_config_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      });
}

TEST_CASE("io/malformed: bad tokenizer.json texts are rejected at the field that is wrong") {
  // a byte-level file of two tokens, with one place replaced
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text =
        R"({"added_tokens":[{"id":3,"content":"<e>","special":true,"lstrip":false}],)"
        R"("normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
        R"("post_processor":null,"decoder":{"type":"ByteLevel"},)"
        R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  CHECK(rejected_field([&] { io::read_tokenizer_json(with("null", "null")); }) == "(accepted)");
  check(
      {
          {"no bytes", "", "document"},
          {"no model", with(R"("model")", R"("modell")"), "model"},
          {"another model", with("BPE", "WordPiece"), "model.type"},
          {"vocabulary is a list", with(R"({"a":0,"b":1,"ab":2})", "[]"), "model.vocab"},
          {"id is a string", with(R"("b":1)", R"("b":"1")"), "model.vocab.b"},
          {"negative id", with(R"("b":1)", R"("b":-1)"), "model.vocab.b"},
          {"id of 2^31", with(R"("b":1)", R"("b":2147483648)"), "model.vocab.b"},
          {"id twice", with(R"("b":1)", R"("b":0)"), "model.vocab.b"},
          {"merges are an object", with(R"(["a b"])", "{}"), "model.merges"},
          {"merge of one", with("a b", "ab"), "model.merges[0]"},
          {"merge of three", with("a b", "a b b"), "model.merges[0]"},
          {"merge of three in a list", with(R"("a b")", R"(["a","b","b"])"), "model.merges[0]"},
          {"merge of numbers", with(R"("a b")", "[1,2]"), "model.merges[0][0]"},
          {"merge of unknown tokens", with("a b", "a c"), "model.merges[0]"},
          {"merge into nothing", with("a b", "b a"), "model.merges[0]"},
          {"unknown token unknown", with(R"("type":"BPE")", R"("type":"BPE","unk_token":"u")"),
           "model.unk_token"},
          {"dropout", with(R"("type":"BPE")", R"("type":"BPE","dropout":0.1)"), "model.dropout"},
          {"suffix", with(R"("type":"BPE")", R"("type":"BPE","end_of_word_suffix":"</w>")"),
           "model.end_of_word_suffix"},
          {"added token takes an id", with(R"("id":3)", R"("id":2)"), "added_tokens[0].id"},
          {"added token of a huge id", with(R"("id":3)", R"("id":1000000000)"),
           "added_tokens[0].id"},
          {"added token strips", with(R"("lstrip":false)", R"("lstrip":true)"),
           "added_tokens[0].lstrip"},
          {"added token without content", with("content", "kontent"), "added_tokens[0].content"},
          {"normalizer", with(R"("normalizer":null)", R"("normalizer":{"type":"NFC"})"),
           "normalizer"},
          {"another pre-tokenizer", with(R"("type":"ByteLevel","add)", R"("type":"BertPre","add)"),
           "pre_tokenizer"},
          {"prefix space", with(R"("add_prefix_space":false)", R"("add_prefix_space":true)"),
           "pre_tokenizer.add_prefix_space"},
          {"another post-processor",
           with(R"("post_processor":null)", R"("post_processor":{"type":"BertProcessing"})"),
           "post_processor.type"},
      },
      "tokenizer.json", [](std::span<const std::byte> bytes) {
        io::read_tokenizer_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      });
}
