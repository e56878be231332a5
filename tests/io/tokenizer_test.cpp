// SPDX-License-Identifier: Apache-2.0
#include "ashlar/io/tokenizer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/tokenizer_files.hpp"
#include "ashlar/io/train_bpe.hpp"
#include "io/io_support.hpp"

namespace io = ashlar::io;
using namespace io_test;

using ids = std::vector<std::int32_t>;

namespace {

const std::string sample_text =
    "She sells sea shells by the sea shore; the shells she sells are sea shells, I'm sure.\n"
    "It's the year 2023, and don't they'll we've 12345 67 \xc3\xbc\xc3\xb1\xc3\xad"
    "code \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x99\x82\n\n    indented\tcode() { return x1 + y2; }\n";

/// A SentencePiece-like tokenizer: characters and words with scores, bytes for the rest.
io::tokenizer sentence_tokenizer() {
  io::tokenizer_parts parts;
  parts.model = io::tokenizer_model::sentencepiece;
  parts.tokens = {{"<unk>", io::token_kind::unknown},
                  {"<s>", io::token_kind::control},
                  {"</s>", io::token_kind::control}};
  for (int b = 0; b < 256; ++b) {
    parts.tokens.push_back({std::string(1, static_cast<char>(b)), io::token_kind::byte});
  }
  std::vector<float> scores(parts.tokens.size());
  for (const auto& [text, score] : std::vector<std::pair<std::string, float>>{{" ", -9},
                                                                              {"a", -9},
                                                                              {"b", -9},
                                                                              {"c", -9},
                                                                              {"ab", -2},
                                                                              {"bc", -1},
                                                                              {"abc", -3},
                                                                              {" a", -4},
                                                                              {" abc", -5},
                                                                              {"\xc3\xbc", -9},
                                                                              {"aa", -6}}) {
    parts.tokens.push_back({text});
    scores.push_back(score);
  }
  parts.tokens.push_back({"<tool>", io::token_kind::user_defined});
  scores.push_back(0);
  parts.merges = io::merges_from_scores(parts.tokens, scores);
  parts.add_space_prefix = true;
  parts.add_bos = true;
  parts.unknown = 0;
  parts.bos = 1;
  parts.eos = 2;
  return io::tokenizer(parts);
}

std::vector<std::string> pieces(const io::tokenizer& model, const ids& tokens) {
  std::vector<std::string> texts;
  for (const std::int32_t id : tokens) {
    texts.push_back(model.at(id).text);
  }
  return texts;
}

using words = std::vector<std::string>;

/// Byte-level tokenizer whose words are visible: every word of `text` is a token of its own.
words cut(const std::string& text, io::word_pattern pattern) {
  // min_count 1 and room for every merge: training goes on until each word is one token
  const auto model = io::train_bpe(text, 100000, {.pattern = pattern, .min_count = 1});
  return pieces(model, model.encode(text));
}

std::string random_bytes(std::mt19937& random, std::size_t size) {
  std::string text(size, '\0');
  for (char& c : text) {
    c = static_cast<char>(random());
  }
  return text;
}

}  // namespace

TEST_CASE("io/tokenizer: any bytes come back from ids, in both models") {
  std::mt19937 random(11);
  for (const io::tokenizer& model : {io::train_bpe(sample_text, 400), sentence_tokenizer()}) {
    CHECK(model.encode("").empty());
    CHECK(model.decode({}).empty());
    for (const std::string_view text :
         {" ", "  ", "a", " a", "\xff", "\xc3", "\xe4\xb8", "\xed\xa0\x80", "\xf5\x80\x80\x80",
          "a\xc3", "<s>", "<|endoftext|>", "\xe2\x96\x81", "</s> <unk>"}) {
      CHECK(model.decode(model.encode(text)) == text);
    }
    CHECK(model.decode(model.encode(sample_text)) == sample_text);
    for (const std::size_t size : {1u, 2u, 3u, 7u, 64u, 257u}) {
      for (int i = 0; i < 50; ++i) {
        const std::string text = random_bytes(random, size);
        CHECK(model.decode(model.encode(text)) == text);
      }
    }
  }
}

TEST_CASE("io/tokenizer: a word of a hundred thousand letters is not a trap") {
  const std::string text(100000, 'a');
  for (const io::tokenizer& model :
       {io::train_bpe(text.substr(0, 64), 270), sentence_tokenizer()}) {
    const ids tokens = model.encode(text);
    CHECK(tokens.size() < text.size());
    CHECK(model.decode(tokens) == text);
  }
}

TEST_CASE("io/tokenizer: words end where the pattern of GPT-2 says") {
  const auto gpt2 = io::word_pattern::gpt2;
  CHECK(cut("Hello world", gpt2) == words{"Hello", " world"});
  CHECK(cut("it's we'll IT'S '", gpt2) == words{"it", "'s", " we", "'ll", " IT", "'", "S", " '"});
  CHECK(cut("a  b   c", gpt2) == words{"a", " ", " b", "  ", " c"});
  CHECK(cut("a \n b\n\n", gpt2) == words{"a", " \n", " b", "\n\n"});
  CHECK(cut("x1234 +=!? 5", gpt2) == words{"x", "1234", " +=!?", " 5"});
  CHECK(cut("\xc3\xbc\xc3\x9f \xd9\xa3\xd9\xa4 \xc2\xa0z", gpt2) ==
        words{"\xc3\xbc\xc3\x9f", " \xd9\xa3\xd9\xa4", " ", "\xc2\xa0", "z"});
  CHECK(cut("\xf0\x9f\x99\x82\xf0\x9f\x99\x82 ok", gpt2) ==
        words{"\xf0\x9f\x99\x82\xf0\x9f\x99\x82", " ok"});
}

TEST_CASE("io/tokenizer: words end where the patterns of other models say") {
  CHECK(cut("a12 345", io::word_pattern::gpt2_digits) == words{"a", "1", "2", " ", "3", "4", "5"});
  const auto llama3 = io::word_pattern::llama3;
  CHECK(cut("IT'S 123456\n", llama3) == words{"IT", "'S", " ", "123", "456", "\n"});
  CHECK(cut("(foo);\n\n  bar", llama3) == words{"(foo", ");\n\n", " ", " bar"});
  CHECK(cut("a \n \n  b", llama3) == words{"a", " \n \n", " ", " b"});
  CHECK(cut("a 123", io::word_pattern::qwen2) == words{"a", " ", "1", "2", "3"});
  CHECK(cut("a b", io::word_pattern::none) == words{"a b"});
}

TEST_CASE("io/tokenizer: SentencePiece merges the best score first, of equal ones the leftmost") {
  const io::tokenizer model = sentence_tokenizer();
  CHECK(pieces(model, model.encode("abc")) == words{" abc"});  // bc, abc, then with the space
  CHECK(pieces(model, model.encode("abb")) == words{" ", "ab", "b"});  // ab before " a"
  CHECK(pieces(model, model.encode("aab")) == words{" a", "ab"});
  CHECK(pieces(model, model.encode("aaaaa")) == words{" a", "aa", "aa"});
  CHECK(pieces(model, model.encode("\xc3\xbc\xc3\xb6")) == words{" ", "\xc3\xbc", "\xc3", "\xb6"});
}

TEST_CASE("io/tokenizer: the space in front is dropped at the start and after BOS only") {
  const io::tokenizer model = sentence_tokenizer();
  const std::int32_t a = model.find(" a");
  CHECK(model.decode(ids{a, a}) == "a a");
  CHECK(model.decode(ids{1, a, a}) == "a a");
  CHECK(model.decode(ids{a, 1, a}) == "aa");
  CHECK(model.decode(ids{a, 2, a}) == "a a");
  CHECK(model.encode_prompt("abc").front() == model.bos());
  const ids before{1, a};
  io::stream_decoder stream(model, before);
  CHECK(stream.push(a) == " a");
}

TEST_CASE("io/tokenizer: names of control tokens are text unless asked for, user's tokens never") {
  const io::tokenizer sentence = sentence_tokenizer();
  const io::tokenizer words_model = io::train_bpe(sample_text, 300);
  for (const auto& [model, name] : {std::pair(sentence, std::string("</s>")),
                                    std::pair(words_model, std::string("<|endoftext|>"))}) {
    const std::int32_t id = model.find(name);
    REQUIRE(id >= 0);
    const std::string text = "a" + name + name + "b";
    const ids as_text = model.encode(text);
    const ids as_tokens = model.encode(text, io::control_names::as_tokens);
    CHECK(std::count(as_text.begin(), as_text.end(), id) == 0);
    CHECK(std::count(as_tokens.begin(), as_tokens.end(), id) == 2);
  }
  CHECK(pieces(sentence, sentence.encode("a<tool>b")) == words{" a", "<tool>", " ", "b"});
}

TEST_CASE("io/tokenizer: a stream never hands out half a character, and joins to the whole") {
  const std::string text = "\xc3\xbc \xe4\xb8\xad\xf0\x9f\x99\x82 x\xff\xe4\xb8 y\xf0\x9f";
  const io::tokenizer model = io::train_bpe("", 257);  // one token per byte
  io::stream_decoder stream(model);
  std::string joined;
  for (const std::int32_t id : model.encode(text)) {
    const std::string part = stream.push(id);
    joined += part;
    // only what can never become a character comes in pieces
    CHECK((part.empty() || text.find(part) != std::string::npos));
    CHECK(part != "\xc3");
    CHECK(part != "\xf0");
  }
  CHECK(joined + "\xf0\x9f" == text);
  CHECK(stream.finish() == "\xf0\x9f");
  CHECK(stream.finish().empty());
}

TEST_CASE("io/tokenizer: ids that do not exist are refused, in use and in construction") {
  const io::tokenizer model = io::train_bpe("", 257);
  for (const std::int32_t id : {-1, 257, 1 << 30}) {
    CHECK_THROWS_AS(static_cast<void>(model.decode(ids{0, id})), ashlar::argument_error);
    CHECK_THROWS_AS(static_cast<void>(model.at(id)), ashlar::argument_error);
  }
  const auto refused = [&](auto change) {
    io::tokenizer_parts parts = model.parts();
    change(parts);
    CHECK_THROWS_AS(io::tokenizer{parts}, ashlar::argument_error);
  };
  refused([](io::tokenizer_parts& p) { p.bos = 257; });
  refused([](io::tokenizer_parts& p) { p.eos = -2; });
  refused([](io::tokenizer_parts& p) { p.merges.push_back({0, 1, 300, 0}); });
}

TEST_CASE("io/train_bpe: the same text gives the same tokenizer, byte for byte") {
  const auto a = io::train_bpe(sample_text, 350);
  CHECK(a == io::train_bpe(sample_text, 350));
  CHECK(a.size() <= 350);
  CHECK(a.bos() == 0);
  CHECK(a.eos() == 0);
  CHECK(a.at(0).text == "<|endoftext|>");
  CHECK(a.at(1).text == "!");
}

TEST_CASE("io/train_bpe: merges are those of counting all pairs anew each time") {
  // the naive twin: all words as texts, all pairs counted from scratch before every merge
  const std::int32_t size = 330;
  const std::string text = sample_text + sample_text;
  const auto model = io::train_bpe(text, size);
  std::vector<ids> corpus;
  const auto bytes = io::train_bpe("", 257);
  for (const std::string& word : cut(text, io::word_pattern::gpt2)) {
    corpus.push_back(bytes.encode(word));
  }
  std::vector<io::merge_rule> merges;
  for (std::int32_t next = 257; next < size; ++next) {
    std::map<std::pair<std::int32_t, std::int32_t>, int> counts;
    for (const ids& word : corpus) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        ++counts[{word[i], word[i + 1]}];
      }
    }
    const auto best = std::max_element(counts.begin(), counts.end(), [](auto& a, auto& b) {
      return a.second != b.second ? a.second < b.second : a.first > b.first;
    });
    if (best == counts.end() || best->second < 2) {
      break;
    }
    const auto [left, right] = best->first;
    merges.push_back({left, right, next, static_cast<std::uint32_t>(merges.size())});
    for (ids& word : corpus) {
      ids merged;
      for (std::size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == left && word[i + 1] == right) {
          merged.push_back(next);
          ++i;
        } else {
          merged.push_back(word[i]);
        }
      }
      word = merged;
    }
  }
  CHECK(merges.size() > 20);
  CHECK(model.parts().merges == merges);
  // and encoding the text it was trained on repeats the training
  ids all;
  for (const ids& word : corpus) {
    all.insert(all.end(), word.begin(), word.end());
  }
  CHECK(model.encode(text) == all);
}

TEST_CASE("io/train_bpe: options hold, and impossible ones are refused") {
  const io::bpe_options none{.control = {}};
  CHECK(io::train_bpe("", 256, none).size() == 256);
  CHECK(io::train_bpe("", 256, none).bos() == -1);
  CHECK(io::train_bpe("abab", 300, {.min_count = 3}).size() == 257);
  CHECK(io::train_bpe(sample_text, 280, {.control = {"<a>", "<b>"}}).find("<b>") == 1);
  CHECK_THROWS_AS(io::train_bpe("", 256), ashlar::argument_error);
  CHECK_THROWS_AS(io::train_bpe("", -1), ashlar::argument_error);
  CHECK_THROWS_AS(io::train_bpe("", 300, {.control = {"<a>", "<a>"}}), ashlar::argument_error);
  CHECK_THROWS_AS(io::train_bpe("", 300, {.control = {""}}), ashlar::argument_error);
}
