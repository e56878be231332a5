// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/detail/json.hpp"
#include "ashlar/io/detail/utf8.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/tokenizer.hpp"
#include "ashlar/io/tokenizer_files.hpp"

namespace ashlar::io {

namespace detail {

inline constexpr std::string_view llama3_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view qwen2_expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Reads one `tokenizer.json`, section by section, into `tokenizer_parts`.
class tokenizer_json_reader {
 public:
  explicit tokenizer_json_reader(const json_field& root) : root_(root) {}

  tokenizer_parts read() {
    const json_field model = root_["model"];
    if (model.has("type") && model["type"].text() != "BPE") {
      model["type"].fail("'" + printable(model["type"].text()) + "' is not supported, only 'BPE'");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (model.has(key) && !model[key].text().empty()) {
        model[key].fail("it is not supported");
      }
    }
    if (model.has("dropout") && model["dropout"].number() != 0) {
      model["dropout"].fail("it is not supported");
    }
    const bool bytes = model.has("byte_fallback") && model["byte_fallback"].boolean();
    parts_.model = bytes ? tokenizer_model::sentencepiece : tokenizer_model::byte_level;
    parts_.ignore_merges = model.has("ignore_merges") && model["ignore_merges"].boolean();
    read_vocabulary(model["vocab"]);
    if (model.has("unk_token")) {
      parts_.unknown = id_of(model["unk_token"]);
      at(parts_.unknown).kind = token_kind::unknown;
    }
    read_merges(model["merges"]);
    if (root_.has("added_tokens")) {
      read_added(root_["added_tokens"]);
    }
    if (bytes) {
      read_sentence();
    } else {
      read_byte_level();
    }
    if (root_.has("post_processor")) {
      read_post_processor(root_["post_processor"]);
    }
    guess(parts_.bos, {"<s>", "<|begin_of_text|>", "<|endoftext|>"});
    guess(parts_.eos, {"</s>", "<|end_of_text|>", "<|endoftext|>"});
    return std::move(parts_);
  }

 private:
  token& at(std::int32_t id) { return parts_.tokens[static_cast<std::size_t>(id)]; }

  std::int32_t id_of(const json_field& name) const {
    const auto found = ids_.find(name.text());
    if (found == ids_.end()) {
      name.fail("'" + printable(name.text()) + "' is not in the vocabulary");
    }
    return found->second;
  }

  /// Grows the table of tokens to hold an id; files leave small gaps at most.
  std::int32_t reserve_id(const json_field& number, std::size_t named) {
    const auto most = static_cast<std::int64_t>(named + 65536);
    const auto id = number.integer(0, most);
    if (static_cast<std::size_t>(id) >= parts_.tokens.size()) {
      parts_.tokens.resize(static_cast<std::size_t>(id) + 1, {"", token_kind::unused});
    }
    return static_cast<std::int32_t>(id);
  }

  void read_vocabulary(const json_field& vocab) {
    const bool sentence = parts_.model == tokenizer_model::sentencepiece;
    const std::vector<json_value>& entries = vocab.members();
    for (const json_value& number : entries) {
      const std::string& text = number.key;
      const json_field field(number, format_, vocab.path() + "." + printable(text));
      const std::int32_t id = reserve_id(field, entries.size());
      if (at(id).kind != token_kind::unused) {
        field.fail("another token has id " + std::to_string(id));
      }
      ids_.try_emplace(text, id);
      const auto byte = sentence ? named_byte(text) : std::nullopt;
      if (byte) {
        at(id) = {std::string(1, *byte), token_kind::byte};
      } else {
        at(id) = {sentence ? replace_all(text, space_mark, " ") : from_stand_ins(text),
                  token_kind::normal};
      }
    }
  }

  void read_merges(const json_field& merges) {
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const json_field merge = merges[i];
      if (merge.value().kind ==
          json_kind::string) {  // how files were written before tokenizers 0.20
        const auto [left, right] = split_merge(merge.text(), format_, merge.path());
        add_merge(parts_, ids_, left, right, format_, merge.path());
      } else {
        if (merge.size() != 2) {
          merge.fail("it is not two tokens");
        }
        const std::string& left = merge[std::size_t{0}].text();
        add_merge(parts_, ids_, left, merge[1].text(), format_, merge.path());
      }
    }
  }

  void read_added(const json_field& added) {
    const std::size_t named = ids_.size() + added.size();
    for (std::size_t i = 0; i < added.size(); ++i) {
      const json_field entry = added[i];
      for (const char* key : {"lstrip", "rstrip", "single_word"}) {
        if (entry.has(key) && entry[key].boolean()) {
          entry[key].fail("it is not supported");
        }
      }
      const std::string& content = entry["content"].text();
      const json_field number = entry["id"];
      const std::int32_t id = reserve_id(number, named);
      const auto known = ids_.find(content);
      const bool moved = known != ids_.end() && known->second != id;
      if (moved || (known == ids_.end() && at(id).kind != token_kind::unused)) {
        number.fail("the vocabulary gives this id or this text to another token");
      }
      ids_.try_emplace(content, id);
      if (id != parts_.unknown) {
        const bool special = entry.has("special") && entry["special"].boolean();
        at(id) = {content, special ? token_kind::control : token_kind::user_defined};
      }
    }
  }

  void read_byte_level() {
    if (root_.has("normalizer")) {
      const json_field normalizer = root_["normalizer"];
      const bool empty = normalizer.has("normalizers") && normalizer["normalizers"].size() == 0;
      if (!empty) {
        normalizer.fail("normalizers are not supported with byte-level tokens");
      }
    }
    const json_field pre = root_["pre_tokenizer"];
    const std::string& type = pre["type"].text();
    if (type == "ByteLevel") {
      parts_.pattern = byte_level_pattern(pre);
      return;
    }
    if (type != "Sequence" || pre["pretokenizers"].size() != 2) {
      pre.fail("only ByteLevel, or a Sequence of Split or Digits and ByteLevel is supported");
    }
    const json_field first = pre["pretokenizers"][std::size_t{0}];
    const word_pattern rest = byte_level_pattern(pre["pretokenizers"][1]);
    const std::string& cut = first["type"].text();
    if (cut == "Digits" && rest == word_pattern::gpt2 && first["individual_digits"].boolean()) {
      parts_.pattern = word_pattern::gpt2_digits;
    } else if (cut == "Split" && rest == word_pattern::none) {
      parts_.pattern = split_pattern(first);
    } else {
      first.fail("this combination is not supported");
    }
  }

  static word_pattern byte_level_pattern(const json_field& pre) {
    if (pre["type"].text() != "ByteLevel") {
      pre["type"].fail("'" + printable(pre["type"].text()) + "' stands where ByteLevel must be");
    }
    if (pre["add_prefix_space"].boolean()) {
      pre["add_prefix_space"].fail("it is not supported with byte-level tokens");
    }
    const bool cuts = !pre.has("use_regex") || pre["use_regex"].boolean();
    return cuts ? word_pattern::gpt2 : word_pattern::none;
  }

  static word_pattern split_pattern(const json_field& split) {
    const bool invert = split.has("invert") && split["invert"].boolean();
    const std::string& behavior = split["behavior"].text();
    if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
      split["behavior"].fail("only Isolated, or Removed with invert is supported");
    }
    const json_field expression = split["pattern"]["Regex"];
    if (expression.text() == llama3_expression) {
      return word_pattern::llama3;
    }
    if (expression.text() == qwen2_expression) {
      return word_pattern::qwen2;
    }
    expression.fail("this expression is not supported, only Llama 3's and Qwen 2's");
  }

  /// Spaces become U+2581, at the start too; either a normalizer or a pre-tokenizer says so.
  void read_sentence() {
    bool marks_spaces = false;
    if (root_.has("normalizer")) {
      const json_field normalizer = root_["normalizer"];
      const bool many = normalizer["type"].text() == "Sequence";
      const std::size_t count = many ? normalizer["normalizers"].size() : 1;
      for (std::size_t i = 0; i < count; ++i) {
        const json_field step = many ? normalizer["normalizers"][i] : normalizer;
        const std::string& type = step["type"].text();
        if (type == "Prepend" && step["prepend"].text() == space_mark) {
          parts_.add_space_prefix = true;
        } else if (type == "Replace" && step["pattern"]["String"].text() == " " &&
                   step["content"].text() == space_mark) {
          marks_spaces = true;
        } else {
          step.fail("only a space mark that is prepended and replaces spaces is supported");
        }
      }
    }
    if (root_.has("pre_tokenizer")) {
      const json_field pre = root_["pre_tokenizer"];
      if (pre["type"].text() != "Metaspace" || pre["replacement"].text() != space_mark ||
          !pre.has("split") || pre["split"].boolean()) {
        pre.fail("only Metaspace without split is supported with byte fallback");
      }
      marks_spaces = true;
      parts_.add_space_prefix =
          pre.has("prepend_scheme") && pre["prepend_scheme"].text() != "never";
    }
    if (!marks_spaces) {
      root_.fail("neither normalizer nor pre_tokenizer replaces spaces by U+2581");
    }
  }

  void read_post_processor(const json_field& post) {
    const std::string& type = post["type"].text();
    if (type == "Sequence") {
      for (std::size_t i = 0; i < post["processors"].size(); ++i) {
        read_post_processor(post["processors"][i]);
      }
    } else if (type == "TemplateProcessing") {
      const json_field steps = post["single"];
      bool before = true;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        if (!steps[i].has("SpecialToken")) {
          before = false;
          continue;
        }
        std::int32_t& id = before ? parts_.bos : parts_.eos;
        if (id >= 0) {
          steps[i].fail("more than one token before or after the text is not supported");
        }
        id = id_of(steps[i]["SpecialToken"]["id"]);
        parts_.add_bos = parts_.add_bos || before;
      }
    } else if (type != "ByteLevel") {
      post["type"].fail("'" + printable(type) + "' is not supported");
    }
  }

  void guess(std::int32_t& id, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const auto found = ids_.find(name);
      if (id < 0 && found != ids_.end() && at(found->second).kind == token_kind::control) {
        id = found->second;
      }
    }
  }

  json_field root_;
  const std::string format_ = "tokenizer.json";
  tokenizer_parts parts_;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // by the text in the document
};

}  // namespace detail

/// Reads the text of a Hugging Face `tokenizer.json` with a BPE model.
///
/// Byte-level with the word patterns of GPT-2, SmolLM, Llama 3 and Qwen 2, or SentencePiece-like
/// with byte fallback (Llama 2). BOS and EOS come from the template of the post-processor, else
/// from the usual names of control tokens.
/// Throws: `format_error` naming the field that is malformed or not supported.
inline tokenizer read_tokenizer_json(std::string_view text) {
  const std::string format = "tokenizer.json";
  const detail::json_value document = detail::parse_json(text, format, "document");
  return tokenizer(detail::tokenizer_json_reader({document, format}).read());
}

namespace detail {

/// Builds the sections of a `tokenizer.json`. A template, so that only a program that writes one
/// has it compiled.
template <class Json>
class tokenizer_json_writer {
 public:
  using ordered = Json;

  explicit tokenizer_json_writer(const tokenizer_parts& parts)
      : parts_(parts), sentence_(parts.model == tokenizer_model::sentencepiece) {}

  [[nodiscard]] ordered document() const {
    ordered out;
    out["version"] = "1.0";
    out["truncation"] = nullptr;
    out["padding"] = nullptr;
    out["added_tokens"] = added();
    out["normalizer"] = normalizer();
    out["pre_tokenizer"] = sentence_ ? ordered(nullptr) : pre_tokenizer();
    out["post_processor"] = post_processor();
    out["decoder"] = decoder();
    out["model"] = model();
    return out;
  }

 private:
  [[nodiscard]] std::string name(std::int32_t id) const {
    const token& t = parts_.tokens[static_cast<std::size_t>(id)];
    if (t.kind == token_kind::byte) {
      constexpr std::string_view digits = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(t.text[0]);
      return {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
    }
    if (t.kind != token_kind::normal) {
      return t.text;
    }
    return sentence_ ? replace_all(t.text, " ", space_mark) : to_stand_ins(t.text);
  }
  static ordered byte_level(const char* flag, bool value) {
    return {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {flag, value}};
  }

  [[nodiscard]] ordered added() const {
    ordered list = ordered::array();
    for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
      const token_kind kind = parts_.tokens[id].kind;
      if (kind == token_kind::control || kind == token_kind::user_defined ||
          kind == token_kind::unknown) {
        list.push_back({{"id", id},
                        {"content", parts_.tokens[id].text},
                        {"single_word", false},
                        {"lstrip", false},
                        {"rstrip", false},
                        {"normalized", false},
                        {"special", kind != token_kind::user_defined}});
      }
    }
    return list;
  }

  [[nodiscard]] ordered normalizer() const {
    if (!sentence_) {
      return nullptr;
    }
    ordered steps = ordered::array();
    if (parts_.add_space_prefix) {
      steps.push_back({{"type", "Prepend"}, {"prepend", space_mark}});
    }
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space_mark}});
    return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
  }

  [[nodiscard]] ordered pre_tokenizer() const {
    const auto two = [](ordered first, ordered second) {
      ordered steps = ordered::array();
      steps.push_back(std::move(first));
      steps.push_back(std::move(second));
      return ordered{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
    };
    switch (parts_.pattern) {
      case word_pattern::gpt2_digits:
        return two({{"type", "Digits"}, {"individual_digits", true}},
                   byte_level("use_regex", true));
      case word_pattern::llama3:
      case word_pattern::qwen2: {
        const bool llama = parts_.pattern == word_pattern::llama3;
        return two({{"type", "Split"},
                    {"pattern", {{"Regex", llama ? llama3_expression : qwen2_expression}}},
                    {"behavior", "Isolated"},
                    {"invert", false}},
                   byte_level("use_regex", false));
      }
      default:
        return byte_level("use_regex", parts_.pattern == word_pattern::gpt2);
    }
  }

  [[nodiscard]] ordered post_processor() const {
    if (!parts_.add_bos || parts_.bos < 0) {
      return sentence_ ? ordered(nullptr) : byte_level("use_regex", true);
    }
    const std::string bos = name(parts_.bos);
    const auto special = [&](int type) -> ordered {
      return {{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
    };
    const auto text = [](const char* which, int type) -> ordered {
      return {{"Sequence", {{"id", which}, {"type_id", type}}}};
    };
    ordered single = ordered::array({special(0), text("A", 0)});
    ordered pair = ordered::array({special(0), text("A", 0), special(1), text("B", 1)});
    ordered specials = ordered::object();
    specials[bos] = {
        {"id", bos}, {"ids", ordered::array({parts_.bos})}, {"tokens", ordered::array({bos})}};
    return {{"type", "TemplateProcessing"},
            {"single", std::move(single)},
            {"pair", std::move(pair)},
            {"special_tokens", std::move(specials)}};
  }

  [[nodiscard]] ordered decoder() const {
    if (!sentence_) {
      return byte_level("use_regex", true);
    }
    ordered steps = ordered::array();
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", space_mark}}}, {"content", " "}});
    steps.push_back({{"type", "ByteFallback"}});
    steps.push_back({{"type", "Fuse"}});
    if (parts_.add_space_prefix) {
      steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
  }

  [[nodiscard]] ordered model() const {
    ordered out;
    out["type"] = "BPE";
    out["dropout"] = nullptr;
    out["unk_token"] = parts_.unknown >= 0 ? ordered(name(parts_.unknown)) : ordered(nullptr);
    out["continuing_subword_prefix"] = nullptr;
    out["end_of_word_suffix"] = nullptr;
    out["fuse_unk"] = sentence_;
    out["byte_fallback"] = sentence_;
    out["ignore_merges"] = parts_.ignore_merges;
    ordered vocab = ordered::object();
    std::unordered_map<std::string, std::size_t> seen;
    for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
      if (parts_.tokens[id].kind == token_kind::unused && parts_.tokens[id].text.empty()) {
        continue;  // a gap in the file that was read
      }
      const std::string text = name(static_cast<std::int32_t>(id));
      if (const auto [at, fresh] = seen.emplace(text, id); !fresh) {
        throw argument_error("ashlar::io::write_tokenizer_json",
                             "tokens " + std::to_string(at->second) + " and " + std::to_string(id) +
                                 " have one text");
      }
      vocab.emplace(text, id);
    }
    out["vocab"] = std::move(vocab);
    ordered merges = ordered::array();
    for (const merge_rule& merge : parts_.merges) {
      merges.push_back(name(merge.left) + " " + name(merge.right));
    }
    out["merges"] = std::move(merges);
    return out;
  }

  const tokenizer_parts& parts_;
  bool sentence_;
};

}  // namespace detail

/// Writes a `tokenizer.json` that Hugging Face tokenizers reads.
///
/// SentencePiece scores become the order of merges: where equal scores compete, the first rule
/// wins there and the leftmost place here.
/// Throws: `argument_error` where a token cannot be written: a name that is not UTF-8, two tokens
///         with one text; `file_error`.
template <class Json = detail::json>
void write_tokenizer_json(const std::filesystem::path& path, const tokenizer& model) {
  std::string text;
  try {
    text = detail::tokenizer_json_writer<Json>(model.parts()).document().dump(2);
  } catch (const typename Json::exception&) {
    throw argument_error("ashlar::io::write_tokenizer_json", "a token's name is not UTF-8");
  }
  file_writer file(path);
  file.write(text + "\n");
  file.commit();
}

}  // namespace ashlar::io
