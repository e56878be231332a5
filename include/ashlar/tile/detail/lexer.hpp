// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/error.hpp"

namespace ashlar::tile {

/// Text that is no program.
struct parse_error final : error {
  int line;              ///< from 1
  int column;            ///< from 1, in bytes
  std::string token;     ///< what stands there; empty at the end of the text
  std::string expected;  ///< what could, or the rule that is broken

  parse_error(int at_line, int at_column, std::string_view found, std::string wanted,
              std::source_location where = std::source_location::current())
      : error(where), line(at_line), column(at_column), token(found), expected(std::move(wanted)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return std::string("ashlar::tile::parse: ") + std::to_string(line) + ":" +
           std::to_string(column) + ": " + (token.empty() ? "the text ends" : "`" + token + "`") +
           "; expected " + expected;
  }
};

namespace detail {

enum class token_kind : std::uint8_t { end, word, value, number, string, mark };

struct token {
  token_kind kind = token_kind::end;
  std::string_view text{};
  int line = 1;
  int column = 1;
};

class lexer {
 public:
  explicit lexer(std::string_view text) : rest_(text) {}

  token next() {
    skip_blanks();
    token t{token_kind::end, {}, line_, column_};
    if (rest_.empty()) {
      return t;
    }
    const char c = rest_[0];
    std::size_t n = 1;
    if (c == '%') {
      t.kind = token_kind::value;
      n += count(1, [](char x, char) { return is_letter(x) || is_digit(x); });
    } else if (is_letter(c)) {
      t.kind = token_kind::word;
      n += count(1, [](char x, char) { return is_letter(x) || is_digit(x); });
    } else if (is_digit(c) || c == '-') {
      t.kind = token_kind::number;
      n += count(1, [](char x, char before) {
        return is_letter(x) || is_digit(x) || x == '.' ||
               ((x == '-' || x == '+') && (before == 'e' || before == 'E'));
      });
    } else if (c == '"') {
      t.kind = token_kind::string;
      n += count(1, [](char x, char) { return x != '"' && x != '\n'; });
      if (n == rest_.size() || rest_[n] != '"') {
        throw parse_error(line_, column_, rest_.substr(0, n), "a string that ends with \"");
      }
      ++n;
    } else {
      t.kind = token_kind::mark;
    }
    t.text = rest_.substr(0, n);
    rest_.remove_prefix(n);
    column_ += static_cast<int>(n);
    return t;
  }

 private:
  static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  template <class F>
  [[nodiscard]] std::size_t count(std::size_t from, F belongs) const {
    std::size_t n = from;
    while (n < rest_.size() && belongs(rest_[n], rest_[n - 1])) {
      ++n;
    }
    return n - from;
  }

  void skip_blanks() {
    while (!rest_.empty()) {
      const char c = rest_[0];
      if (c == '\n') {
        ++line_;
        column_ = 0;
      } else if (rest_.substr(0, 2) == "//") {
        const std::size_t n = std::min(rest_.find('\n'), rest_.size());
        rest_.remove_prefix(n);
        column_ += static_cast<int>(n);
        continue;
      } else if (c != ' ' && c != '\t' && c != '\r') {
        return;
      }
      ++column_;
      rest_.remove_prefix(1);
    }
  }

  std::string_view rest_;
  int line_ = 1;
  int column_ = 1;
};

}  // namespace detail

}  // namespace ashlar::tile
