// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>

#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

/// Finds what effects need, going from uses to operands.
///
/// Each value that an instruction with regions carries, combines or gives is a slot with a life of
/// its own: a carried value that only feeds itself is dead.
class dead_code {
 public:
  constexpr explicit dead_code(const program& p) : p_(p), s_(p), out_(p) {}

  constexpr program run() {
    for (int i = 0; i < p_.size; ++i) {
      if (info(p_.at(i).op).effect) {
        need(i);
      }
    }
    while (waiting_ > 0) {
      visit(work_[static_cast<std::size_t>(--waiting_)]);
    }
    for (int i = 0; i < p_.size; i = copy(i)) {
    }
    return out_.finish();
  }

 private:
  constexpr void need(int i) {
    if (!at(live_, i)) {
      at(live_, i) = true;
      work_[static_cast<std::size_t>(waiting_++)] = static_cast<value_id>(i);
    }
  }
  constexpr void need_operands(int i) {
    for (const value_id o : p_.operands(i)) {
      need(o);
    }
  }

  /// The slots of an instruction with regions stand in the list of operands: those of `branch` are
  /// its first region's, all others its own.
  [[nodiscard]] constexpr int first_slot(int owner) const {
    const instruction& o = p_.at(owner);
    return o.op == opcode::branch ? p_.at(at(s_.first_yield, owner)).first
                                  : o.first + operands_before_carried(o.op);
  }
  [[nodiscard]] constexpr int slot_count(int owner) const {
    const instruction& o = p_.at(owner);
    return o.op == opcode::branch ? p_.at(at(s_.first_yield, owner)).count
                                  : o.count - operands_before_carried(o.op);
  }
  [[nodiscard]] constexpr bool slot_live(int owner, int k) const {
    return slots_[static_cast<std::size_t>(first_slot(owner) + k)];
  }

  constexpr void need_slot(int owner, int k) {
    const int slot = first_slot(owner) + k;
    if (slots_[static_cast<std::size_t>(slot)]) {
      return;
    }
    slots_[static_cast<std::size_t>(slot)] = true;
    need(owner);
    need(p_.operand_list[static_cast<std::size_t>(slot)]);
    need(p_.operand(at(s_.last_yield, owner), k));
  }

  /// Which slot an input of a region belongs to; -1 for the counter of a loop.
  [[nodiscard]] constexpr int slot_of_input(int owner, int input) const {
    switch (p_.at(owner).op) {
      case opcode::loop:
        return input - 1;
      case opcode::reduce:
      case opcode::scan:
        return input % p_.at(owner).count;
      default:
        return input;
    }
  }

  constexpr void visit(int i) {
    const instruction& now = p_.at(i);
    const value_id around = at(s_.owner, i);
    if (around >= 0) {
      need(around);
    }
    switch (now.op) {
      case opcode::result:
        need_slot(p_.operand(i, 0), now.index);
        break;
      case opcode::region_input:
        if (const int k = slot_of_input(around, now.index); k >= 0) {
          need_slot(around, k);
        }
        break;
      case opcode::loop:
        for (int k = 0; k < 3; ++k) {
          need(p_.operand(i, k));
        }
        break;
      case opcode::repeat:
        need_operands(at(s_.first_yield, i));
        break;
      case opcode::reduce:
      case opcode::scan:
        if (at(s_.has_effect, i)) {
          for (int k = 0; k < now.count; ++k) {
            need_slot(i, k);
          }
        }
        break;
      default:
        need_operands(i);
        break;
    }
  }

  /// Copies `i` if it is live. Returns: the next to look at.
  constexpr int copy(int i) {
    const instruction& now = p_.at(i);
    const value_id around = at(s_.owner, i);
    if (now.op == opcode::yield) {
      const bool condition = p_.at(around).op == opcode::repeat && i != at(s_.last_yield, around);
      copy_slots(i, around, 0, condition);
    } else if (now.op == opcode::region_input) {
      copy_input(i, around);
    } else if (!at(live_, i)) {
      return s_.after(p_, i);
    } else if (info(now.op).regions > 0) {
      copy_slots(i, i, now.op == opcode::branch ? 1 : operands_before_carried(now.op), false);
    } else if (now.op == opcode::result) {
      const int owner = p_.operand(i, 0);
      instruction r = now;
      r.index = live_before(owner, now.index);
      out_.replace(i, out_.emit(r, {out_[owner]}));
    } else {
      out_.copy(i);
    }
    return i + 1;
  }

  /// Copies with the operands before `keep`, and after it those whose slots live.
  constexpr void copy_slots(int i, int owner, int keep, bool all) {
    std::array<value_id, 256> kept{};
    std::size_t n = 0;
    const auto operands = p_.operands(i);
    for (int k = 0; k < static_cast<int>(operands.size()); ++k) {
      if (all || k < keep || slot_live(owner, k - keep)) {
        kept[n++] = out_[operands[static_cast<std::size_t>(k)]];
      }
    }
    out_.replace(i, out_.emit(p_.at(i), std::span(kept).first(n)));
  }

  constexpr void copy_input(int i, int owner) {
    instruction input = p_.at(i);
    const int k = slot_of_input(owner, input.index);
    if (k >= 0) {
      if (!slot_live(owner, k)) {
        return;
      }
      const int counters = p_.at(owner).op == opcode::loop ? 1 : 0;
      const bool right = input.index - counters != k;  // of two that are combined
      input.index =
          counters + live_before(owner, k) + (right ? live_before(owner, slot_count(owner)) : 0);
    }
    out_.replace(i, out_.emit(input));
  }

  [[nodiscard]] constexpr int live_before(int owner, int k) const {
    int n = 0;
    for (int j = 0; j < k; ++j) {
      n += slot_live(owner, j) ? 1 : 0;
    }
    return n;
  }

  const program& p_;
  structure s_;
  rewriter out_;
  per_instruction<bool> live_{};
  std::array<bool, program::max_operands> slots_{};
  per_instruction<value_id> work_{};
  int waiting_ = 0;
};

}  // namespace detail

/// Removes what no effect needs: values, loads, instructions with regions, and carried values that
/// nothing but they themselves use.
///
/// Effects (writes, `print`, `require`) stay, in order. A loop without effects counts as one that
/// ends.
/// Cost: O(size).
constexpr program remove_dead(const program& p) { return detail::dead_code(p).run(); }

}  // namespace ashlar::tile::passes
