// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

/// How far `unroll` goes.
struct unroll_limits {
  int rounds = 8;         ///< most rounds of a loop
  int instructions = 96;  ///< most instructions that one loop becomes
  friend constexpr bool operator==(const unroll_limits&, const unroll_limits&) = default;
};

namespace detail {

/// Copies the bodies of loops, round by round; carried values are handed on in the same order.
class unroller {
 public:
  constexpr explicit unroller(const program& p) : p_(p), s_(p), out_(p) {}

  constexpr program whole(const unroll_limits& limits) {
    whole_range(0, p_.size, limits, {});
    return out_.finish();
  }

  constexpr program by(int factor) {
    for (int i = 0; i < p_.size;) {
      if (p_.at(i).op == opcode::loop && is_innermost(i) && by_fits(i, factor)) {
        by_factor(i, factor);
        i = s_.after(p_, i);
      } else {
        out_.copy(i++);
      }
    }
    return out_.finish();
  }

 private:
  /// Room in the program: what is still to be written after a range.
  struct room {
    int instructions = 0;
    int operands = 0;
  };

  [[nodiscard]] constexpr int first_operand(int i) const {
    return i < p_.size ? p_.at(i).first : p_.operand_count;
  }
  [[nodiscard]] constexpr room size_of_range(int begin, int end) const {
    return {end - begin, first_operand(end) - first_operand(begin)};
  }

  constexpr void whole_range(int begin, int end, const unroll_limits& limits, room owed) {
    for (int i = begin; i < end;) {
      if (p_.at(i).op != opcode::loop) {
        out_.copy(i++);
        continue;
      }
      const int after = s_.after(p_, i);
      const room rest = size_of_range(after, end);
      const room later{owed.instructions + rest.instructions, owed.operands + rest.operands};
      const int rounds = rounds_of(i, limits, later);
      if (rounds < 0) {
        out_.replace_results(i, -1);
        out_.copy(i++);
        continue;
      }
      write_rounds(i, rounds, limits, later);
      i = after;
    }
  }

  /// How many rounds a loop has; -1 where that is not known or too many.
  [[nodiscard]] constexpr int rounds_of(int i, const unroll_limits& limits, room later) const {
    const instruction& first = p_.at(p_.operand(i, 0));
    const instruction& end = p_.at(p_.operand(i, 1));
    const instruction& step = p_.at(p_.operand(i, 2));
    if (first.op != opcode::constant || end.op != opcode::constant || step.op != opcode::constant ||
        step.value <= 0) {
      return -1;
    }
    if (first.value >= end.value) {
      return 0;
    }
    const std::uint64_t span =
        static_cast<std::uint64_t>(end.value) - static_cast<std::uint64_t>(first.value);
    const std::uint64_t rounds = (span - 1) / static_cast<std::uint64_t>(step.value) + 1;
    if (limits.rounds < 0 || rounds > static_cast<std::uint64_t>(limits.rounds) ||
        rounds > program::max_instructions) {
      return -1;
    }
    const int n = static_cast<int>(rounds);
    const room body = size_of_range(i + 1, at(s_.last_yield, i));
    const room now{out_.so_far().size, out_.so_far().operand_count};
    const bool fits = now.instructions + n * body.instructions + later.instructions <=
                          program::max_instructions &&
                      now.operands + n * body.operands + later.operands <= program::max_operands;
    return fits && n * body.instructions <= limits.instructions ? n : -1;
  }

  constexpr void write_rounds(int i, int rounds, const unroll_limits& limits, room later) {
    const int carried = p_.at(i).count - 3;
    const int input = i + 1;
    const int body = input + 1 + carried;
    const int end = at(s_.last_yield, i);
    std::array<value_id, 256> next{};
    for (int k = 0; k < carried; ++k) {
      next[static_cast<std::size_t>(k)] = out_[p_.operand(i, 3 + k)];
    }
    const room all = size_of_range(input, end);
    for (int r = 0; r < rounds; ++r) {
      // Unsigned: from the first counter to the last may be further than an int64 holds.
      const auto counter =
          static_cast<std::int64_t>(static_cast<std::uint64_t>(p_.at(p_.operand(i, 0)).value) +
                                    static_cast<std::uint64_t>(r) *
                                        static_cast<std::uint64_t>(p_.at(p_.operand(i, 2)).value));
      out_.replace(input,
                   out_.emit({.op = opcode::constant, .value = counter, .type = index_type}));
      for (int k = 0; k < carried; ++k) {
        out_.replace(input + 1 + k, next[static_cast<std::size_t>(k)]);
      }
      const int left = rounds - 1 - r;
      whole_range(
          body, end, limits,
          {later.instructions + left * all.instructions, later.operands + left * all.operands});
      for (int k = 0; k < carried; ++k) {
        next[static_cast<std::size_t>(k)] = out_[p_.operand(end, k)];
      }
    }
    out_.replace_results(i, rounds > 0 ? p_.at(end).first : p_.at(i).first + 3);
  }

  // By a factor ---------------------------------------------------------------------------------

  [[nodiscard]] constexpr bool is_innermost(int i) const {
    for (int k = i + 1; k < at(s_.last_yield, i); ++k) {
      if (p_.at(k).op == opcode::loop || p_.at(k).op == opcode::repeat) {
        return false;
      }
    }
    return true;
  }

  [[nodiscard]] constexpr bool by_fits(int i, int factor) const {
    const room all = size_of_range(i, s_.after(p_, i));
    const int carried = p_.at(i).count - 3;
    constexpr int bounds = 8;
    constexpr int counter = 3;
    return out_.fits(i, bounds + factor * (all.instructions + counter) + carried,
                     2 * bounds + factor * (all.operands + 2 * counter) + 2 * carried);
  }

  constexpr value_id number(std::int64_t x) {
    return out_.emit({.op = opcode::constant, .value = x, .type = index_type});
  }
  constexpr value_id arithmetic(opcode op, value_id a, value_id b) {
    return out_.emit({.op = op, .type = index_type}, {a, b});
  }

  /// Opens a loop with the carried values `next`; its inputs stand for the old ones.
  constexpr value_id open(int i, value_id first, value_id end, value_id step,
                          std::span<value_id> next) {
    std::array<value_id, 256> operands{first, end, step};
    for (std::size_t k = 0; k < next.size(); ++k) {
      operands[3 + k] = next[k];
    }
    const value_id owner = out_.emit(p_.at(i), std::span(operands).first(3 + next.size()));
    for (int k = 0; k <= static_cast<int>(next.size()); ++k) {
      out_.copy(i + 1 + k);
    }
    return owner;
  }

  constexpr void copy_body(int i) {
    for (int k = i + 2 + (p_.at(i).count - 3); k < at(s_.last_yield, i); ++k) {
      out_.copy(k);
    }
  }

  constexpr void by_factor(int i, int factor) {
    const int carried = p_.at(i).count - 3;
    const int yield = at(s_.last_yield, i);
    const value_id first = out_[p_.operand(i, 0)];
    const value_id end = out_[p_.operand(i, 1)];
    const value_id step = out_[p_.operand(i, 2)];
    std::array<value_id, 256> values{};
    const auto next = std::span(values).first(static_cast<std::size_t>(carried));
    for (int k = 0; k < carried; ++k) {
      next[static_cast<std::size_t>(k)] = out_[p_.operand(i, 3 + k)];
    }
    // Whole groups of `factor` rounds; the loop after them takes what is left.
    const value_id span = arithmetic(opcode::max, arithmetic(opcode::sub, end, first), number(0));
    const value_id group = arithmetic(opcode::mul, step, number(factor));
    const value_id reach = arithmetic(opcode::mul, arithmetic(opcode::div, span, group), group);
    const value_id middle = arithmetic(opcode::add, first, reach);

    const value_id groups = open(i, first, middle, group, next);
    const value_id counter = out_[i + 1];
    for (int r = 0; r < factor; ++r) {
      if (r > 0) {
        const value_id ahead = arithmetic(opcode::mul, step, number(r));
        out_.replace(i + 1, arithmetic(opcode::add, counter, ahead));
      }
      copy_body(i);
      for (int k = 0; k < carried; ++k) {
        next[static_cast<std::size_t>(k)] = out_[p_.operand(yield, k)];
      }
      for (int k = 0; k < carried; ++k) {
        out_.replace(i + 2 + k, next[static_cast<std::size_t>(k)]);
      }
    }
    out_.emit(p_.at(yield), next);
    for (int k = 0; k < carried; ++k) {
      next[static_cast<std::size_t>(k)] =
          out_.emit({.op = opcode::result, .index = k, .type = p_.type_of(i + 2 + k)}, {groups});
    }
    const value_id rest = open(i, middle, end, step, next);
    copy_body(i);
    out_.copy(yield);
    out_.replace(i, rest);
  }

  const program& p_;
  structure s_;
  rewriter out_;
};

}  // namespace detail

/// Writes out loops with a known number of rounds, where `limits` allow and the program has room.
///
/// Cost: O(size of the result).
constexpr program unroll(const program& p, const unroll_limits& limits = {}) {
  return detail::unroller(p).whole(limits);
}

/// Does `factor` rounds of each innermost loop in one, and what is left in a loop after it.
///
/// Carried values pass through the rounds in the same order, so bits stay. A loop for which the
/// program has no room stays.
/// Requires: factor >= 1; every step times `factor` fits in 63 bits.
constexpr program unroll_by(const program& p, int factor) { return detail::unroller(p).by(factor); }

}  // namespace ashlar::tile::passes
