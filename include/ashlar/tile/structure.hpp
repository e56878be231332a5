// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

namespace ashlar::tile {

/// A fact per instruction.
template <class T>
using per_instruction = std::array<T, program::max_instructions>;

template <class T>
constexpr T& at(per_instruction<T>& all, int i) {
  return all[static_cast<std::size_t>(i)];
}
template <class T>
constexpr const T& at(const per_instruction<T>& all, int i) {
  return all[static_cast<std::size_t>(i)];
}

/// Whether it writes memory: later loads may read something else.
constexpr bool writes(opcode op) {
  return op >= opcode::store && op <= opcode::atomic_min && op != opcode::gather;
}
constexpr bool reads(opcode op) { return op == opcode::load || op == opcode::gather; }

/// Where the regions of a program lie.
struct structure {
  static constexpr int max_depth = 64;

  per_instruction<value_id> owner{};        ///< of the innermost region around it; -1 where none
  per_instruction<std::int8_t> depth{};     ///< regions around it
  per_instruction<value_id> first_yield{};  ///< of an instruction with regions
  per_instruction<value_id> last_yield{};   ///< the same with one region
  per_instruction<bool> has_effect{};       ///< it or its regions: never removed, merged or moved
  per_instruction<bool> has_write{};        ///< it or its regions write memory

  /// Throws: `program_error` where a region is not ended or regions are nested too deep.
  constexpr explicit structure(const program& p) {
    std::array<value_id, max_depth> open{};
    std::array<int, max_depth> left{};
    int n = 0;
    for (int i = 0; i < p.size; ++i) {
      const opcode_info& about = info(p.at(i).op);
      const value_id around = n > 0 ? open[static_cast<std::size_t>(n - 1)] : value_id{-1};
      at(owner, i) = around;
      at(depth, i) = static_cast<std::int8_t>(n);
      if (about.effect) {
        at(has_effect, i) = true;
        at(has_write, i) = writes(p.at(i).op);
      } else if (about.regions > 0) {
        if (n == max_depth) {
          throw program_error("regions are nested too deep", i);
        }
        open[static_cast<std::size_t>(n)] = static_cast<value_id>(i);
        left[static_cast<std::size_t>(n++)] = about.regions;
        continue;
      } else if (p.at(i).op == opcode::yield && n > 0) {
        int& still = left[static_cast<std::size_t>(n - 1)];
        if (--still == info(p.at(around).op).regions - 1) {
          at(first_yield, around) = static_cast<value_id>(i);
        }
        if (still > 0) {
          continue;
        }
        at(last_yield, around) = static_cast<value_id>(i);
        --n;
        if (n > 0) {  // what it does, the region around it does
          const value_id outer = open[static_cast<std::size_t>(n - 1)];
          at(has_effect, outer) = at(has_effect, outer) || at(has_effect, around);
          at(has_write, outer) = at(has_write, outer) || at(has_write, around);
        }
        continue;
      }
      if (about.effect && n > 0) {
        at(has_effect, around) = true;
        at(has_write, around) = at(has_write, around) || at(has_write, i);
      }
    }
    if (n > 0) {
      throw program_error("its regions are not ended by a yield",
                          open[static_cast<std::size_t>(n - 1)]);
    }
  }

  /// The first instruction after `i` and its regions.
  [[nodiscard]] constexpr int after(const program& p, int i) const {
    return info(p.at(i).op).regions > 0 ? at(last_yield, i) + 1 : i + 1;
  }
};

/// What stands before the values that an instruction with regions carries, among its operands.
constexpr int operands_before_carried(opcode op) { return op == opcode::loop ? 3 : 0; }

}  // namespace ashlar::tile
