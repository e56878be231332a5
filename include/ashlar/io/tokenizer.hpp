// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/detail/merge.hpp"
#include "ashlar/io/detail/pair_table.hpp"
#include "ashlar/io/detail/utf8.hpp"
#include "ashlar/io/detail/words.hpp"

namespace ashlar::io {

/// What a token is for. The numbers are GGUF's.
enum class token_kind : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,       ///< BOS, EOS and their like: no text of their own
  user_defined = 4,  ///< found in the text before anything else
  unused = 5,
  byte = 6  ///< SentencePiece: one byte of a character that has no token
};

struct token {
  std::string text;  ///< the bytes that it stands for; of a control token, its name
  token_kind kind = token_kind::normal;

  friend bool operator==(const token&, const token&) = default;
};

/// Two neighbouring tokens become a third; rules of lower rank go first.
struct merge_rule {
  std::int32_t left, right, result;
  std::uint32_t rank;

  friend bool operator==(const merge_rule&, const merge_rule&) = default;
};

enum class tokenizer_model : std::uint8_t {
  byte_level,    ///< text is cut into words, words into bytes, bytes are merged (GPT-2, Llama 3)
  sentencepiece  ///< characters of the whole text are merged, unknown ones are bytes (Llama 2)
};

/// Everything that defines a tokenizer; readers of the file formats fill it in.
struct tokenizer_parts {
  tokenizer_model model = tokenizer_model::byte_level;
  std::vector<token> tokens;                  ///< by id
  std::vector<merge_rule> merges;             ///< by rank
  word_pattern pattern = word_pattern::gpt2;  ///< byte_level: where words end
  bool ignore_merges = false;                 ///< byte_level: a word that is a token stays whole
  bool add_space_prefix = false;              ///< sentencepiece: text begins with a space
  bool add_bos = false;                       ///< prompts begin with `bos`
  std::int32_t bos = -1;                      ///< -1: none
  std::int32_t eos = -1;
  std::int32_t unknown = -1;

  friend bool operator==(const tokenizer_parts&, const tokenizer_parts&) = default;
};

/// Whether names of control tokens in a text mean the tokens, or are text like any other.
enum class control_names : std::uint8_t { as_text, as_tokens };

/// Turns text into token ids and back. A value that is cheap to copy and never changes.
///
/// Text is bytes: what is not UTF-8 survives encoding and decoding where all 256 bytes have tokens.
/// May be used from several threads at once.
class tokenizer {
 public:
  /// Throws: `argument_error` naming the part that refers to a token that does not exist.
  explicit tokenizer(tokenizer_parts parts) : state_(std::make_shared<state>(std::move(parts))) {}

  /// The tokens of `text`, without BOS.
  ///
  /// Names of control tokens are text by default, so that a prompt cannot forge them.
  /// Throws: `argument_error` above 1 GiB.
  /// Cost:   O(n log n) for the longest word of n bytes; SentencePiece has one word.
  [[nodiscard]] std::vector<std::int32_t> encode(
      std::string_view text, control_names names = control_names::as_text) const;

  /// `encode` with BOS in front where the model was trained so.
  [[nodiscard]] std::vector<std::int32_t> encode_prompt(
      std::string_view text, control_names names = control_names::as_text) const {
    std::vector<std::int32_t> ids = encode(text, names);
    if (parts().add_bos && bos() >= 0) {
      ids.insert(ids.begin(), bos());
    }
    return ids;
  }

  /// The text of tokens; control tokens have none.
  ///
  /// SentencePiece: the space that encoding put in front is dropped, at the start and after BOS.
  /// Throws: `argument_error` for an id that does not exist.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const;

  /// Number of ids.
  [[nodiscard]] std::int32_t size() const {
    return static_cast<std::int32_t>(parts().tokens.size());
  }
  [[nodiscard]] std::int32_t bos() const { return parts().bos; }
  [[nodiscard]] std::int32_t eos() const { return parts().eos; }

  /// Throws: `argument_error` for an id that does not exist.
  [[nodiscard]] const token& at(std::int32_t id) const {
    if (id < 0 || id >= size()) {
      throw argument_error("ashlar::io::tokenizer", "id " + std::to_string(id) + " of " +
                                                        std::to_string(size()) + " tokens");
    }
    return parts().tokens[static_cast<std::size_t>(id)];
  }
  /// Returns: the id of the token with that text, a control token by its name; -1: none.
  [[nodiscard]] std::int32_t find(std::string_view text) const {
    const auto at = state_->by_text.find(text);
    if (at != state_->by_text.end()) {
      return at->second;
    }
    const auto named = state_->by_name.find(text);
    return named != state_->by_name.end() ? named->second : -1;
  }

  [[nodiscard]] const tokenizer_parts& parts() const { return state_->parts; }
  friend bool operator==(const tokenizer& a, const tokenizer& b) { return a.parts() == b.parts(); }

 private:
  struct state {
    tokenizer_parts parts;
    std::array<std::int32_t, 256> byte_id{};
    std::unordered_map<std::string_view, std::int32_t> by_text;  // normal and user-defined tokens
    std::unordered_map<std::string_view, std::int32_t> by_name;  // the others
    std::array<std::vector<std::int32_t>, 256> whole;  // found before merging, by first byte
    detail::pair_table<detail::merged_pair> merges;

    explicit state(tokenizer_parts given);
  };
  using id_list = std::vector<std::int32_t>;

  [[nodiscard]] std::int32_t whole_token(std::string_view text, control_names names) const;
  void encode_words(std::string_view text, id_list& out) const;
  void encode_sentence(std::string_view text, id_list& out) const;
  void push_byte(char byte, id_list& out) const {
    const std::int32_t id = state_->byte_id[static_cast<unsigned char>(byte)];
    if (const std::int32_t known = id >= 0 ? id : parts().unknown; known >= 0) {
      out.push_back(known);
    }
  }

  std::shared_ptr<const state> state_;
};

/// Turns tokens into text one at a time and never hands out half a character.
class stream_decoder {
 public:
  /// `previous` are tokens whose text the reader has already, such as the prompt's.
  explicit stream_decoder(tokenizer model, std::span<const std::int32_t> previous = {})
      : model_(std::move(model)) {
    for (const std::int32_t id : previous) {
      at_start_ = starts(id);
    }
  }

  /// Returns: the text that the token completes; may be empty.
  /// Throws:  `argument_error` for an id that does not exist.
  std::string push(std::int32_t id) {
    const token& t = model_.at(id);
    if (t.kind != token_kind::control) {
      const bool sentence = model_.parts().model == tokenizer_model::sentencepiece;
      const bool drop = sentence && at_start_ && model_.parts().add_space_prefix &&
                        t.kind == token_kind::normal && t.text.starts_with(' ');
      pending_ += std::string_view(t.text).substr(drop ? 1 : 0);
    }
    at_start_ = starts(id);
    const std::size_t ready = pending_.size() - detail::unfinished_tail(pending_);
    std::string text = pending_.substr(0, ready);
    pending_.erase(0, ready);
    return text;
  }

  /// Returns: what was held back: the bytes of a character that never was completed.
  std::string finish() { return std::exchange(pending_, {}); }

 private:
  // After BOS a text begins; other control tokens leave things as they are.
  [[nodiscard]] bool starts(std::int32_t id) const {
    return model_.at(id).kind == token_kind::control && (at_start_ || id == model_.bos());
  }

  tokenizer model_;
  std::string pending_;
  bool at_start_ = true;
};

inline tokenizer::state::state(tokenizer_parts given) : parts(std::move(given)) {
  const auto refuse = [](const std::string& part) {
    throw argument_error("ashlar::io::tokenizer", part + " refers to a token that does not exist");
  };
  if (parts.tokens.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw argument_error("ashlar::io::tokenizer", "more tokens than ids");
  }
  const auto count = static_cast<std::int32_t>(parts.tokens.size());
  const auto exists = [count](std::int32_t id) { return id >= 0 && id < count; };
  byte_id.fill(-1);
  const bool bytes_are_tokens = parts.model == tokenizer_model::byte_level;
  by_text.reserve(parts.tokens.size());
  for (std::int32_t id = 0; id < count; ++id) {
    const token& t = parts.tokens[static_cast<std::size_t>(id)];
    const bool text = t.kind == token_kind::normal || t.kind == token_kind::user_defined;
    const bool one = t.text.size() == 1;
    if (one && t.kind == (bytes_are_tokens ? token_kind::normal : token_kind::byte)) {
      std::int32_t& place = byte_id[static_cast<unsigned char>(t.text[0])];
      place = place < 0 ? id : place;
    }
    if (text) {
      by_text.try_emplace(t.text, id);
    } else if (t.kind != token_kind::byte) {
      by_name.try_emplace(t.text, id);
    }
    if ((t.kind == token_kind::control || t.kind == token_kind::user_defined) && !t.text.empty()) {
      whole[static_cast<unsigned char>(t.text[0])].push_back(id);
    }
  }
  for (std::vector<std::int32_t>& same_start : whole) {
    std::sort(same_start.begin(), same_start.end(), [this](std::int32_t a, std::int32_t b) {
      const std::size_t size_a = parts.tokens[static_cast<std::size_t>(a)].text.size();
      const std::size_t size_b = parts.tokens[static_cast<std::size_t>(b)].text.size();
      return size_a != size_b ? size_a > size_b : a < b;
    });
  }
  merges.reserve(parts.merges.size());
  for (std::size_t i = 0; i < parts.merges.size(); ++i) {
    const merge_rule& m = parts.merges[i];
    if (!exists(m.left) || !exists(m.right) || !exists(m.result)) {
      refuse("merges[" + std::to_string(i) + "]");
    }
    const std::uint64_t key = detail::pair_key(m.left, m.right);
    if (merges.find(key) == nullptr) {
      merges[key] = {m.rank, m.result};
    }
  }
  const auto check = [&](const char* part, std::int32_t id) {
    if (id != -1 && !exists(id)) {
      refuse(part);
    }
  };
  check("bos", parts.bos);
  check("eos", parts.eos);
  check("unknown", parts.unknown);
}

inline std::int32_t tokenizer::whole_token(std::string_view text, control_names names) const {
  for (const std::int32_t id : state_->whole[static_cast<unsigned char>(text[0])]) {
    const token& t = parts().tokens[static_cast<std::size_t>(id)];
    if ((t.kind == token_kind::user_defined || names == control_names::as_tokens) &&
        text.starts_with(t.text)) {
      return id;
    }
  }
  return -1;
}

inline std::vector<std::int32_t> tokenizer::encode(std::string_view text,
                                                   control_names names) const {
  if (text.size() > (std::size_t{1} << 30)) {
    throw argument_error("ashlar::io::tokenizer::encode", "text above 1 GiB; encode it in pieces");
  }
  id_list out;
  const auto plain = [&](std::size_t from, std::size_t to) {
    const std::string_view piece = text.substr(from, to - from);
    if (piece.empty()) {
      return;
    }
    if (parts().model == tokenizer_model::byte_level) {
      encode_words(piece, out);
    } else if (parts().add_space_prefix) {  // also after a whole token, as the references do
      encode_sentence(" " + std::string(piece), out);
    } else {
      encode_sentence(piece, out);
    }
  };
  std::size_t from = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::int32_t id = whole_token(text.substr(at), names);
    if (id < 0) {
      ++at;
      continue;
    }
    plain(from, at);
    out.push_back(id);
    at += parts().tokens[static_cast<std::size_t>(id)].text.size();
    from = at;
  }
  plain(from, text.size());
  return out;
}

inline void tokenizer::encode_words(std::string_view text, id_list& out) const {
  detail::merger merge;
  id_list word_ids;
  struct place {
    std::size_t begin, end;  // in `out`
  };
  std::vector<place> places;
  std::unordered_map<std::string_view, std::int32_t> seen;  // the word's index in `places`
  detail::each_word(text, parts().pattern, [&](std::string_view word) {
    if (const auto known = seen.find(word); known != seen.end()) {
      const auto [begin, end] = places[static_cast<std::size_t>(known->second)];
      for (std::size_t i = begin; i < end; ++i) {
        out.push_back(out[i]);
      }
      return;
    }
    word_ids.clear();
    const auto whole = parts().ignore_merges ? state_->by_text.find(word) : state_->by_text.end();
    if (whole != state_->by_text.end()) {
      word_ids.push_back(whole->second);
    } else {
      for (const char byte : word) {
        push_byte(byte, word_ids);
      }
      merge(word_ids, state_->merges);
    }
    seen.try_emplace(word, static_cast<std::int32_t>(places.size()));
    places.push_back({out.size(), out.size() + word_ids.size()});
    out.insert(out.end(), word_ids.begin(), word_ids.end());
  });
}

inline void tokenizer::encode_sentence(std::string_view text, id_list& out) const {
  id_list symbols;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view character = text.substr(at, detail::code_at(text, at).length);
    const auto known = state_->by_text.find(character);
    if (known != state_->by_text.end()) {
      symbols.push_back(known->second);
    } else {
      for (const char byte : character) {
        push_byte(byte, symbols);
      }
    }
    at += character.size();
  }
  detail::merger{}(symbols, state_->merges);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

inline std::string tokenizer::decode(std::span<const std::int32_t> ids) const {
  stream_decoder stream(*this);
  std::string text;
  for (const std::int32_t id : ids) {
    text += stream.push(id);
  }
  return text + stream.finish();
}

}  // namespace ashlar::io
