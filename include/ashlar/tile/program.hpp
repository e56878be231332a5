// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::tile {

/// An instruction by its place in the program; -1 is none. Its result, if any, has the same name.
using value_id = std::int16_t;

/// A program that breaks a rule of the tile IR.
///
/// Thrown in a constant expression it ends compilation: the compiler shows `rule` and its place.
struct program_error : error {
  std::string_view rule;  ///< a sentence
  int instruction;        ///< its place; -1 where no instruction is at fault

  program_error(std::string_view broken, int at,
                std::source_location where = std::source_location::current())
      : error(where), rule(broken), instruction(at) {}

 private:
  [[nodiscard]] std::string message() const override {
    // By appending: g++ 12 at -O3 warns about a sum of strings that it inlines.
    std::string text = "ashlar::tile::program: ";
    if (instruction >= 0) {
      text.append(1, '%').append(std::to_string(instruction)).append(": ");
    }
    return text.append(rule);
  }
};

/// One argument of a kernel: a view in memory, or a scalar.
struct parameter {
  dtype element = dtype::float32;
  std::int8_t rank = -1;  ///< axes of the view; -1 for a scalar
  bool written = false;   ///< a view that the kernel may write

  [[nodiscard]] constexpr bool is_view() const { return rank >= 0; }
  friend constexpr bool operator==(const parameter&, const parameter&) = default;
};

struct instruction {
  opcode op = opcode::constant;
  std::uint8_t count = 0;   ///< operands
  std::uint16_t first = 0;  ///< where they begin in the program's list of operands
  std::int32_t index = 0;   ///< attribute, see `opcode`
  std::int64_t value = 0;   ///< attribute, see `opcode`
  tile_type type{};         ///< of the result
};

/// The bits under which a program keeps a scalar: a double's for floating types, else the integer.
template <class T>
constexpr std::int64_t constant_bits(T x) {
  if constexpr (std::integral<T>) {
    return static_cast<std::int64_t>(x);
  } else {
    return std::bit_cast<std::int64_t>(static_cast<double>(x));
  }
}

/// The scalar of those bits, as `T`.
template <class T>
constexpr T constant_value(std::int64_t bits) {
  if constexpr (std::integral<T>) {
    return static_cast<T>(bits);
  } else if constexpr (std::floating_point<T>) {
    return static_cast<T>(std::bit_cast<double>(bits));
  } else {
    return T(static_cast<float>(std::bit_cast<double>(bits)));
  }
}

/// A kernel in tile IR: SSA with structured regions, as one flat list.
///
/// A region's instructions follow the instruction that owns it, from `region_input`s to `yield`; a
/// second region follows the first. A value may be used after it in its own region and in those
/// inside; what a region yields is read by `result`. A plain value: it can be a constant, so its
/// room is fixed.
/// Source: MLIR's structured control flow; the form is a list, since constant expressions copy it.
struct program {
  static constexpr int max_instructions = 384;
  static constexpr int max_operands = 1024;
  static constexpr int max_parameters = 16;
  static constexpr int max_name = 31;

  std::array<char, max_name + 1> name_chars{};
  std::int32_t size = 0;
  std::int32_t operand_count = 0;
  std::int32_t parameter_count = 0;
  std::array<parameter, max_parameters> parameters{};
  std::array<instruction, max_instructions> code{};
  std::array<value_id, max_operands> operand_list{};

  [[nodiscard]] constexpr std::string_view name() const {
    std::size_t n = 0;
    while (name_chars[n] != '\0') {
      ++n;
    }
    return {name_chars.data(), n};
  }
  /// Takes the first 31 characters.
  constexpr void set_name(std::string_view name) {
    name_chars = {};
    for (std::size_t i = 0; i < name.size() && i < max_name; ++i) {
      name_chars[i] = name[i];
    }
  }

  [[nodiscard]] constexpr const instruction& at(int i) const {
    return code[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr instruction& at(int i) { return code[static_cast<std::size_t>(i)]; }
  [[nodiscard]] constexpr const parameter& parameter_at(int i) const {
    return parameters[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr std::span<const value_id> operands(const instruction& i) const {
    return {operand_list.data() + i.first, i.count};
  }
  [[nodiscard]] constexpr std::span<const value_id> operands(int i) const {
    return operands(at(i));
  }
  [[nodiscard]] constexpr value_id operand(int i, int k) const {
    return operand_list[static_cast<std::size_t>(at(i).first + k)];
  }
  [[nodiscard]] constexpr const tile_type& type_of(int i) const { return at(i).type; }

  /// Appends an instruction; `operands` is copied.
  ///
  /// Throws: `program_error` where the program is full. Checks nothing else: see `verify`.
  constexpr value_id push(instruction i, std::span<const value_id> operands = {}) {
    if (size == max_instructions || operands.size() > 255 ||
        operand_count + static_cast<std::int32_t>(operands.size()) > max_operands) {
      throw program_error("the program is longer than a tile::program holds; split the kernel",
                          size);
    }
    i.first = static_cast<std::uint16_t>(operand_count);
    i.count = static_cast<std::uint8_t>(operands.size());
    for (const value_id o : operands) {
      operand_list[static_cast<std::size_t>(operand_count++)] = o;
    }
    code[static_cast<std::size_t>(size)] = i;
    return static_cast<value_id>(size++);
  }

  /// Equal text and equal meaning: names, parameters and instructions.
  friend constexpr bool operator==(const program& a, const program& b) {
    if (a.name_chars != b.name_chars || a.size != b.size ||
        a.parameter_count != b.parameter_count || a.parameters != b.parameters) {
      return false;
    }
    for (int i = 0; i < a.size; ++i) {
      const instruction& x = a.at(i);
      const instruction& y = b.at(i);
      if (x.op != y.op || x.index != y.index || x.value != y.value || x.type != y.type ||
          x.count != y.count) {
        return false;
      }
      for (int k = 0; k < x.count; ++k) {
        if (a.operand(i, k) != b.operand(i, k)) {
          return false;
        }
      }
    }
    return true;
  }
};

}  // namespace ashlar::tile
