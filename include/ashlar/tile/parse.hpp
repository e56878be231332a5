// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/detail/lexer.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"
#include "ashlar/tile/verify.hpp"

namespace ashlar::tile {

namespace detail {

class parser {
 public:
  explicit parser(std::string_view text) : lexer_(text), now_(lexer_.next()) {}

  program run() {
    word("kernel");
    program_.set_name(name());
    parameters();
    mark('{');
    body(0);
    mark('}');
    if (now_.kind != token_kind::end) {
      fail("the end of the text");
    }
    if (const verdict v = verify(program_); !v) {
      if (v.instruction < 0) {
        fail(std::string(v.rule));
      }
      const token& t = places_[static_cast<std::size_t>(v.instruction)];
      throw parse_error(t.line, t.column, t.text, std::string(v.rule));
    }
    return program_;
  }

 private:
  static constexpr int max_depth = 16;  // as `verify` has it

  /// What stands after an operation's name; numbers wait until the type is known.
  struct attributes {
    std::vector<value_id> operands{};
    std::optional<token> index{};
    std::optional<token> value{};
    std::uint64_t nan = 0;  ///< the bits of `nan(0x...)`
    std::vector<std::int64_t> axes{};
    std::optional<int> parameter{};
  };

  [[noreturn]] void fail(std::string expected) const { fail(now_, std::move(expected)); }
  [[noreturn]] static void fail(const token& t, std::string expected) {
    throw parse_error(t.line, t.column, t.text, std::move(expected));
  }

  token take() { return std::exchange(now_, lexer_.next()); }
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
      fail(std::string("`") + c + "`");
    }
  }
  void word(std::string_view text) {
    if (now_.kind != token_kind::word || now_.text != text) {
      fail(std::string("`") + std::string(text) + "`");
    }
    take();
  }

  std::string name() {
    if (now_.kind != token_kind::string) {
      fail("the kernel's name in \"\"");
    }
    const token t = take();
    std::string_view text = t.text.substr(1, t.text.size() - 2);
    std::string result;
    while (!text.empty()) {
      if (text[0] != '\\') {
        result += text[0];
        text.remove_prefix(1);
        continue;
      }
      unsigned code = 0;
      if (text.size() < 4 || text[1] != 'x' ||
          std::from_chars(text.data() + 2, text.data() + 4, code, 16).ptr != text.data() + 4) {
        fail(t, "\\x and two hexadecimal digits");
      }
      result += static_cast<char>(code);
      text.remove_prefix(4);
    }
    if (result.size() > program::max_name || result.find('\0') != std::string::npos) {
      fail(t, "a name of at most 31 characters, none of them 0");
    }
    return result;
  }

  dtype element() {
    for (int d = 0; now_.kind == token_kind::word && d < dtype_count; ++d) {
      if (now_.text == short_name_of(static_cast<dtype>(d))) {
        take();
        return static_cast<dtype>(d);
      }
    }
    fail("an element type");
  }

  tile_type type() {
    tile_type t = scalar_type(element());
    if (accept('[')) {
      do {
        if (t.rank == max_rank) {
          fail("at most 4 extents");
        }
        t.extents[static_cast<std::size_t>(t.rank++)] =
            static_cast<std::int32_t>(integer(take(), 1, max_elements));
      } while (accept(','));
      mark(']');
    }
    return t;
  }

  void parameters() {
    mark('(');
    while (!is(')')) {
      if (program_.parameter_count > 0) {
        mark(',');
      }
      if (program_.parameter_count == program::max_parameters) {
        fail("at most 16 parameters");
      }
      if (now_.kind != token_kind::word || parameter_names_.contains(now_.text)) {
        fail("a parameter's name, not used before");
      }
      const token t = take();
      mark(':');
      parameter p{.element = element()};
      if (accept('[')) {
        p.rank = 0;
        while (!is(']')) {
          if (p.rank > 0) {
            mark(',');
          }
          mark('?');
          if (++p.rank > max_rank) {
            fail("at most 4 axes");
          }
        }
        mark(']');
      }
      if (now_.kind == token_kind::word && now_.text == "written") {
        take();
        p.written = true;
      }
      parameter_names_.emplace(t.text, program_.parameter_count);
      program_.parameters[static_cast<std::size_t>(program_.parameter_count++)] = p;
    }
    take();
  }

  static std::int64_t integer(const token& t, std::int64_t least, std::int64_t most) {
    std::int64_t n = 0;
    const char* end = t.text.data() + t.text.size();
    const auto [at, error] = std::from_chars(t.text.data(), end, n);
    if (t.kind != token_kind::number || error != std::errc() || at != end || n < least ||
        n > most) {
      fail(t,
           std::string("an integer from ") + std::to_string(least) + " to " + std::to_string(most));
    }
    return n;
  }
  static std::int64_t integer(const token& t) {
    return integer(t, std::numeric_limits<std::int64_t>::min(),
                   std::numeric_limits<std::int64_t>::max());
  }

  static std::int64_t scalar_bits(const token& t, dtype element, std::uint64_t nan) {
    if (element == dtype::boolean && (t.text == "true" || t.text == "false")) {
      return t.text == "true" ? 1 : 0;
    }
    if (is_integral(element)) {
      return integer(t);
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (t.text == "inf" || t.text == "-inf") {
      return constant_bits(t.text[0] == '-' ? -infinity : infinity);
    }
    if (t.text == "nan") {
      return static_cast<std::int64_t>(nan == 0 ? std::uint64_t{0x7ff8000000000000} : nan);
    }
    if (t.kind != token_kind::number) {
      fail(t, "a number");
    }
    double x = 0;
    const char* end = t.text.data() + t.text.size();
    const auto [at, error] = std::from_chars(t.text.data(), end, x);
    if (error != std::errc() || at != end || x - x != 0) {
      fail(t, "a number");
    }
    return constant_bits(x);
  }

  void body(int depth) {
    while (!is('}')) {
      line(depth);
    }
  }

  opcode operation() {
    for (int o = 0; now_.kind == token_kind::word && o < opcode_count; ++o) {
      // Inputs stand before the brace of their region.
      if (now_.text == info(static_cast<opcode>(o)).name &&
          static_cast<opcode>(o) != opcode::region_input) {
        take();
        return static_cast<opcode>(o);
      }
    }
    fail("an operation");
  }

  static bool gives_value(opcode op) {
    return info(op).regions == 0 && !info(op).effect && op != opcode::yield;
  }

  void define(const token& t) {
    if (!names_.emplace(t.text, static_cast<value_id>(program_.size)).second) {
      fail(t, "a name that is not used before");
    }
  }

  void push(const token& at, const instruction& i, const std::vector<value_id>& operands) {
    try {
      program_.push(i, operands);
    } catch (const program_error& e) {
      fail(at, std::string(e.rule));
    }
    places_.push_back(at);
  }

  void line(int depth) {
    std::optional<token> name;
    if (now_.kind == token_kind::value) {
      name = take();
      mark('=');
    }
    const token at = now_;
    instruction i{.op = operation()};
    const bool owner = info(i.op).regions > 0;
    if (gives_value(i.op) != name.has_value() && !(owner && name)) {
      if (!owner) {
        fail(at, name ? "an operation that gives a value" : "`%name =` before this operation");
      }
    }
    attributes a;
    items(at, i.op, a);
    if (gives_value(i.op)) {
      mark(':');
      i.type = type();
    }
    finish(at, i, a);
    if (name) {
      define(*name);
    }
    push(at, i, a.operands);
    if (owner) {
      regions(i.op, depth);
    }
  }

  void regions(opcode op, int depth) {
    if (depth == max_depth) {
      fail("regions nested at most 16 deep");
    }
    for (int r = 0; r < info(op).regions; ++r) {
      if (accept('(')) {
        std::int32_t k = 0;
        do {
          if (now_.kind != token_kind::value) {
            fail("a value's name");
          }
          const token t = take();
          mark(':');
          const instruction input{.op = opcode::region_input, .index = k++, .type = type()};
          define(t);
          push(t, input, {});
        } while (accept(','));
        mark(')');
      }
      mark('{');
      body(depth + 1);
      mark('}');
    }
  }

  /// Comma-separated, beginning on the operation's line.
  void items(const token& at, opcode op, attributes& a) {
    if (now_.line != at.line || is('{') || is('(') || is(':') || is('}')) {
      return;
    }
    do {
      if (now_.kind == token_kind::value) {
        const auto found = names_.find(now_.text);
        if (found == names_.end()) {
          fail("a value that is named before");
        }
        take();
        a.operands.push_back(found->second);
      } else if (op == opcode::constant) {
        number(a);
      } else if (now_.kind == token_kind::word) {
        named(op, a);
      } else {
        fail("a value, a parameter or an attribute");
      }
    } while (accept(','));
  }

  void number(attributes& a) {
    if (a.value) {
      fail("one number");
    }
    a.value = take();
    if (a.value->text == "nan" && accept('(')) {
      const token t = take();
      const bool hex = t.text.substr(0, 2) == "0x";
      const char* end = t.text.data() + t.text.size();
      const auto [at, error] = std::from_chars(t.text.data() + (hex ? 2 : 0), end, a.nan, 16);
      const auto x = std::bit_cast<double>(a.nan);
      if (!hex || error != std::errc() || at != end || x == x) {
        fail(t, "0x and the bits of a NaN");
      }
      mark(')');
    }
  }

  /// A parameter, or `key=...`.
  void named(opcode op, attributes& a) {
    const attribute_names names = attributes_of(op);
    const token key = take();
    if (!is('=')) {
      const auto found = parameter_names_.find(key.text);
      if (names.index != "p" || a.parameter || found == parameter_names_.end()) {
        fail(key, "a value, an attribute or, in its place, a parameter");
      }
      a.parameter = found->second;
      return;
    }
    take();
    const bool takes_index =
        names.index != "p" && key.text == (names.index.empty() ? "index" : names.index);
    const bool takes_value =
        names.value != "bits" && key.text == (names.value.empty() ? "value" : names.value);
    if (takes_index && !a.index) {
      a.index = take();
    } else if (takes_value && !a.value && names.value == "axes") {
      a.value = now_;
      mark('[');
      do {
        a.axes.push_back(integer(take(), 0, max_rank - 1));
      } while (a.axes.size() < static_cast<std::size_t>(max_rank) && accept(','));
      mark(']');
    } else if (takes_value && !a.value) {
      number(a);
    } else {
      fail(key, "an attribute of this operation, once");
    }
  }

  /// The attributes, now that the type is known.
  static void finish(const token& at, instruction& i, const attributes& a) {
    const attribute_names names = attributes_of(i.op);
    if (names.index == "p") {
      if (!a.parameter) {
        fail(at, "a parameter after this operation");
      }
      i.index = *a.parameter;
    } else if (a.index && i.op == opcode::cast) {
      constexpr std::array<std::string_view, 3> roundings{"nearest_even", "toward_zero",
                                                          "saturating"};
      const auto found = std::find(roundings.begin(), roundings.end(), a.index->text);
      if (found == roundings.end()) {
        fail(*a.index, "nearest_even, toward_zero or saturating");
      }
      i.index = static_cast<std::int32_t>(found - roundings.begin());
    } else if (a.index) {
      i.index =
          static_cast<std::int32_t>(integer(*a.index, std::numeric_limits<std::int32_t>::min(),
                                            std::numeric_limits<std::int32_t>::max()));
    }
    if (i.op == opcode::constant && !a.value) {
      fail(at, "a number after this operation");
    }
    if (!a.value) {
      return;
    }
    if (names.value == "axes") {
      if (a.axes.size() != static_cast<std::size_t>(i.type.rank)) {
        fail(*a.value, "as many axes as the result has");
      }
      for (std::size_t k = 0; k < a.axes.size(); ++k) {
        i.value |= a.axes[k] << (4 * k);
      }
    } else if (names.value == "bits" || names.value == "else") {
      i.value = scalar_bits(*a.value, i.type.element, a.nan);
    } else {
      i.value = integer(*a.value);
    }
  }

  lexer lexer_;
  token now_;
  program program_{};
  std::map<std::string_view, int> parameter_names_{};
  std::map<std::string_view, value_id> names_{};
  std::vector<token> places_{};
};

}  // namespace detail

/// The program of a text in the form that `print` gives it.
///
/// Values and parameters may have any names; `//` begins a comment.
/// Throws: `parse_error`, also where the program breaks a rule of `verify`.
inline program parse(std::string_view text) { return detail::parser(text).run(); }

}  // namespace ashlar::tile
