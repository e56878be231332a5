// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/fold.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

/// Uses of each value, by operands.
constexpr per_instruction<std::int16_t> count_uses(const program& p) {
  per_instruction<std::int16_t> uses{};
  for (int i = 0; i < p.size; ++i) {
    for (const value_id o : p.operands(i)) {
      ++at(uses, o);
    }
  }
  return uses;
}

}  // namespace detail

/// Turns a product that is used once, in a sum or a difference, into `fma`.
///
/// Changes bits: the product is not rounded by itself any more where the machine has `fma`. The
/// result then differs by at most the rounding of the product: unit roundoff times |a b|, and what
/// the rounding of the sum makes of that.
/// Cost: O(size); the products stay for `remove_dead`.
constexpr program fuse_multiply_add(const program& p) {
  const per_instruction<std::int16_t> uses = detail::count_uses(p);
  const auto product = [&](value_id v) { return p.at(v).op == opcode::mul && at(uses, v) == 1; };
  rewriter out(p);
  for (int i = 0; i < p.size; ++i) {
    const instruction& old = p.at(i);
    const bool sum = old.op == opcode::add || old.op == opcode::sub;
    if (!sum || !is_floating(old.type.element) || !out.fits(i, 2, 3)) {
      out.copy(i);
      continue;
    }
    const value_id x = p.operand(i, 0);
    const value_id y = p.operand(i, 1);
    const instruction fma{.op = opcode::fma, .type = old.type};
    const instruction neg{.op = opcode::neg, .type = old.type};
    if (product(x)) {  // a b + y, a b - y
      const value_id c = old.op == opcode::add ? out[y] : out.emit(neg, {out[y]});
      out.replace(i, out.emit(fma, {out[p.operand(x, 0)], out[p.operand(x, 1)], c}));
    } else if (product(y)) {  // x + a b, x - a b
      const value_id a = out[p.operand(y, 0)];
      const value_id minus = old.op == opcode::add ? a : out.emit(neg, {a});
      out.replace(i, out.emit(fma, {minus, out[p.operand(y, 1)], out[x]}));
    } else {
      out.copy(i);
    }
  }
  return out.finish();
}

namespace detail {

/// Whether no element is NaN, as far as the instruction alone tells.
constexpr bool never_nan(const program& p, value_id v) {
  const instruction* i = &p.at(v);
  if (i->op == opcode::broadcast) {
    i = &p.at(p.operands(*i)[0]);
  }
  if (is_integral(i->type.element)) {
    return true;
  }
  if (i->op == opcode::constant) {
    constexpr std::int64_t infinity = 0x7ff0000000000000;
    return (i->value & 0x7fffffffffffffff) <= infinity;
  }
  return i->op == opcode::cast && is_integral(p.type_of(p.operands(*i)[0]).element);
}

}  // namespace detail

/// Turns `select` of a comparison of its own two operands into `min` or `max`, where no bit
/// changes.
///
/// `max(a, b)` is `b` unless `a > b`, and `a` where that is NaN (`fn::maximum`; `min` alike). So
/// `select(a > b, a, b)` is `max(a, b)` where `a` is never NaN: of integers, and where `a` is a
/// constant or comes from an integer. `select(x < 0, 0, x)` is one; `select(x > 0, x, 0)`, which
/// makes 0 of NaN, is none.
/// Cost: O(size).
constexpr program select_to_min_max(const program& p) {
  rewriter out(p);
  for (int i = 0; i < p.size; ++i) {
    const instruction& old = p.at(i);
    if (old.op == opcode::select) {
      const value_id condition = p.operand(i, 0);
      const value_id yes = p.operand(i, 1);
      const value_id no = p.operand(i, 2);
      const instruction& asked = p.at(condition);
      const bool strict = asked.op == opcode::less;
      // Of equal integers it does not matter which; of floats -0 and +0 are equal.
      const bool weak = asked.op == opcode::less_equal && is_integral(old.type.element);
      if ((strict || weak) && old.type.element != dtype::boolean && detail::never_nan(p, yes)) {
        const value_id a = p.operand(condition, 0);
        const value_id b = p.operand(condition, 1);
        const bool least = a == yes && b == no;
        if (least || (b == yes && a == no)) {
          const opcode op = least ? opcode::min : opcode::max;
          out.replace(i, out.emit({.op = op, .type = old.type}, {out[yes], out[no]}));
          continue;
        }
      }
    }
    out.copy(i);
  }
  return out.finish();
}

}  // namespace ashlar::tile::passes
