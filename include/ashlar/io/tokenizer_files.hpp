// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/io/detail/utf8.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/tokenizer.hpp"

namespace ashlar::io {

/// Merge rules of a vocabulary with scores: two tokens whose texts joined are a token of higher
/// score go first; equal scores have equal rank.
///
/// Requires: one score per token, none of them NaN.
/// Cost:     every split of every token of up to 512 bytes; longer ones are never merged into.
/// Source:   llama2.c, `encode`; llama.cpp, `llm_tokenizer_spm`.
inline std::vector<merge_rule> merges_from_scores(std::span<const token> tokens,
                                                  std::span<const float> scores) {
  const auto mergeable = [&](std::size_t id) {
    return tokens[id].kind == token_kind::normal || tokens[id].kind == token_kind::user_defined;
  };
  std::unordered_map<std::string_view, std::int32_t> by_text;
  std::vector<float> levels;  // the scores, highest first: a score's place is its rank
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (mergeable(id)) {
      by_text.try_emplace(tokens[id].text, static_cast<std::int32_t>(id));
      levels.push_back(scores[id]);
    }
  }
  std::sort(levels.begin(), levels.end(), std::greater<>());
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());

  std::vector<merge_rule> merges;
  for (const auto& [text, id] : by_text) {
    if (text.size() > 512) {
      continue;
    }
    const float score = scores[static_cast<std::size_t>(id)];
    const auto rank = static_cast<std::uint32_t>(
        std::lower_bound(levels.begin(), levels.end(), score, std::greater<>()) - levels.begin());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = by_text.find(text.substr(0, cut));
      const auto right = by_text.find(text.substr(cut));
      if (left != by_text.end() && right != by_text.end()) {
        merges.push_back({left->second, right->second, id, rank});
      }
    }
  }
  std::sort(merges.begin(), merges.end(), [](const merge_rule& a, const merge_rule& b) {
    return a.rank != b.rank   ? a.rank < b.rank
           : a.left != b.left ? a.left < b.left
                              : a.right < b.right;
  });
  return merges;
}

namespace detail {

/// The byte that `<0x41>` names, or nothing.
inline std::optional<char> named_byte(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>' || digit(text[3]) < 0 ||
      digit(text[4]) < 0) {
    return std::nullopt;
  }
  return static_cast<char>(digit(text[3]) * 16 + digit(text[4]));
}

/// Reads merges of two texts each, with look-up in the names that the file uses.
inline void add_merge(tokenizer_parts& parts,
                      const std::unordered_map<std::string_view, std::int32_t>& ids,
                      std::string_view left, std::string_view right, const std::string& format,
                      const std::string& field) {
  const auto id_of = [&](std::string_view text) {
    const auto at = ids.find(text);
    if (at == ids.end()) {
      throw format_error(format, field, "a token of it is not in the vocabulary");
    }
    return at->second;
  };
  const std::string joined = std::string(left) + std::string(right);
  parts.merges.push_back(
      {id_of(left), id_of(right), id_of(joined), static_cast<std::uint32_t>(parts.merges.size())});
}

/// Splits "left right". Throws: `format_error` where there is not exactly one space.
inline std::pair<std::string_view, std::string_view> split_merge(std::string_view text,
                                                                 const std::string& format,
                                                                 const std::string& field) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    throw format_error(format, field, "it is not two tokens with a space between");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace detail

/// Reads the tokenizer file of llama2.c: the longest token's length, then score, length and bytes
/// of every token.
///
/// The first three tokens are unknown, BOS and EOS, as everywhere in llama2.c.
/// Throws: `format_error`.
inline tokenizer read_llama2c_tokenizer(std::span<const std::byte> bytes) {
  static const std::string format = "llama2c";
  std::size_t at = 0;
  const auto take = [&](std::size_t count, const std::string& field) {
    if (count > bytes.size() - at) {
      throw format_error(format, field, "the file ends inside it");
    }
    const std::byte* here = bytes.data() + at;
    at += count;
    return here;
  };
  std::int32_t longest = 0;
  std::memcpy(&longest, take(4, "max_token_length"), 4);
  if (longest < 1) {
    throw format_error(format, "max_token_length", std::to_string(longest) + " is below 1");
  }
  tokenizer_parts parts;
  parts.model = tokenizer_model::sentencepiece;
  std::vector<float> scores;
  while (at < bytes.size()) {
    const std::string field = "tokens[" + std::to_string(scores.size()) + "]";
    float score = 0;
    std::int32_t length = 0;
    std::memcpy(&score, take(4, field + ".score"), 4);
    std::memcpy(&length, take(4, field + ".length"), 4);
    if (std::isnan(score)) {
      throw format_error(format, field + ".score", "it is not a number");
    }
    if (length < 0) {
      throw format_error(format, field + ".length", std::to_string(length) + " is negative");
    }
    const auto count = static_cast<std::size_t>(length);
    const auto* text = reinterpret_cast<const char*>(take(count, field + ".text"));
    parts.tokens.push_back({std::string(text, count), token_kind::normal});
    scores.push_back(score);
  }
  if (parts.tokens.size() < 3) {
    throw format_error(format, "tokens", "fewer than the three special ones");
  }
  // line ends around the names come from how the files were exported
  parts.tokens[0] = {"<unk>", token_kind::unknown};
  parts.tokens[1] = {"<s>", token_kind::control};
  parts.tokens[2] = {"</s>", token_kind::control};
  for (token& t : parts.tokens) {
    if (const auto byte = detail::named_byte(t.text)) {
      t = {std::string(1, *byte), token_kind::byte};
    }
  }
  parts.merges = merges_from_scores(parts.tokens, scores);
  parts.add_space_prefix = true;
  parts.add_bos = true;
  parts.unknown = 0;
  parts.bos = 1;
  parts.eos = 2;
  return tokenizer(std::move(parts));
}

/// Throws: `file_error`, `format_error`.
inline tokenizer read_llama2c_tokenizer(const std::filesystem::path& path) {
  const mapped_file file(path);
  return detail::naming(path.string(), [&] { return read_llama2c_tokenizer(file.bytes()); });
}

/// Reads the tokenizer inside a GGUF file: `tokenizer.ggml.model` `llama` or `gpt2`.
///
/// Without `tokenizer.ggml.pre`, `gpt2` cuts words as GPT-2 does.
/// Throws: `format_error` naming the key.
inline tokenizer read_tokenizer(const gguf& file) {
  const std::string keys = "tokenizer.ggml.";
  const auto model = file.get<std::string>(keys + "model");
  if (model != "llama" && model != "gpt2") {
    file.fail(keys + "model", "only 'llama' and 'gpt2' are supported");
  }
  const bool sentence = model == "llama";
  const auto texts = file.get<std::vector<std::string>>(keys + "tokens");
  const auto kinds = file.get_if<std::vector<std::int32_t>>(keys + "token_type");
  if (kinds && kinds->size() != texts.size()) {
    file.fail(keys + "token_type", std::to_string(kinds->size()) + " kinds for " +
                                       std::to_string(texts.size()) + " tokens");
  }
  if (texts.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    file.fail(keys + "tokens", "more tokens than ids");
  }
  tokenizer_parts parts;
  parts.model = sentence ? tokenizer_model::sentencepiece : tokenizer_model::byte_level;
  for (std::size_t id = 0; id < texts.size(); ++id) {
    const std::int32_t number = kinds ? (*kinds)[id] : 1;
    if (number < 1 || number > 6) {
      file.fail(keys + "token_type", "kind " + std::to_string(number) + " is unknown");
    }
    const auto kind = static_cast<token_kind>(number);
    const auto byte = sentence ? detail::named_byte(texts[id]) : std::nullopt;
    if (byte && (kind == token_kind::byte || !kinds)) {
      parts.tokens.push_back({std::string(1, *byte), token_kind::byte});
    } else if (kind == token_kind::byte) {
      file.fail(keys + "tokens",
                "token " + std::to_string(id) + " is a byte, but not written as <0x41>");
    } else if (kind != token_kind::normal) {
      parts.tokens.push_back({texts[id], kind});
    } else {
      parts.tokens.push_back({sentence ? detail::replace_all(texts[id], detail::space_mark, " ")
                                       : detail::from_stand_ins(texts[id]),
                              kind});
    }
  }
  const auto token_id = [&](const char* key) -> std::int32_t {
    const auto id = file.get_if<std::int64_t>(keys + key).value_or(-1);
    if (id == -1 || id == 0xffffffff) {
      return -1;
    }
    if (id < 0 || static_cast<std::size_t>(id) >= texts.size()) {
      file.fail(keys + key,
                std::to_string(id) + " is not a token of " + std::to_string(texts.size()));
    }
    return static_cast<std::int32_t>(id);
  };
  parts.bos = token_id("bos_token_id");
  parts.eos = token_id("eos_token_id");
  parts.unknown = token_id("unknown_token_id");
  parts.add_bos = file.get_if<bool>(keys + "add_bos_token").value_or(sentence);

  if (sentence) {
    parts.add_space_prefix = file.get_if<bool>(keys + "add_space_prefix").value_or(true);
    const auto scores = file.get<std::vector<float>>(keys + "scores");
    if (scores.size() != texts.size()) {
      file.fail(keys + "scores", std::to_string(scores.size()) + " scores for " +
                                     std::to_string(texts.size()) + " tokens");
    }
    if (std::any_of(scores.begin(), scores.end(), [](float s) { return std::isnan(s); })) {
      file.fail(keys + "scores", "one of them is not a number");
    }
    parts.merges = merges_from_scores(parts.tokens, scores);
    return tokenizer(std::move(parts));
  }
  const auto pre = file.get_if<std::string>(keys + "pre").value_or("gpt-2");
  if (pre == "gpt-2") {
    parts.pattern = word_pattern::gpt2;
  } else if (pre == "smollm") {
    parts.pattern = word_pattern::gpt2_digits;
  } else if (pre == "llama-bpe" || pre == "llama3") {
    parts.pattern = word_pattern::llama3;
    parts.ignore_merges = true;
  } else if (pre == "qwen2") {
    parts.pattern = word_pattern::qwen2;
  } else {
    file.fail(keys + "pre", "only 'gpt-2', 'smollm', 'llama-bpe' and 'qwen2' are supported");
  }
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < texts.size(); ++id) {
    ids.try_emplace(texts[id], static_cast<std::int32_t>(id));
  }
  const auto merges = file.get<std::vector<std::string>>(keys + "merges");
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string field = keys + "merges[" + std::to_string(i) + "]";
    const auto [left, right] = detail::split_merge(merges[i], "gguf", field);
    detail::add_merge(parts, ids, left, right, "gguf", field);
  }
  return tokenizer(std::move(parts));
}

}  // namespace ashlar::io
