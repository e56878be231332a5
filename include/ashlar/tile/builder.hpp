// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"

namespace ashlar::tile {

/// Writes a program, one instruction at a time: under the typed language of `language.hpp`, and for
/// programs that are made at run time.
///
/// Every function works in constant expressions, and throws `program_error` where an instruction
/// breaks a rule of its operation; regions are checked by `verify` when all is written.
class builder {
 public:
  constexpr explicit builder(std::string_view name) { program_.set_name(name); }
  /// Goes on with a program without parameters or with those of another.
  constexpr builder(std::string_view name, std::span<const parameter> parameters) : builder(name) {
    for (const parameter& p : parameters) {
      add_parameter(p);
    }
  }

  [[nodiscard]] constexpr const program& so_far() const { return program_; }
  [[nodiscard]] constexpr program finish() const { return program_; }

  /// Returns: the parameter's number.
  constexpr int add_parameter(const parameter& p) {
    if (program_.parameter_count == program::max_parameters) {
      throw program_error("a kernel has at most 16 parameters", -1);
    }
    program_.parameters[static_cast<std::size_t>(program_.parameter_count)] = p;
    return program_.parameter_count++;
  }

  /// Any instruction, checked.
  constexpr value_id emit(const instruction& i, std::span<const value_id> operands) {
    for (const value_id o : operands) {
      if (o < 0 || o >= program_.size) {
        throw program_error("it uses a value that is not there", program_.size);
      }
    }
    const value_id at = program_.push(i, operands);
    if (const auto broken = detail::broken_rule(program_, program_.at(at)); !broken.empty()) {
      throw program_error(broken, at);
    }
    return at;
  }
  constexpr value_id emit(const instruction& i, std::initializer_list<value_id> operands = {}) {
    return emit(i, std::span(operands.begin(), operands.size()));
  }

  [[nodiscard]] constexpr const tile_type& type_of(value_id v) const { return program_.type_of(v); }

  template <class T>
  constexpr value_id constant(dtype element, T value) {
    const std::int64_t bits = is_floating(element)
                                  ? constant_bits(static_cast<double>(value))
                                  : constant_bits(static_cast<std::int64_t>(value));
    return emit({.op = opcode::constant, .value = bits, .type = scalar_type(element)});
  }
  constexpr value_id index(std::int64_t value) { return constant(dtype::int64, value); }

  /// Elementwise with one operand whose type is the result's.
  constexpr value_id unary(opcode op, value_id x) {
    return emit({.op = op, .type = type_of(x)}, {x});
  }
  /// Elementwise with two operands of one type, comparisons included.
  constexpr value_id binary(opcode op, value_id a, value_id b) {
    const bool compares = info(op).kind == opcode_kind::compare;
    return emit({.op = op, .type = compares ? type_of(a).with(dtype::boolean) : type_of(a)},
                {a, b});
  }
  constexpr value_id fma(value_id a, value_id b, value_id c) {
    return emit({.op = opcode::fma, .type = type_of(a)}, {a, b, c});
  }
  constexpr value_id select(value_id condition, value_id yes, value_id no) {
    return emit({.op = opcode::select, .type = type_of(yes)}, {condition, yes, no});
  }
  constexpr value_id cast(value_id x, dtype to, rounding how = rounding::nearest_even) {
    return emit({.op = opcode::cast, .index = static_cast<int>(how), .type = type_of(x).with(to)},
                {x});
  }
  /// `x` itself where it has the extents already.
  constexpr value_id broadcast(value_id x, const tile_type& to) {
    return type_of(x) == to ? x : emit({.op = opcode::broadcast, .type = to}, {x});
  }
  constexpr value_id reshape(value_id x, const tile_type& to) {
    return type_of(x) == to ? x : emit({.op = opcode::reshape, .type = to}, {x});
  }
  constexpr value_id transpose(value_id x, std::span<const int> axes) {
    instruction i{.op = opcode::transpose, .type = type_of(x)};
    for (std::size_t a = 0; a < axes.size(); ++a) {
      i.value |= static_cast<std::int64_t>(axes[a]) << (4 * a);
      i.type.extents[a] = type_of(x).extent(axes[a]);
    }
    return emit(i, {x});
  }

  /// Opens a region of the instruction that was emitted last; `inputs` are what it begins with.
  /// Returns: the first input; the others follow it.
  constexpr value_id begin_region(std::span<const tile_type> inputs) {
    const auto first = static_cast<value_id>(program_.size);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      program_.push({.op = opcode::region_input, .index = static_cast<int>(k), .type = inputs[k]});
    }
    return first;
  }
  constexpr void yield(std::span<const value_id> results) { emit({.op = opcode::yield}, results); }
  constexpr value_id result(value_id owner, int number, const tile_type& type) {
    return emit({.op = opcode::result, .index = number, .type = type}, {owner});
  }

 private:
  program program_{};
};

}  // namespace ashlar::tile
