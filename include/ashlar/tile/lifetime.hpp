// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile {

/// How often each value of a program is used, and until where it must be kept.
///
/// A value's room is its own from its instruction to `last_use`, both included: with these as
/// intervals, values that may share room do not overlap.
struct lifetimes {
  per_instruction<std::int16_t> uses{};
  /// The last instruction that may read it; the value itself where none does. What a loop, a
  /// reduction or a scan reads in more than one round lives until the `yield` that ends it.
  per_instruction<value_id> last_use{};

  constexpr explicit lifetimes(const program& p) : lifetimes(p, structure(p)) {}

  constexpr lifetimes(const program& p, const structure& s) {
    for (int i = 0; i < p.size; ++i) {
      at(last_use, i) = static_cast<value_id>(i);
      for (int k = 0; k < p.at(i).count; ++k) {
        const value_id o = p.operand(i, k);
        ++at(uses, o);
        const value_id end = last_read(p, s, o, i, k);
        at(last_use, o) = end > at(last_use, o) ? end : at(last_use, o);
      }
    }
  }

 private:
  static constexpr bool reads_each_round(const program& p, int i, int k) {
    const opcode op = p.at(i).op;
    return op == opcode::reduce || op == opcode::scan || (op == opcode::loop && (k == 1 || k == 2));
  }

  /// Where the operand `k` of `i`, the value `o`, is read for the last time.
  static constexpr value_id last_read(const program& p, const structure& s, value_id o, int i,
                                      int k) {
    value_id end = reads_each_round(p, i, k) ? at(s.last_yield, i) : static_cast<value_id>(i);
    for (value_id around = at(s.owner, i); around >= 0 && at(s.depth, around) >= at(s.depth, o);
         around = at(s.owner, around)) {
      if (p.at(around).op != opcode::branch) {
        end = at(s.last_yield, around);
      }
    }
    return end;
  }
};

}  // namespace ashlar::tile
