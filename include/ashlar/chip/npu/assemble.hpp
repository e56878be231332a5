// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/validate.hpp"

namespace ashlar::chip::npu_isa {

namespace detail {

/// Reads one line after the other; every error names its line and its word.
class assembler {
 public:
  explicit assembler(std::string_view text) : rest_(text) {}

  program run() {
    while (!rest_.empty()) {
      ++line_;
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      read_line(rest_.substr(0, end));
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
    }
    for (const auto& [index, use] : branches_) {
      const auto found = labels_.find(use.label);
      if (found == labels_.end()) {
        throw assembly_error(use.line, use.label, "no line defines this label");
      }
      program_.code[index].target = found->second;
    }
    return std::move(program_);
  }

 private:
  struct label_use {
    std::size_t line;
    std::string label;
  };

  [[noreturn]] void fail(std::string_view token, std::string reason) const {
    throw assembly_error(line_, std::string(token), std::move(reason));
  }

  void read_line(std::string_view line) {
    if (const auto first = line.find_first_not_of(" \t\r"); first == std::string_view::npos) {
      return;
    } else {
      line.remove_prefix(first);
    }
    if (line.starts_with(".source")) {
      read_source(line.substr(7));
      return;
    }
    line = line.substr(0, line.find(';'));  // what follows is a comment
    std::vector<std::string_view> words;
    while (true) {
      const auto first = line.find_first_not_of(" \t\r");
      if (first == std::string_view::npos) {
        break;
      }
      line.remove_prefix(first);
      const auto end = std::min(line.find_first_of(" \t\r"), line.size());
      words.push_back(line.substr(0, end));
      line.remove_prefix(end);
    }
    if (words.empty()) {
      return;
    }
    if (words.front().ends_with(':')) {
      const std::string_view label = words.front().substr(0, words.front().size() - 1);
      if (label.empty() || (label.front() >= '0' && label.front() <= '9')) {
        fail(words.front(), "a label begins with a letter");
      }
      if (!labels_.emplace(label, static_cast<std::uint32_t>(program_.code.size())).second) {
        fail(label, "the label is defined twice");
      }
      words.erase(words.begin());
    }
    if (!words.empty()) {
      read_instruction(words);
    }
  }

  void read_source(std::string_view text) {
    const auto open = text.find('"');
    const std::string_view head = text.substr(0, open);
    const auto digits = head.find_first_not_of(" \t");
    const std::string_view number =
        digits == std::string_view::npos
            ? head
            : head.substr(digits, head.find_last_not_of(" \t") + 1 - digits);
    std::uint32_t id = 0;
    if (open == std::string_view::npos || !read_unsigned(number, id) ||
        id != program_.sources.size() + 1) {
      fail(number, "expected `.source " + std::to_string(program_.sources.size() + 1) +
                       " \"text\"`; sources are numbered from 1 without gaps");
    }
    std::string out;
    std::size_t at = open + 1;
    for (; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] == '\\' && at + 1 < text.size()) {
        ++at;
        out += text[at] == 'n' ? '\n' : text[at];
      } else {
        out += text[at];
      }
    }
    if (at >= text.size() || text.find_first_not_of(" \t\r", at + 1) != std::string_view::npos) {
      fail(text.substr(open), "expected one text between quotes");
    }
    program_.sources.push_back(std::move(out));
  }

  void read_instruction(const std::vector<std::string_view>& words) {
    instruction i = read_mnemonic(words.front());
    const opcode_info& info = info_of(i.op);
    std::uint32_t missing = info.fields & ~(field::type | field::from | field::imm | field::mode);
    if ((missing & field::global) != 0) {
      missing |= strides_given | extents_given;
    }
    for (std::size_t w = 1; w < words.size(); ++w) {
      const std::string_view word = words[w];
      if (word.front() == '@') {
        if (!read_unsigned(word.substr(1), i.source)) {
          fail(word, "expected `@` and the number of a source");
        }
        continue;
      }
      const auto equals = word.find('=');
      if (equals == std::string_view::npos) {
        fail(word, "expected `key=value`");
      }
      const std::uint32_t bit =
          read_field(i, word, word.substr(0, equals), word.substr(equals + 1));
      const std::uint32_t optional = field::imm | field::mode;
      if ((bit & (missing | optional)) == 0) {
        fail(word, "the key is given twice");
      }
      missing &= ~bit;
    }
    if (missing != 0) {
      fail(words.front(), "the key `" + std::string(key_of(missing)) + "` is missing");
    }
    if (const auto problem = problem_of(i); !problem.empty()) {
      fail(words.front(), std::string(problem));
    }
    program_.code.push_back(i);
  }

  instruction read_mnemonic(std::string_view word) {
    instruction i;
    std::vector<std::string_view> parts;
    for (std::string_view left = word;;) {
      const auto dot = left.find('.');
      parts.push_back(left.substr(0, dot));
      if (dot == std::string_view::npos) {
        break;
      }
      left.remove_prefix(dot + 1);
    }
    unit_kind kind = unit_kind::any;
    std::uint32_t engine = 0;
    if (parts[0] == "control" || parts[0] == "vector" || parts[0] == "matrix") {
      i.unit = static_cast<std::uint8_t>(parts[0] == "control"  ? control_unit
                                         : parts[0] == "vector" ? vector_unit
                                                                : matrix_unit);
      kind = kind_of(i.unit);
    } else if (parts[0].starts_with("dma") && read_unsigned(parts[0].substr(3), engine) &&
               engine < max_units - first_dma_unit) {
      i.unit = static_cast<std::uint8_t>(first_dma_unit + static_cast<int>(engine));
      kind = unit_kind::dma;
    } else {
      fail(word, "expected `control.`, `vector.`, `matrix.` or `dma<number>.` and an opcode");
    }
    const std::string_view name = parts.size() > 1 ? parts[1] : std::string_view{};
    const auto found =
        std::find_if(opcode_table.begin(), opcode_table.end(), [&](const opcode_info& info) {
          return info.name == name && (info.unit == kind || info.unit == unit_kind::any);
        });
    if (found == opcode_table.end()) {
      fail(word, "this engine has no such opcode");
    }
    i.op = found->op;
    std::size_t next = 2;
    const auto read_type = [&](std::uint32_t f, element& e) {
      if ((found->fields & f) == 0) {
        return;
      }
      for (int n = 0; n < element_count; ++n) {
        if (next < parts.size() && parts[next] == name_of(static_cast<element>(n))) {
          e = static_cast<element>(n);
          ++next;
          return;
        }
      }
      fail(word, "expected an element type after the opcode");
    };
    read_type(field::type, i.type);
    read_type(field::from, i.from);
    if (next != parts.size()) {
      fail(word, "the opcode has fewer element types");
    }
    return i;
  }

  /// Returns: the bit of the field that the key sets.
  std::uint32_t read_field(instruction& i, std::string_view word, std::string_view key,
                           std::string_view text) {
    const opcode_info& info = info_of(i.op);
    const bool semaphore = info.unit == unit_kind::any;
    const auto need = [&](std::uint32_t f) {
      if ((info.fields & f) == 0) {
        fail(word, "the opcode has no key `" + std::string(key) + "`");
      }
      return f;
    };
    const auto one = [&](std::uint32_t f, value& v) {
      need(f);
      v = read_value(word, text, max_constant);
      return f;
    };
    const auto two = [&](std::uint32_t f, value& first, value& second) {
      const auto comma = text.find(',');
      if (comma == std::string_view::npos) {
        fail(word, "expected two values with a comma between them");
      }
      first = read_value(word, text.substr(0, comma), max_constant);
      second = read_value(word, text.substr(comma + 1), max_constant);
      return f;
    };
    const auto place = [&](std::uint32_t f, operand& o) {
      need(f);
      o = read_operand(word, text);
      return f;
    };
    const auto number = [&](std::uint32_t f, auto& v) {
      need(f);
      if (!read_unsigned(text, v)) {
        fail(word, "expected a number");
      }
      return f;
    };
    if (key == (semaphore ? "sem" : "x")) {
      return one(field::x, i.x);
    }
    if (key == (semaphore ? "count" : "y")) {
      return one(field::y, i.y);
    }
    if (key == "rd") {
      need(field::rd);
      if (!text.starts_with('r') || !read_unsigned(text.substr(1), i.rd) ||
          i.rd >= register_count) {
        fail(word, "expected a register, r0 to r63");
      }
      return field::rd;
    }
    if (key == "target") {
      need(field::target);
      if (!read_unsigned(text, i.target)) {
        branches_.emplace_back(program_.code.size(), label_use{line_, std::string(text)});
      }
      return field::target;
    }
    if (key == "shape") {
      return two(need(field::shape), i.rows, i.cols);
    }
    if (key == "depth") {
      return one(field::depth, i.depth);
    }
    if (key == "axis") {
      return number(field::axis, i.axis);
    }
    if (key == "mode") {
      return number(field::mode, i.mode);
    }
    if (key == "imm") {
      return number(field::imm, i.imm);
    }
    if (key == "dst") {
      return place(field::dst, i.dst);
    }
    if (key == "a") {
      return place(field::a, i.a);
    }
    if (key == "b") {
      return place(field::b, i.b);
    }
    if (key == "c") {
      return place(field::c, i.c);
    }
    if (key == "base") {
      i.base = read_value(word, text, 0x7fffffff);
      return need(field::global);
    }
    if (key == "strides") {
      need(field::global);
      return two(strides_given, i.strides[0], i.strides[1]);
    }
    if (key == "extents") {
      need(field::global);
      return two(extents_given, i.extents[0], i.extents[1]);
    }
    if (key == "origin") {
      return two(need(field::origin), i.origin[0], i.origin[1]);
    }
    fail(word, "no opcode has the key `" + std::string(key) + "`");
  }

  static constexpr std::uint32_t strides_given = 1u << 30;
  static constexpr std::uint32_t extents_given = 1u << 31;

  static std::string_view key_of(std::uint32_t missing) {
    constexpr std::pair<std::uint32_t, std::string_view> keys[] = {{field::rd, "rd"},
                                                                   {field::x, "x` or `sem"},
                                                                   {field::y, "y` or `count"},
                                                                   {field::target, "target"},
                                                                   {field::shape, "shape"},
                                                                   {field::depth, "depth"},
                                                                   {field::axis, "axis"},
                                                                   {field::dst, "dst"},
                                                                   {field::a, "a"},
                                                                   {field::b, "b"},
                                                                   {field::c, "c"},
                                                                   {field::global, "base"},
                                                                   {field::origin, "origin"},
                                                                   {strides_given, "strides"},
                                                                   {extents_given, "extents"}};
    for (const auto& [bit, key] : keys) {
      if ((missing & bit) != 0) {
        return key;
      }
    }
    return "?";
  }

  template <class T>
  static bool read_unsigned(std::string_view text, T& v) {
    const bool hex = text.starts_with("0x");
    text.remove_prefix(hex ? 2 : 0);
    const auto done = std::from_chars(text.data(), text.data() + text.size(), v, hex ? 16 : 10);
    return !text.empty() && done.ec == std::errc{} && done.ptr == text.data() + text.size();
  }

  std::int32_t read_signed(std::string_view word, std::string_view text, std::int32_t most) const {
    std::int64_t v = 0;
    text.remove_prefix(text.starts_with('+') ? 1 : 0);
    const auto done = std::from_chars(text.data(), text.data() + text.size(), v);
    if (text.empty() || done.ec != std::errc{} || done.ptr != text.data() + text.size() ||
        v > most || v < -static_cast<std::int64_t>(most) - 1) {
      fail(word, "expected a whole number from " +
                     std::to_string(-static_cast<std::int64_t>(most) - 1) + " to " +
                     std::to_string(most));
    }
    return static_cast<std::int32_t>(v);
  }

  value read_value(std::string_view word, std::string_view text, std::int32_t most) const {
    value v;
    if (text.starts_with('r')) {
      const auto end = std::min(text.find_first_of("+-"), text.size());
      if (!read_unsigned(text.substr(1, end - 1), v.reg) || v.reg >= register_count) {
        fail(word, "expected a register, r0 to r63");
      }
      text.remove_prefix(end);
      if (text.empty()) {
        return v;
      }
    }
    v.imm = read_signed(word, text, most);
    return v;
  }

  operand read_operand(std::string_view word, std::string_view text) const {
    operand o;
    if (text == "#") {
      o.kind = operand_kind::immediate;
      return o;
    }
    if (!text.starts_with('[')) {
      o.kind = operand_kind::scalar;
      if (!text.starts_with('r') || !read_unsigned(text.substr(1), o.base.reg)) {
        fail(word, "expected `[address:row stride,column stride]`, a register or `#`");
      }
      return o;
    }
    const auto colon = text.find(':');
    const auto comma = text.find(',');
    if (colon == std::string_view::npos || comma == std::string_view::npos || comma < colon ||
        !text.ends_with(']')) {
      fail(word, "expected `[address:row stride,column stride]`");
    }
    o.base = read_value(word, text.substr(1, colon - 1), max_constant);
    o.row_stride = read_signed(word, text.substr(colon + 1, comma - colon - 1), max_stride);
    o.col_stride = read_signed(word, text.substr(comma + 1, text.size() - comma - 2), max_stride);
    return o;
  }

  std::string_view rest_;
  std::size_t line_ = 0;
  program program_;
  std::map<std::string, std::uint32_t, std::less<>> labels_;
  std::vector<std::pair<std::size_t, label_use>> branches_;
};

}  // namespace detail

/// Returns: the program that the text says; the text form is that of `disassemble`.
///
/// Throws: `assembly_error{line, token, reason}`.
inline program assemble(std::string_view text) { return detail::assembler(text).run(); }

}  // namespace ashlar::chip::npu_isa
