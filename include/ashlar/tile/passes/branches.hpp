// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

class branch_to_select {
 public:
  constexpr branch_to_select(const program& p, int most) : p_(p), s_(p), out_(p), most_(most) {}

  constexpr program run() {
    range(0, p_.size);
    return out_.finish();
  }

 private:
  constexpr void range(int begin, int end) {
    for (int i = begin; i < end;) {
      if (p_.at(i).op == opcode::branch && chosen_[static_cast<std::size_t>(i)]) {
        i = flatten(i);
      } else if (p_.at(i).op == opcode::branch && is_small(i)) {
        chosen_[static_cast<std::size_t>(i)] = true;
      } else if (p_.at(i).op == opcode::result &&
                 chosen_[static_cast<std::size_t>(p_.operand(i, 0))]) {
        choose(i);
        ++i;
      } else {
        out_.copy(i++);
      }
    }
  }

  /// Without effects, loops and reductions, and no longer than asked.
  [[nodiscard]] constexpr bool is_small(int i) const {
    const int end = at(s_.last_yield, i);
    const int results = p_.at(end).count;
    // The selects and their conditions take the places of the frame and of the results.
    if (at(s_.has_effect, i) || end - i - 2 > most_ || !out_.fits(i, results, 3 * results)) {
      return false;
    }
    for (int k = i + 1; k < end; ++k) {
      if (const opcode op = p_.at(k).op; info(op).regions > 0 && op != opcode::branch) {
        return false;
      }
    }
    return true;
  }

  constexpr int flatten(int i) {
    const int middle = at(s_.first_yield, i);
    const int end = at(s_.last_yield, i);
    range(i + 1, middle);
    range(middle + 1, end);
    return end + 1;
  }

  constexpr void choose(int i) {
    const value_id owner = p_.operand(i, 0);
    const tile_type& type = p_.type_of(i);
    const value_id yes = out_[p_.operand(at(s_.first_yield, owner), p_.at(i).index)];
    const value_id no = out_[p_.operand(at(s_.last_yield, owner), p_.at(i).index)];
    value_id condition = out_[p_.operand(owner, 0)];
    if (!type.is_scalar()) {
      condition =
          out_.emit({.op = opcode::broadcast, .type = type.with(dtype::boolean)}, {condition});
    }
    out_.replace(i, out_.emit({.op = opcode::select, .type = type}, {condition, yes, no}));
  }

  const program& p_;
  structure s_;
  rewriter out_;
  int most_;
  per_instruction<bool> chosen_{};
};

}  // namespace detail

/// Computes both sides of a branch and selects, where both together have at most `most`
/// instructions, no effect and no loop.
///
/// Loads may be computed in vain, never out of bounds: views are bounded.
/// Cost: O(size).
constexpr program branches_to_selects(const program& p, int most = 16) {
  return detail::branch_to_select(p, most).run();
}

}  // namespace ashlar::tile::passes
