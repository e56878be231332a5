// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>

#include "ashlar/chip/source/errors.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// Types, constants and elementwise instructions as C++.
namespace ashlar::chip::source::detail {

using tile::opcode;
using tile::opcode_kind;

/// The words of one program.
class text_of {
 protected:
  explicit text_of(const tile::program& p) : p_(p) {}

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] const tile::tile_type& type(int v) const { return p_.type_of(v); }
  [[noreturn]] void refuse(int i) const { throw unsupported(p_.at(i).op, i); }

  std::string element(dtype d, int at) const {
    switch (d) {
      case dtype::boolean:
        return "bool";
      case dtype::uint8:
        return "std::uint8_t";
      case dtype::int8:
        return "std::int8_t";
      case dtype::int32:
        return "std::int32_t";
      case dtype::int64:
        return "i64";
      case dtype::float16:
        return "f16";
      case dtype::bfloat16:
        return "bf16";
      case dtype::float32:
        return "float";
      case dtype::float64:
        return "double";
      default:
        refuse(at);
    }
  }

  static std::string number(std::int64_t n) {
    return n == std::numeric_limits<std::int64_t>::min() ? "std::numeric_limits<i64>::min()"
                                                         : "i64(" + std::to_string(n) + ")";
  }
  std::string constant_text(const tile::instruction& x, int at) const {
    const dtype d = x.type.element;
    const std::string t = element(d, at);
    if (d == dtype::boolean) {
      return x.value != 0 ? "true" : "false";
    }
    if (!is_floating(d)) {
      return "static_cast<" + t + ">(" + number(x.value) + ")";
    }
    const auto v = std::bit_cast<double>(x.value);
    if (v != v || v - v != 0) {
      return "scalar_of<" + t + ">(" + number(x.value) + ")";
    }
    std::ostringstream text;
    text << std::hexfloat << v;
    const bool narrow = is_narrow_floating(d);
    return narrow ? t + "(static_cast<float>(" + text.str() + "))"
                  : "static_cast<" + t + ">(" + text.str() + ")";
  }

  /// An elementwise instruction on elements; `at(k)` is the text of operand `k`.
  template <class At>
  std::string expression(int i, const At& at) const {
    const tile::instruction& x = p_.at(i);
    const std::string result = element(x.type.element, i);
    const dtype from = type(p_.operand(i, 0)).element;
    const bool narrow = is_narrow_floating(from);
    const auto wide = [&](int k) { return narrow ? "static_cast<float>(" + at(k) + ")" : at(k); };
    const std::string compute = narrow ? "float" : element(from, i);
    const std::string call = "op_" + std::string(tile::info(x.op).name) + "<" + compute + ">(";
    switch (x.op) {
      case opcode::cast:
        if (x.index != static_cast<int>(tile::rounding::nearest_even)) {
          refuse(i);
        }
        return "op_cast<" + result + ">(" + at(0) + ")";
      case opcode::bitcast:
        if (from == dtype::boolean || x.type.element == dtype::boolean) {
          return "static_cast<" + result + ">(" + at(0) + " != 0)";
        }
        return "as_bits<" + result + ">(" + at(0) + ")";
      case opcode::select:
        return at(0) + " ? " + at(1) + " : " + at(2);
      case opcode::fma:
        return result + "(madd<" + compute + ">(" + wide(0) + ", " + wide(1) + ", " + wide(2) +
               "))";
      case opcode::equal:
        return wide(0) + " == " + wide(1);
      case opcode::not_equal:
        return wide(0) + " != " + wide(1);
      case opcode::less:
        return wide(0) + " < " + wide(1);
      case opcode::less_equal:
        return wide(0) + " <= " + wide(1);
      case opcode::bit_and:
      case opcode::bit_or:
      case opcode::bit_xor: {
        const char* const sign = x.op == opcode::bit_and  ? " & "
                                 : x.op == opcode::bit_or ? " | "
                                                          : " ^ ";
        return "static_cast<" + result + ">(" + at(0) + sign + at(1) + ")";
      }
      case opcode::erf:
      case opcode::floor:
      default:
        break;
    }
    const bool plain_name = x.op == opcode::erf;  // no template: one for float, one for double
    const std::string head = plain_name ? "op_erf(" : call;
    const std::string all = tile::info(x.op).operands == 1 ? head + wide(0) + ")"
                                                           : head + wide(0) + ", " + wide(1) + ")";
    return narrow ? result + "(" + all + ")" : all;
  }

  static bool is_elementwise(opcode op) {
    const opcode_kind kind = tile::info(op).kind;
    return kind == opcode_kind::unary || kind == opcode_kind::binary ||
           kind == opcode_kind::compare || kind == opcode_kind::ternary;
  }
  template <class F>
  bool all_users(int v, const F& f) const {
    for (int j = v + 1; j < p_.size; ++j) {
      for (const tile::value_id o : p_.operands(j)) {
        if (o == v && !f(j)) {
          return false;
        }
      }
    }
    return true;
  }

  const tile::program& p_;
};

}  // namespace ashlar::chip::source::detail
