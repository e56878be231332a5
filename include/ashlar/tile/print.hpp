// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Tile IR as text.
///
/// ```
/// kernel "row_sums"(p0: f32[?, ?], p1: f32[?] written) {
///   %0 = program_id axis=0 : i64
///   %1 = constant 0 : i64
///   %2 = load p0, %0, %1 : f32[64]
///   %3 = reduce %2, axis=0 (%4: f32, %5: f32) {
///     %6 = add %4, %5 : f32
///     yield %6
///   }
///   %8 = result %3, number=0 : f32
///   store p1, %8, %0
/// }
/// ```
/// Values are named by their place in the program. A region's inputs stand before its brace; a
/// view's rank is its number of `?`. `parse` reads it back.
namespace ashlar::tile {

/// `f32`, `bf16`, `i64` ...
constexpr std::string_view short_name_of(dtype d) {
  constexpr std::array<std::string_view, dtype_count> names{
      "bool", "u8", "i8", "i32", "i64", "e4m3", "e5m2", "f16", "bf16", "f32", "f64"};
  return static_cast<int>(d) < dtype_count ? names[static_cast<std::size_t>(d)] : "?";
}

/// `f32[64, 32]`; a scalar is `f32`.
inline std::string to_string(const tile_type& t) {
  std::string text(short_name_of(t.element));
  for (int a = 0; a < t.rank && a < max_rank; ++a) {
    text += std::string(a == 0 ? "[" : ", ") + std::to_string(t.extent(a));
  }
  return t.rank > 0 ? text + "]" : text;
}

/// A scalar kept under `constant_bits`, so that it can be read back exactly.
inline std::string scalar_text(dtype element, std::int64_t bits) {
  if (element == dtype::boolean && (bits == 0 || bits == 1)) {
    return bits == 0 ? "false" : "true";
  }
  if (is_integral(element)) {
    return std::to_string(bits);
  }
  const auto value = std::bit_cast<double>(bits);
  std::array<char, 40> text{};
  std::to_chars_result end{};
  if (value == value) {
    end = std::to_chars(text.data(), text.data() + text.size(), value);  // shortest that is exact
  } else if (bits == 0x7ff8000000000000) {
    return "nan";
  } else {
    end =
        std::to_chars(text.data(), text.data() + text.size(), static_cast<std::uint64_t>(bits), 16);
    return std::string("nan(0x") + std::string(text.data(), end.ptr) + ")";
  }
  return {text.data(), end.ptr};
}

/// The line that `opcode::print` says: element `k` of the tile has the `constant_bits`
/// `bits_at(k)`.
template <class F>
std::string printed_line(int number, const std::array<std::int64_t, 3>& program_id,
                         const tile_type& t, const F& bits_at) {
  std::string text("print ");
  text.append(std::to_string(number)).append(" (");
  for (std::size_t a = 0; a < program_id.size(); ++a) {
    text.append(std::to_string(program_id[a])).append(a + 1 < program_id.size() ? ", " : "): ");
  }
  text.append(to_string(t)).append(" {");
  for (std::int64_t k = 0; k < t.size(); ++k) {
    text.append(k == 0 ? "" : ", ").append(scalar_text(t.element, bits_at(k)));
  }
  return text.append("}\n");
}

namespace detail {

/// How the attributes of an operation are written; an empty name has only its general form.
struct attribute_names {
  std::string_view index{};  ///< "p": a parameter
  std::string_view value{};
  bool shown = false;  ///< also where they are 0
};

constexpr attribute_names attributes_of(opcode op) {
  switch (op) {
    case opcode::constant:
      return {"", "bits", true};
    case opcode::iota:
    case opcode::program_id:
    case opcode::grid_size:
    case opcode::reduce:
      return {"axis", "", true};
    case opcode::extent:
      return {"p", "axis", true};
    case opcode::argument:
    case opcode::store:
    case opcode::scatter:
    case opcode::atomic_add:
    case opcode::atomic_max:
    case opcode::atomic_min:
      return {"p", "", true};
    case opcode::load:
    case opcode::gather:
      return {"p", "else", false};
    case opcode::cast:
      return {"rounding", "", false};
    case opcode::transpose:
      return {"", "axes", true};
    case opcode::split:
      return {"half", "", true};
    case opcode::scan:
      return {"axis", "from_end", false};
    case opcode::result:
      return {"number", "", true};
    case opcode::print:
    case opcode::require:
      return {"number", "", false};
    default:
      return {};
  }
}

class printer {
 public:
  explicit printer(const program& p) : p_(p) {}

  std::string run() {
    header();
    for (int i = 0; i < p_.size && i < program::max_instructions;) {
      i = line(i);
    }
    return out_ + "}\n";
  }

 private:
  void header() {
    out_ = "kernel \"";
    for (const char c : p_.name()) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\') {
        constexpr std::string_view digits = "0123456789abcdef";
        out_ += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      } else {
        out_ += c;
      }
    }
    out_ += "\"(";
    for (int k = 0; k < p_.parameter_count && k < program::max_parameters; ++k) {
      const parameter& x = p_.parameter_at(k);
      out_ += std::string(k == 0 ? "p" : ", p") + std::to_string(k) + ": ";
      out_ += short_name_of(x.element);
      for (int a = 0; a < x.rank; ++a) {
        out_ += a == 0 ? "[?" : ", ?";
      }
      out_ += x.rank == 0 ? "[]" : x.rank > 0 ? "]" : "";
      out_ += x.written ? " written" : "";
    }
    out_ += ") {\n";
  }

  void indent() { out_.append(2 * open_.size() + 2, ' '); }
  static std::string name(int v) { return std::string("%") + std::to_string(v); }

  void item(const std::string& text) {
    out_ += (first_item_ ? " " : ", ") + text;
    first_item_ = false;
  }

  void attributes(const instruction& i) {
    const attribute_names names = attributes_of(i.op);
    if (names.index != "p" && (i.index != 0 || (names.shown && !names.index.empty()))) {
      const std::string key(names.index.empty() ? "index" : names.index);
      item(key + "=" +
           (i.op == opcode::cast && i.index == 1   ? "toward_zero"
            : i.op == opcode::cast && i.index == 2 ? "saturating"
                                                   : std::to_string(i.index)));
    }
    if (i.value == 0 && !(names.shown && !names.value.empty())) {
      return;
    }
    if (i.op == opcode::constant) {
      item(scalar_text(i.type.element, i.value));
    } else if (names.value == "else") {
      item(std::string("else=") + scalar_text(i.type.element, i.value));
    } else if (names.value == "axes") {
      std::string axes;
      for (int a = 0; a < i.type.rank; ++a) {
        axes += std::string(a == 0 ? "" : ", ") + std::to_string((i.value >> (4 * a)) & 15);
      }
      item("axes=[" + axes + "]");
    } else {
      const std::string key(names.value.empty() ? "value" : names.value);
      item(key + "=" + std::to_string(i.value));
    }
  }

  /// ` (%4: f32, %5: f32) {`, which takes the `region_input`s from `i` on.
  int begin_region(int i) {
    int k = 0;
    for (; i + k < p_.size && p_.at(i + k).op == opcode::region_input && p_.at(i + k).index == k;
         ++k) {
      out_ += std::string(k == 0 ? " (" : ", ") + name(i + k) + ": " + to_string(p_.type_of(i + k));
    }
    out_ += k == 0 ? " {\n" : ") {\n";
    return i + k;
  }

  int line(int at) {
    const instruction& i = p_.at(at);
    indent();
    if (static_cast<int>(i.op) >= opcode_count) {
      out_ += "? // no operation\n";
      return at + 1;
    }
    const opcode_info& about = info(i.op);
    if (i.type.is_value() || about.regions > 0) {
      out_ += name(at) + " = ";
    }
    out_ += about.name;
    first_item_ = true;
    if (attributes_of(i.op).index == "p") {
      item(std::string("p") + std::to_string(i.index));
    }
    if (i.first + i.count <= program::max_operands) {
      for (const value_id o : p_.operands(i)) {
        item(name(o));
      }
    }
    attributes(i);
    if (about.regions > 0) {
      const int next = begin_region(at + 1);
      open_.push_back(about.regions);
      return next;
    }
    if (i.type.is_value()) {
      out_ += std::string(" : ") + to_string(i.type);
    }
    out_ += "\n";
    return i.op == opcode::yield && !open_.empty() ? end_region(at + 1) : at + 1;
  }

  int end_region(int next) {
    const int left = --open_.back();
    if (left == 0) {
      open_.pop_back();
      indent();
      out_ += "}\n";
      return next;
    }
    open_.pop_back();
    indent();
    out_ += "}";
    open_.push_back(left);
    return begin_region(next);
  }

  const program& p_;
  std::string out_;
  std::vector<int> open_;  // regions that are still to end, for each instruction around
  bool first_item_ = true;
};

}  // namespace detail

/// Returns: the text of a program. One that breaks rules is shown as well as it goes.
inline std::string print(const program& p) { return detail::printer(p).run(); }

}  // namespace ashlar::tile
