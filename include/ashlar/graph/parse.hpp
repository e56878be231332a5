// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/print.hpp"
#include "ashlar/graph/vocabulary.hpp"

/// Text back into graphs.
namespace ashlar::graph {

/// Text that is no graph.
struct parse_error final : error {
  int line;            ///< from 1
  int column;          ///< from 1, in bytes
  std::string token;   ///< what stands there; empty at the end of a line
  std::string reason;  ///< what should stand there, or the rule that is broken

  parse_error(int at_line, int at_column, std::string_view found, std::string why,
              std::source_location where = std::source_location::current())
      : error(where), line(at_line), column(at_column), token(found), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph::parse: " + std::to_string(line) + ":" + std::to_string(column) + ": " +
           (token.empty() ? "the line ends" : "`" + token + "`") + ": " + reason;
  }
};

namespace detail {

enum class token_kind : std::uint8_t { end, line_end, word, value, number, string, mark };

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
    if (c == '\n') {
      t.kind = token_kind::line_end;
      rest_.remove_prefix(1);
      ++line_;
      column_ = 1;
      return t;
    }
    if (c == '%') {
      t.kind = token_kind::value;
      while (n < rest_.size() && (stands_in_name(rest_[n]) || rest_[n] == '?')) {
        ++n;
      }
    } else if (in_word(c) && !digit(c)) {
      t.kind = token_kind::word;
      while (n < rest_.size() && (in_word(rest_[n]) || scope_at(n))) {
        n += in_word(rest_[n]) ? 1 : 2;
      }
    } else if (digit(c) || c == '-') {
      t.kind = token_kind::number;
      while (n < rest_.size() && (stands_in_name(rest_[n]) ||
                                  ((rest_[n] == '-' || rest_[n] == '+') && rest_[n - 1] == 'e'))) {
        ++n;
      }
    } else if (c == '"') {
      t.kind = token_kind::string;
      while (n < rest_.size() && rest_[n] != '"' && rest_[n] != '\n') {
        n += rest_[n] == '\\' ? 2 : 1;
      }
      if (n >= rest_.size() || rest_[n] != '"') {
        n = std::min(rest_.find('\n'), rest_.size());
        throw parse_error(line_, column_, rest_.substr(0, n), "a string ends with \" on its line");
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
  static bool digit(char c) { return c >= '0' && c <= '9'; }
  static bool in_word(char c) { return stands_in_name(c) && c != '.'; }
  [[nodiscard]] bool scope_at(std::size_t n) const {
    return rest_.substr(n, 2) == "::" && n + 2 < rest_.size() && in_word(rest_[n + 2]) &&
           !digit(rest_[n + 2]);
  }
  void skip_blanks() {
    std::size_t n = 0;
    while (n < rest_.size() && (rest_[n] == ' ' || rest_[n] == '\t' || rest_[n] == '\r')) {
      ++n;
    }
    if (rest_.substr(n, 2) == "//") {
      n = std::min(rest_.find('\n', n), rest_.size());
    }
    rest_.remove_prefix(n);
    column_ += static_cast<int>(n);
  }

  std::string_view rest_;
  int line_ = 1;
  int column_ = 1;
};

class parser {
 public:
  parser(std::string_view text, const vocabulary& words, const named_tensors& tensors)
      : words_(words), tensors_(tensors), lexer_(text), now_(lexer_.next()) {}

  graph run() {
    for (;;) {
      if (now_.kind == token_kind::line_end) {
        take();
      } else if (is_word("return")) {
        take();
        outputs();
        return std::move(graph_);
      } else {
        line();
      }
    }
  }

 private:
  [[noreturn]] void fail(std::string reason) const { fail(now_, std::move(reason)); }
  [[noreturn]] static void fail(const token& t, std::string reason) {
    throw parse_error(t.line, t.column, t.text, std::move(reason));
  }
  token take() { return std::exchange(now_, lexer_.next()); }
  [[nodiscard]] bool is_word(std::string_view text) const {
    return now_.kind == token_kind::word && now_.text == text;
  }
  [[nodiscard]] bool is(char c) const { return now_.kind == token_kind::mark && now_.text[0] == c; }
  bool accept(char c) {
    const bool found = is(c);
    if (found) {
      take();
    }
    return found;
  }
  void mark(char c) {
    if (!accept(c)) {
      fail(std::string("`") + c + "` should stand here");
    }
  }
  [[nodiscard]] bool at_end() const {
    return now_.kind == token_kind::line_end || now_.kind == token_kind::end;
  }

  std::string string() {
    const token t = take();
    std::string_view text = t.text.substr(1, t.text.size() - 2);
    std::string result;
    while (!text.empty()) {
      std::size_t n = 1;
      if (text[0] != '\\') {
        result += text[0];
      } else if (text.size() > 1 && (text[1] == '"' || text[1] == '\\')) {
        result += text[1];
        n = 2;
      } else {
        unsigned code = 0;
        if (text.size() < 4 || text[1] != 'x' ||
            std::from_chars(text.data() + 2, text.data() + 4, code, 16).ptr != text.data() + 4) {
          fail(t, "after \\ stands \", \\, or x and two hexadecimal digits");
        }
        result += static_cast<char>(code);
        n = 4;
      }
      text.remove_prefix(n);
    }
    return result;
  }

  value_id value() {
    if (now_.kind != token_kind::value) {
      fail("a value's name should stand here: % and letters, digits, `_`, `.`");
    }
    const auto found = names_.find(now_.text);
    if (found == names_.end()) {
      fail("no line before this one makes a value of this name");
    }
    take();
    return found->second;
  }

  std::int64_t integer() {
    std::int64_t n = 0;
    const char* const end = now_.text.data() + now_.text.size();
    const auto [at, error] = std::from_chars(now_.text.data(), end, n);
    if (now_.kind != token_kind::number || error != std::errc() || at != end) {
      fail("a whole number of 64 bits should stand here");
    }
    take();
    return n;
  }
  shape integers() {
    shape all;
    mark('[');
    while (!is(']')) {
      if (all.rank() > 0) {
        mark(',');
      }
      if (all.rank() == max_rank) {
        fail("a tensor has at most 8 dimensions");
      }
      all.push_back(integer());
    }
    take();
    return all;
  }

  attribute literal() {
    if (is('[')) {
      return attribute(integers());
    }
    if (is_word("true") || is_word("false")) {
      return attribute(take().text == "true");
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (is_word("nan") || is_word("inf")) {
      return attribute(take().text == "nan" ? std::numeric_limits<double>::quiet_NaN() : infinity);
    }
    if (is_word("own")) {
      fail("a value of the operator's own type cannot be read from text");
    }
    if (now_.kind != token_kind::number) {
      fail("a value, a number, true, false or [extents] should stand here");
    }
    if (now_.text == "-inf" || now_.text == "-nan") {
      return attribute(take().text == "-inf" ? -infinity
                                             : -std::numeric_limits<double>::quiet_NaN());
    }
    if (now_.text.find_first_of(".eE") == std::string_view::npos) {
      return attribute(integer());
    }
    double x = 0;
    const char* const end = now_.text.data() + now_.text.size();
    const auto [at, error] = std::from_chars(now_.text.data(), end, x);
    if (error != std::errc() || at != end) {
      fail("this is no number, or none that a double holds");
    }
    take();
    return attribute(x);
  }

  said_node::result spec() {
    const token at = now_;
    int type = 0;
    while (type < dtype_count && !is_word(tile::short_name_of(static_cast<dtype>(type)))) {
      ++type;
    }
    if (type == dtype_count) {
      fail(
          "an element type should stand here: bool, u8, i8, i32, i64, e4m3, e5m2, f16, bf16, f32 "
          "or f64");
    }
    take();
    said_node::result r;
    const shape extents = integers();
    shape strides;
    const bool strided = is_word("strides");
    if (strided) {
      take();
      strides = integers();
    }
    std::int64_t offset = 0;
    r.placed = strided;
    if (is_word("offset")) {
      take();
      offset = integer();
      r.placed = true;
    }
    if (std::string complaint =
            lay_out(r, static_cast<dtype>(type), extents, strided ? &strides : nullptr, offset);
        !complaint.empty()) {
      fail(at, std::move(complaint));
    }
    return r;
  }

  /// `add`, `scale.in_place`, `placeholder "x"`
  void target(said_node& said, std::string_view first_result) {
    for (const node_kind k : {node_kind::placeholder, node_kind::parameter, node_kind::constant}) {
      if (is_word(name_of(k))) {
        take();
        said.kind = k;
        said.called = first_result.empty() ? first_result : first_result.substr(1);
        said.name = now_.kind == token_kind::string ? string() : said.called;
        return;
      }
    }
    if (now_.kind != token_kind::word && now_.kind != token_kind::string) {
      fail("an operation, placeholder, parameter, constant or return should stand here");
    }
    said.target = take().text;
    if (accept('.')) {
      if (!is_word(name_of(form::out)) && !is_word(name_of(form::in_place))) {
        fail("a form should stand here: out or in_place");
      }
      said.target.append(1, '.').append(take().text);
    }
  }

  void line() {
    said_node said;
    std::vector<token> results;
    while (now_.kind == token_kind::value) {
      if (now_.text.size() == 1) {
        fail("a name should follow %");
      }
      results.push_back(take());
      if (!accept(',')) {
        mark('=');
        break;
      }
    }
    const token at = now_;
    target(said, results.empty() ? std::string_view() : results[0].text);
    while (!at_end() && !is(':')) {
      if (!said.in.empty() || !said.attributes.empty()) {
        mark(',');
      }
      if (now_.kind == token_kind::value) {
        if (!said.attributes.empty()) {
          fail("tensors stand before attributes");
        }
        said.in.push_back(value());
      } else {
        said.attributes.push_back(literal());
      }
    }
    if (!results.empty()) {
      mark(':');
      do {
        said.results.push_back(spec());
      } while (accept(','));
    }
    if (said.results.size() != results.size()) {
      fail("there is a type for each result: " + std::to_string(results.size()));
    }
    if (!at_end()) {
      fail("the line should end here");
    }
    if (std::string complaint = append(graph_, said, words_, tensors_); !complaint.empty()) {
      fail(at, std::move(complaint));
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!names_.emplace(results[i].text, graph_.nodes.back().out[i]).second) {
        fail(results[i], "a line before this one makes a value of this name");
      }
    }
  }

  void outputs() {
    while (!at_end()) {
      if (!graph_.outputs.empty()) {
        mark(',');
      }
      graph_.outputs.push_back(value());
    }
    while (now_.kind == token_kind::line_end) {
      take();
    }
    if (now_.kind != token_kind::end) {
      fail("nothing stands after `return`");
    }
  }

  const vocabulary& words_;
  const named_tensors& tensors_;
  lexer lexer_;
  token now_;
  graph graph_;
  std::map<std::string_view, value_id> names_;
};

}  // namespace detail

/// The graph of a text in the form that `to_text` gives it: `parse(to_text(g), vocabulary::of(g),
/// tensors_of(g))` prints the same.
///
/// `//` begins a comment; values may have any names. A result without strides and offset has those
/// of its operation. Parameters and constants are the `tensors` of their names.
/// Returns: a graph that `verify` finds right. Lines of the user's source are not kept in text.
/// Throws:  `parse_error`.
[[nodiscard]] inline graph parse(std::string_view text, const vocabulary& words,
                                 const named_tensors& tensors = {}) {
  return detail::parser(text, words, tensors).run();
}

}  // namespace ashlar::graph
