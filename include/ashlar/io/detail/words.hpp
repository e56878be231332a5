// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ashlar/io/detail/unicode_classes.hpp"
#include "ashlar/io/detail/utf8.hpp"

namespace ashlar::io {

/// How a byte-level tokenizer cuts text into words, across which it never merges.
enum class word_pattern : std::uint8_t {
  none,         ///< no cuts
  gpt2,         ///< letters, numbers or signs with the space before them; contractions; spaces
  gpt2_digits,  ///< every digit alone, between them as `gpt2` (SmolLM)
  llama3,       ///< any sign joins the letters after it; at most three digits; line ends together
  qwen2         ///< as `llama3`, every digit alone
};

namespace detail {

// Hand-written matchers of these expressions, first alternative that matches:
//   gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
//           ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
class word_cutter {
 public:
  word_cutter(std::string_view text, word_pattern pattern) : text_(text), pattern_(pattern) {}

  /// The end of the word that begins at `at`. Requires: `at < text.size()`.
  [[nodiscard]] std::size_t next(std::size_t at) const {
    if (const std::size_t end = contraction(at)) {
      return end;
    }
    const code_point first = code_at(text_, at);
    const std::size_t after_space = text_[at] == ' ' ? at + 1 : at;
    if (pattern_ == word_pattern::gpt2) {
      for (const kind k : {kind::letter, kind::number, kind::sign}) {
        if (const std::size_t end = run(after_space, k); end != after_space) {
          return end;
        }
      }
      return spaces(at);
    }
    const bool joins = kind_of(first.value) != kind::number && !line_end(at);
    for (const std::size_t from : {at, joins ? at + first.length : at}) {
      if (const std::size_t end = run(from, kind::letter); end != from) {
        return end;
      }
    }
    const std::size_t digits = pattern_ == word_pattern::llama3 ? 3 : 1;
    if (const std::size_t end = run(at, kind::number, digits); end != at) {
      return end;
    }
    if (std::size_t end = run(after_space, kind::sign); end != after_space) {
      while (line_end(end)) {
        ++end;
      }
      return end;
    }
    // a run of spaces up to the last line end in it
    const std::size_t run_end = run(at, kind::space);
    for (std::size_t end = run_end; end > at; --end) {
      if (line_end(end - 1)) {
        return end;
      }
    }
    return spaces(at);
  }

 private:
  enum class kind : std::uint8_t { letter, number, space, sign };

  static kind kind_of(std::uint32_t code) {
    return is_letter(code)   ? kind::letter
           : is_number(code) ? kind::number
           : is_space(code)  ? kind::space
                             : kind::sign;
  }
  [[nodiscard]] bool line_end(std::size_t at) const {
    return at < text_.size() && (text_[at] == '\r' || text_[at] == '\n');
  }
  [[nodiscard]] std::size_t run(std::size_t at, kind k, std::size_t most = SIZE_MAX) const {
    while (at < text_.size() && most-- > 0) {
      const code_point code = code_at(text_, at);
      if (kind_of(code.value) != k) {
        break;
      }
      at += code.length;
    }
    return at;
  }
  [[nodiscard]] std::size_t contraction(std::size_t at) const {
    if (text_[at] != '\'') {
      return 0;
    }
    const bool any_case = pattern_ != word_pattern::gpt2;
    for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      bool same = text_.size() - at > ending.size();
      for (std::size_t i = 0; same && i < ending.size(); ++i) {
        const char c = text_[at + 1 + i];
        same = c == ending[i] || (any_case && c == ending[i] - 'a' + 'A');
      }
      if (same) {
        return at + 1 + ending.size();
      }
    }
    return 0;
  }
  /// A run of spaces leaves its last one to the word that follows.
  [[nodiscard]] std::size_t spaces(std::size_t at) const {
    std::size_t last = at;
    std::size_t end = at;
    while (end < text_.size()) {
      const code_point code = code_at(text_, end);
      if (kind_of(code.value) != kind::space) {
        break;
      }
      last = end;
      end += code.length;
    }
    return end == text_.size() || last == at ? end : last;
  }

  std::string_view text_;
  word_pattern pattern_;
};

/// Calls `emit(word)` for every word; the words joined are the text.
template <class Emit>
void each_word(std::string_view text, word_pattern pattern, Emit&& emit) {
  if (pattern == word_pattern::none) {
    if (!text.empty()) {
      emit(text);
    }
    return;
  }
  if (pattern == word_pattern::gpt2_digits) {
    std::size_t from = 0;
    for (std::size_t at = 0; at < text.size();) {
      const code_point code = code_at(text, at);
      if (is_number(code.value)) {
        each_word(text.substr(from, at - from), word_pattern::gpt2, emit);
        emit(text.substr(at, code.length));
        from = at + code.length;
      }
      at += code.length;
    }
    each_word(text.substr(from), word_pattern::gpt2, emit);
    return;
  }
  const word_cutter cutter(text, pattern);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = cutter.next(at);
    emit(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace detail
}  // namespace ashlar::io
