// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/fold.hpp"
#include "ashlar/tile/passes/identities.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

class canonicaliser {
 public:
  constexpr explicit canonicaliser(const program& p) : p_(p), s_(p), out_(p), simplify_(out_) {}

  constexpr program run() {
    range(0, p_.size);
    return out_.finish();
  }

 private:
  constexpr void range(int begin, int end) {
    for (int i = begin; i < end; i = step(i)) {
    }
  }

  /// Returns: the next instruction to look at.
  constexpr int step(int i) {
    const instruction& old = p_.at(i);
    switch (old.op) {
      case opcode::loop:
      case opcode::repeat:
        return repetition(i);
      case opcode::branch:
        return branch(i);
      case opcode::reduce:
      case opcode::scan:
        // One element along the axis: nothing is combined.
        if (p_.type_of(p_.operand(i, 0)).extent(old.index) == 1 && !at(s_.has_effect, i)) {
          out_.replace_results(i, old.first);
          return s_.after(p_, i);
        }
        out_.copy(i);
        return i + 1;
      case opcode::region_input:
        out_.copy(i);
        if (const int k = carried(i); k >= 0 && unchanged(at(s_.owner, i), k)) {
          out_.replace(i, initial(at(s_.owner, i), k));
        }
        return i + 1;
      case opcode::result:
        result(i);
        return i + 1;
      case opcode::require:
        if (uniform_constant(out_.so_far(), out_[p_.operand(i, 0)]).value_or(0) == 0) {
          out_.copy(i);
        }
        return i + 1;
      default:
        break;
    }
    const bool has_identity = old.op != opcode::yield && info(old.op).kind != opcode_kind::memory &&
                              old.count <= simplifier::most_operands;
    if (!has_identity || !out_.fits(i, simplifier::most_growth, 2 * simplifier::most_growth)) {
      out_.copy(i);
      return i + 1;
    }
    std::array<value_id, simplifier::most_operands> now{};
    for (std::size_t k = 0; k < old.count; ++k) {
      now[k] = out_[p_.operands(old)[k]];
    }
    out_.replace(i, simplify_(old, std::span(now).first(old.count)));
    return i + 1;
  }

  [[nodiscard]] constexpr std::optional<std::int64_t> constant_operand(int i, int k) const {
    return uniform_constant(out_.so_far(), out_[p_.operand(i, k)]);
  }

  /// `loop` and `repeat`: without a round they give what they were given.
  constexpr int repetition(int i) {
    bool never = false;
    if (p_.at(i).op == opcode::loop) {
      const auto first = constant_operand(i, 0);
      const auto end = constant_operand(i, 1);
      const auto step = constant_operand(i, 2);
      never = first && end && step && *step > 0 && *first >= *end;
    } else {
      const value_id condition = p_.operand(at(s_.first_yield, i), 0);
      never = !at(s_.has_effect, i) && p_.at(condition).op == opcode::constant &&
              p_.at(condition).value == 0;
    }
    if (never) {
      out_.replace_results(i, p_.at(i).first + operands_before_carried(p_.at(i).op));
      return s_.after(p_, i);
    }
    out_.copy(i);
    return i + 1;
  }

  constexpr int branch(int i) {
    const auto condition = constant_operand(i, 0);
    if (!condition) {
      out_.copy(i);
      return i + 1;
    }
    const int middle = at(s_.first_yield, i);
    const int end = at(s_.last_yield, i);
    *condition != 0 ? range(i + 1, middle) : range(middle + 1, end);
    out_.replace_results(i, p_.at(*condition != 0 ? middle : end).first);
    return end + 1;
  }

  /// Which carried value an input of a region is; -1 where it is none.
  [[nodiscard]] constexpr int carried(int input) const {
    const opcode op = p_.at(at(s_.owner, input)).op;
    const int k = p_.at(input).index;
    return op == opcode::loop ? k - 1 : op == opcode::repeat ? k : -1;
  }

  /// Whether each round hands a carried value on as it was.
  [[nodiscard]] constexpr bool unchanged(int owner, int k) const {
    const opcode op = p_.at(owner).op;
    if (op != opcode::loop && op != opcode::repeat) {
      return false;
    }
    const int body = op == opcode::loop ? owner + 2 : at(s_.first_yield, owner) + 1;
    const value_id next = p_.operand(at(s_.last_yield, owner), k);
    return next == body + k || next == p_.operand(owner, k + operands_before_carried(op));
  }
  [[nodiscard]] constexpr value_id initial(int owner, int k) const {
    return out_[p_.operand(owner, k + operands_before_carried(p_.at(owner).op))];
  }

  constexpr void result(int i) {
    const value_id owner = p_.operand(i, 0);
    const instruction& r = p_.at(i);
    if (out_.has_replaced_results(owner) && p_.at(owner).op == opcode::reduce) {
      const value_id x = out_[p_.operand(owner, r.index)];
      out_.replace(i, out_.emit({.op = opcode::reshape, .type = r.type}, {x}));
    } else if (!out_.has_replaced_results(owner) && unchanged(owner, r.index)) {
      out_.replace(i, initial(owner, r.index));
    } else {
      out_.copy(i);
    }
  }

  const program& p_;
  structure s_;
  rewriter out_;
  simplifier simplify_;
};

}  // namespace detail

/// Brings a program to its normal form: constants are folded and stand on the right, identities
/// that keep the bits are applied, regions that never or always run lose their frame.
///
/// What becomes unused stays for `remove_dead`; a second run may find more.
/// Cost: O(size).
constexpr program canonicalise(const program& p) { return detail::canonicaliser(p).run(); }

}  // namespace ashlar::tile::passes
