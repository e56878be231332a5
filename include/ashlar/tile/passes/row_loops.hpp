// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// Which programs go over parts of a row in several loops, and how long they become: see
/// `few_rounds`.
namespace ashlar::tile::passes::detail {

struct row_loops {
  constexpr explicit row_loops(const program& p) : p_(p), s_(p) { find_early(); }

  [[nodiscard]] constexpr bool is_top_loop(int i) const {
    return p_.at(i).op == opcode::loop && at(s_.owner, i) < 0;
  }
  [[nodiscard]] constexpr std::int64_t step_of(int loop) const {
    return p_.at(p_.operand(loop, 2)).value;
  }
  [[nodiscard]] constexpr bool starts_at_constant(int loop) const {
    return p_.at(p_.operand(loop, 0)).op == opcode::constant;
  }
  [[nodiscard]] constexpr int rounds_of(int loop, int most) const {
    return starts_at_constant(loop) ? most : 1;
  }

  /// Scalars that follow from the launch alone: they are computed before a version is chosen.
  constexpr void find_early() {
    for (int i = 0; i < p_.size; ++i) {
      const opcode_kind kind = info(p_.at(i).op).kind;
      const bool plain = kind == opcode_kind::unary || kind == opcode_kind::binary ||
                         kind == opcode_kind::compare || kind == opcode_kind::ternary ||
                         (kind == opcode_kind::leaf && p_.at(i).op != opcode::region_input);
      bool early = plain && at(s_.owner, i) < 0 && p_.type_of(i).is_scalar();
      for (const value_id o : p_.operands(i)) {
        early = early && at(early_, o);
      }
      at(early_, i) = early;
    }
  }

  /// Two loops or more, one after the other, of which none holds another, and no effects but
  /// stores.
  [[nodiscard]] constexpr bool is_suitable() const {
    int loops = 0;
    for (int i = 0; i < p_.size; ++i) {
      const instruction& now = p_.at(i);
      if (is_top_loop(i)) {
        const instruction& step = p_.at(p_.operand(i, 2));
        if (step.op != opcode::constant || step.value <= 0 || !at(early_, p_.operand(i, 0)) ||
            !at(early_, p_.operand(i, 1))) {
          return false;
        }
        ++loops;
      } else if (now.op == opcode::loop || now.op == opcode::repeat || now.op == opcode::branch ||
                 (info(now.op).effect && now.op != opcode::store)) {
        return false;
      }
      const value_id around = at(s_.owner, i);
      if ((reads(now.op) || writes(now.op)) && around >= 0 && !is_top_loop(around)) {
        return false;
      }
    }
    return loops > 1;
  }

  /// Instructions and operands, as a program has room for them.
  struct length {
    int instructions = 0, operands = 0;
    constexpr length& operator+=(const length& o) {
      instructions += o.instructions;
      operands += o.operands;
      return *this;
    }
    constexpr length& add(int n, const length& o) {
      return *this += {n * o.instructions, n * o.operands};
    }
  };
  /// At most what a version with so many rounds adds.
  [[nodiscard]] constexpr length length_of_version(int most) const {
    length sum{3, 1};  // the branch and its ends
    for (int i = 0; i < p_.size; i = s_.after(p_, i)) {
      if (!is_top_loop(i)) {
        if (!at(early_, i)) {
          const int end = s_.after(p_, i);
          sum += {end - i, operands_of(i, end)};
        }
        continue;
      }
      const int carried = p_.at(i).count - 3;
      const int body = i + 2 + carried;
      const int end = at(s_.last_yield, i);
      int stores = 0;
      for (int k = body; k < end; ++k) {
        stores += p_.at(k).op == opcode::store ? 1 : 0;
      }
      sum.add(rounds_of(i, most), {end - body + 2 + 2 * carried + 3 * stores,
                                   operands_of(body, end) + 2 + 4 * carried + stores});
      sum += starts_at_constant(i) ? length{3, 4} : length{9, 12};  // see `fits_in`
      sum.add(stores > 0 ? 1 : 0, {2, 4});
    }
    return sum;
  }
  [[nodiscard]] constexpr int operands_of(int begin, int end) const {
    int n = 0;
    for (int i = begin; i < end; ++i) {
      n += p_.at(i).count;
    }
    return n;
  }

  const program& p_;
  structure s_;
  per_instruction<bool> early_{};  ///< scalars that follow from the launch alone
};

}  // namespace ashlar::tile::passes::detail
