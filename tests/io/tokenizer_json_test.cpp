// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/tokenizer_json.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/io/train_bpe.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;
using ids = std::vector<std::int32_t>;

namespace {

const std::string sample_text =
    "low lower lowest newer newest wider 123 456, it's \"quoted\" \\ back\tslash\n"
    "\xc3\xbc\xc3\xb1\xc3\xad \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x99\x82 low low new new\n";

io::tokenizer reread(const scratch& folder, const io::tokenizer& model) {
  io::write_tokenizer_json(folder / "tokenizer.json", model);
  return io::read_tokenizer_json(read_all(folder / "tokenizer.json"));
}

}  // namespace

TEST_CASE("io/tokenizer_json: a trained tokenizer comes back the same, with every word pattern") {
  const scratch folder;
  for (const auto pattern :
       {io::word_pattern::none, io::word_pattern::gpt2, io::word_pattern::gpt2_digits,
        io::word_pattern::llama3, io::word_pattern::qwen2}) {
    const auto model = io::train_bpe(sample_text, 300, {.pattern = pattern});
    CHECK(reread(folder, model) == model);
  }
}

TEST_CASE("io/tokenizer_json: BOS in front of prompts survives through the template") {
  const scratch folder;
  io::tokenizer_parts parts = io::train_bpe(sample_text, 280).parts();
  parts.add_bos = true;
  parts.ignore_merges = true;
  const io::tokenizer model(parts);
  CHECK(reread(folder, model) == model);
  CHECK(reread(folder, model).encode_prompt("low").front() == 0);
}

TEST_CASE("io/tokenizer_json: a SentencePiece tokenizer comes back with its tokens and merges") {
  const scratch folder;
  io::tokenizer_parts parts;
  parts.model = io::tokenizer_model::sentencepiece;
  parts.tokens = {{"<unk>", io::token_kind::unknown},
                  {"<s>", io::token_kind::control},
                  {"</s>", io::token_kind::control}};
  for (int b = 0; b < 256; ++b) {
    parts.tokens.push_back({std::string(1, static_cast<char>(b)), io::token_kind::byte});
  }
  for (const char* text : {" ", "l", "o", "w", "lo", "low", " low"}) {
    parts.tokens.push_back({text});
  }
  std::vector<float> scores(parts.tokens.size());
  for (std::size_t id = 259; id < scores.size(); ++id) {
    scores[id] = -static_cast<float>(id);
  }
  parts.merges = io::merges_from_scores(parts.tokens, scores);
  parts.add_space_prefix = true;
  parts.add_bos = true;
  parts.unknown = 0;
  parts.bos = 1;
  parts.eos = 2;
  const io::tokenizer model(parts);
  const io::tokenizer read = reread(folder, model);
  CHECK(read.parts().tokens == parts.tokens);
  CHECK(read.bos() == 1);
  CHECK(read.eos() == 2);
  for (const std::string_view text : {"low low", "  lo", "x\xff", ""}) {
    CHECK(read.encode_prompt(text) == model.encode_prompt(text));
    CHECK(read.decode(read.encode(text)) == text);
  }
}

TEST_CASE("io/tokenizer_json: merges are read as pairs and as lines, ids with small gaps") {
  const auto text = [](std::string_view merges) {
    return R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},)"
           R"("added_tokens":[{"id":9,"content":"<tool>","special":false},)"
           R"({"id":7,"content":"<|endoftext|>","special":true}],)"
           R"("model":{"vocab":{"a":0,"b":1,"ab":2,")"
           "\xc4\xa0"
           R"(ab":3,")"
           "\xc4\xa0"
           R"(":4},"merges":)" +
           std::string(merges) + "}}";
  };
  const auto lines = io::read_tokenizer_json(text("[\"a b\",\"\xc4\xa0 ab\"]"));
  const auto pairs = io::read_tokenizer_json(text("[[\"a\",\"b\"],[\"\xc4\xa0\",\"ab\"]]"));
  CHECK(lines == pairs);
  CHECK(lines.size() == 10);
  CHECK(lines.eos() == 7);
  CHECK(lines.encode("ab ab<tool>ab") == ids{2, 3, 9, 2});
  CHECK(lines.encode("axb") == ids{2});  // neither x nor the unknown has a token: x is left out
  CHECK(lines.decode(ids{3, 7, 9, 5}) == " ab<tool>");
}

TEST_CASE("io/tokenizer_json: the expression of Llama 3 is read, another is refused by name") {
  const auto text = [](std::string_view expression) {
    return R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)"
           R"({"Regex":")" +
           std::string(expression) +
           R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel",)"
           R"("add_prefix_space":false,"use_regex":false}]},"model":{"vocab":{},"merges":[]}})";
  };
  CHECK(rejected_field([&] { io::read_tokenizer_json(text("a|b")); }) ==
        "tokenizer.json: pre_tokenizer.pretokenizers[0].pattern.Regex");
  const auto read = io::read_tokenizer_json(
      text(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|)"
           R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)"));
  CHECK(read.parts().pattern == io::word_pattern::llama3);
}

TEST_CASE("io/tokenizer_json: what cannot be written is refused, and nothing is left behind") {
  const scratch folder;
  const auto refused = [&](std::vector<io::token> tokens) {
    io::tokenizer_parts parts;
    parts.tokens = std::move(tokens);
    CHECK_THROWS_AS(io::write_tokenizer_json(folder / "t", io::tokenizer(parts)),
                    ashlar::argument_error);
    CHECK(std::filesystem::is_empty(folder.path()));
  };
  refused({{"\xff", io::token_kind::control}});
  refused({{"a"}, {"a"}});
}

TEST_CASE("io/tokenizer_json: Hugging Face tokenizers, where installed, encodes as we do") {
  if (std::system("python3 -c 'import tokenizers' 2>/dev/null") != 0) {
    MESSAGE("SKIPPED: python3 has no module tokenizers");
    return;
  }
  const scratch folder;
  const auto model = io::train_bpe(sample_text, 300);
  io::write_tokenizer_json(folder / "tokenizer.json", model);
  write_all(folder / "text", sample_text);
  write_all(folder / "run.py",
            "import sys, tokenizers\n"
            "t = tokenizers.Tokenizer.from_file(sys.argv[1] + '/tokenizer.json')\n"
            "text = open(sys.argv[1] + '/text', encoding='utf-8', newline='').read()\n"
            "i = t.encode(text).ids\n"
            "assert t.decode(i) == text\n"
            "open(sys.argv[1] + '/ids', 'w').write(''.join(f'{n} ' for n in i))\n");
  const std::string at = folder.path().string();
  REQUIRE(std::system(("python3 '" + at + "/run.py' '" + at + "'").c_str()) == 0);
  std::string own;
  for (const std::int32_t id : model.encode(sample_text)) {
    own += std::to_string(id) + " ";
  }
  CHECK(read_all(folder / "ids") == own);
}
