// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

class loop_invariants {
 public:
  constexpr explicit loop_invariants(const program& p) : p_(p), s_(p), out_(p) { find_levels(); }

  constexpr program run() {
    for (int i = 0; i < p_.size; ++i) {
      const opcode op = p_.at(i).op;
      if (op == opcode::loop || op == opcode::repeat) {
        hoist_to(i);
      }
      if (!at(placed_, i)) {
        out_.copy(i);
      }
    }
    return out_.finish();
  }

 private:
  /// How far out each value may be computed, as a number of regions around it.
  constexpr void find_levels() {
    for (int i = 0; i < p_.size; ++i) {
      const opcode op = p_.at(i).op;
      std::int8_t level = at(s_.depth, i);
      const bool folds = is_fold(i);
      const bool of_fold = op == opcode::result && is_fold(p_.operand(i, 0));
      const bool stays = info(op).effect || (info(op).regions > 0 && !folds) ||
                         op == opcode::yield || op == opcode::region_input ||
                         (op == opcode::result && !of_fold);
      if (!stays) {
        const int least = folds ? least_level(i, at(s_.last_yield, i)) : least_level(i, i);
        for (value_id around = at(s_.owner, i); around >= 0 && level > least;
             around = at(s_.owner, around)) {
          const opcode frame = p_.at(around).op;
          if ((frame != opcode::loop && frame != opcode::repeat) ||
              ((reads(op) || folds) && at(s_.has_write, around))) {
            break;
          }
          --level;
        }
      }
      at(levels_, i) = level;
    }
  }

  /// A reduction or scan without effects: it moves with its region.
  [[nodiscard]] constexpr bool is_fold(int i) const {
    const opcode op = p_.at(i).op;
    return (op == opcode::reduce || op == opcode::scan) && !at(s_.has_effect, i);
  }

  /// The innermost level of what the instructions from `first` to `last` use from before them.
  [[nodiscard]] constexpr int least_level(int first, int last) const {
    int least = 0;
    for (int i = first; i <= last; ++i) {
      for (const value_id o : p_.operands(i)) {
        if (o < first && at(levels_, o) > least) {
          least = at(levels_, o);
        }
      }
    }
    return least;
  }

  /// Emits, before the loop `i`, what can be computed there and no further out.
  constexpr void hoist_to(int i) {
    const std::int8_t here = at(s_.depth, i);
    const int end = at(s_.last_yield, i);
    for (int k = i + 1; k < end; ++k) {
      if (at(levels_, k) == here && !at(placed_, k)) {
        for (int m = k; m < s_.after(p_, k); ++m) {
          at(placed_, m) = true;
          out_.copy(m);
        }
      }
    }
  }

  const program& p_;
  structure s_;
  rewriter out_;
  per_instruction<std::int8_t> levels_{};
  per_instruction<bool> placed_{};
};

}  // namespace detail

/// Computes before a loop what is the same in each of its rounds.
///
/// Loads, and reductions and scans, which may load, move only out of loops that write nothing.
/// Nothing leaves the region of a branch, a reduction or a scan: those stay as small as they were.
/// What a loop without a round would not have computed is harmless: no operation traps and views
/// are bounded. Cost: O(size * depth).
constexpr program hoist_invariants(const program& p) { return detail::loop_invariants(p).run(); }

}  // namespace ashlar::tile::passes
