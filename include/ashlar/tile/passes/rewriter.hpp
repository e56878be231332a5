// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/verify.hpp"

/// What the passes over tile programs are made of.
///
/// A pass is an ordinary function `program -> program` that keeps what `verify` asks and what the
/// program does. Bits stay, unless a pass says otherwise; which NaN it is does not count as bits.
namespace ashlar::tile::passes {

/// Writes a new program from an old one, instruction by instruction, and knows where each value of
/// the old one is found in the new one.
class rewriter {
 public:
  constexpr explicit rewriter(const program& from) : from_(from) {
    to_.name_chars = from.name_chars;
    to_.parameters = from.parameters;
    to_.parameter_count = from.parameter_count;
  }

  [[nodiscard]] constexpr const program& from() const { return from_; }
  [[nodiscard]] constexpr const program& so_far() const { return to_; }
  [[nodiscard]] constexpr const program& finish() const { return to_; }

  /// Where a value of the old program is in the new one.
  [[nodiscard]] constexpr value_id operator[](int old) const { return at(map_, old); }
  constexpr void replace(int old, value_id now) { at(map_, old) = now; }

  /// The results of an old instruction with regions that is not copied are the old program's
  /// `operand_list[first...]`, wherever those are now; -1 if it is copied after all.
  constexpr void replace_results(int old, int first) {
    at(results_, old) = static_cast<std::int16_t>(first + 1);
  }
  [[nodiscard]] constexpr bool has_replaced_results(int old) const {
    return at(results_, old) != 0;
  }

  /// Copies an old instruction, with the operands that it has now.
  constexpr value_id copy(int old) {
    const instruction& i = from_.at(old);
    if (i.op == opcode::result && has_replaced_results(from_.operand(old, 0))) {
      const int first = at(results_, from_.operand(old, 0)) - 1;
      const value_id is = from_.operand_list[static_cast<std::size_t>(first + i.index)];
      return at(map_, old) = at(map_, is);
    }
    const value_id now = to_.push(i, from_.operands(i));
    for (int k = to_.operand_count - i.count; k < to_.operand_count; ++k) {
      value_id& o = to_.operand_list[static_cast<std::size_t>(k)];
      o = at(map_, o);
    }
    return at(map_, old) = now;
  }

  /// Appends a new instruction; its operands are of the new program.
  constexpr value_id emit(const instruction& i, std::span<const value_id> operands) {
    return to_.push(i, operands);
  }
  constexpr value_id emit(const instruction& i, std::initializer_list<value_id> operands = {}) {
    return to_.push(i, std::span(operands.begin(), operands.size()));
  }

  /// Takes the instruction that was appended last away again.
  constexpr void drop_last() {
    --to_.size;
    to_.operand_count -= to_.at(to_.size).count;
  }

  /// Whether `more` instructions with `operands` operands fit in besides what is left of the old
  /// program from `old` on.
  [[nodiscard]] constexpr bool fits(int old, int more, int operands) const {
    const int listed = old < from_.size ? from_.operand_count - from_.at(old).first : 0;
    return to_.size + (from_.size - old) + more <= program::max_instructions &&
           to_.operand_count + listed + operands <= program::max_operands;
  }

 private:
  const program& from_;
  program to_{};
  per_instruction<value_id> map_{};
  per_instruction<std::int16_t> results_{};
};

/// A pass that made a program which breaks a rule of the tile IR.
struct pass_error final : program_error {
  std::string_view pass;  ///< its name

  pass_error(std::string_view name, const verdict& broken,
             std::source_location where = std::source_location::current())
      : program_error(broken.rule, broken.instruction, where), pass(name) {}

 private:
  [[nodiscard]] std::string message() const override {
    return std::string("ashlar::tile::passes: ").append(pass).append(" made a bad program, %") +
           std::to_string(instruction) + ": " + std::string(rule);
  }
};

/// A pass whose result is verified, in constant expressions always, else in debug builds.
///
/// Throws: `pass_error` where the result breaks a rule; in a constant expression the compiler shows
///         it.
template <class Pass>
struct checked {
  Pass pass;
  std::string_view name = "a pass";

  constexpr program operator()(const program& p) const {
    program q = pass(p);
#ifdef NDEBUG
    bool asked = std::is_constant_evaluated();  // const would make it one of a constant expression
#else
    bool asked = true;
#endif
    if (asked) {
      if (const verdict v = verify(q); !v) {
        throw pass_error(name, v);
      }
    }
    return q;
  }
};
template <class Pass>
checked(Pass, std::string_view = {}) -> checked<Pass>;

}  // namespace ashlar::tile::passes
