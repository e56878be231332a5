// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/fold.hpp"
#include "ashlar/tile/passes/identity_facts.hpp"
#include "ashlar/tile/passes/rewriter.hpp"

namespace ashlar::tile::passes::detail {

/// Appends an instruction, or finds a simpler way to say it.
///
/// Each identity holds bit by bit for every operand: signed zeros, infinities, the most negative
/// integer, which has no positive twin.
class simplifier {
 public:
  static constexpr std::size_t most_operands = 5;
  static constexpr int most_growth = 16;  ///< instructions that may stand for one

  constexpr explicit simplifier(rewriter& out) : out_(out), q_(out.so_far()) {}

  /// Returns: the value, old or new, in the new program.
  constexpr value_id operator()(instruction i, std::span<const value_id> operands) {
    std::array<value_id, most_operands> x{};
    const std::size_t n = operands.size();
    for (std::size_t k = 0; k < n; ++k) {
      x[k] = operands[k];
    }
    if (n > 0) {
      if (const auto bits = folded(q_, i, operands)) {
        return constant(*bits, i.type);
      }
    }
    if (n >= 2 && commutes(i)) {
      order(x[0], x[1]);
    }
    const value_id simple = identity(i, x);
    return simple >= 0 ? simple : out_.emit(i, std::span(x).first(n));
  }
  constexpr value_id operator()(const instruction& i, std::initializer_list<value_id> operands) {
    return (*this)(i, std::span(operands.begin(), operands.size()));
  }

 private:
  static constexpr value_id none = -1;
  using operands_of = std::array<value_id, most_operands>;

  static constexpr std::int64_t positive_zero = 0;
  static constexpr std::int64_t negative_zero = std::bit_cast<std::int64_t>(-0.0);
  static constexpr std::int64_t one = std::bit_cast<std::int64_t>(1.0);
  static constexpr std::int64_t minus_one = std::bit_cast<std::int64_t>(-1.0);

  constexpr value_id constant(std::int64_t bits, const tile_type& type) {
    return emit_constant(out_, bits, type);
  }
  [[nodiscard]] constexpr const instruction& def(value_id v) const { return q_.at(v); }
  [[nodiscard]] constexpr bool is(value_id v, opcode op) const { return q_.at(v).op == op; }
  [[nodiscard]] constexpr value_id of(value_id v, int k = 0) const { return q_.operand(v, k); }
  [[nodiscard]] constexpr std::optional<std::int64_t> known(value_id v) const {
    return uniform_constant(q_, v);
  }
  constexpr value_id unary(opcode op, value_id x) {
    return (*this)({.op = op, .type = q_.type_of(x)}, {x});
  }
  constexpr value_id binary(opcode op, value_id a, value_id b) {
    return (*this)({.op = op, .type = q_.type_of(a)}, {a, b});
  }

  /// Constants to the right, else the earlier value to the left.
  constexpr void order(value_id& a, value_id& b) const {
    const bool ca = known(a).has_value();
    const bool cb = known(b).has_value();
    if (ca != cb ? ca : a > b) {
      std::swap(a, b);
    }
  }

  constexpr value_id identity(instruction& i, operands_of& x) {
    switch (info(i.op).kind) {
      case opcode_kind::leaf:
        return leaf(i);
      case opcode_kind::unary:
        return i.op == opcode::cast || i.op == opcode::bitcast ? cast(i, x[0])
                                                               : one_operand(i, x[0]);
      case opcode_kind::binary: {
        const value_id v =
            is_floating(i.type.element) ? floating(i, x[0], x[1]) : integral(i, x[0], x[1]);
        return v >= 0 ? v : under_broadcast(i, x[0], x[1]);
      }
      case opcode_kind::compare: {
        const value_id v = compare(i, x[0], x[1]);
        return v >= 0 ? v : under_broadcast(i, x[0], x[1]);
      }
      case opcode_kind::ternary:
        return i.op == opcode::select ? select(i, x) : fma(i, x);
      case opcode_kind::shape:
        return shape(i, x);
      default:
        return none;
    }
  }

  constexpr value_id leaf(instruction& i) {
    if (i.op == opcode::constant) {
      i.value = canonical_bits(i.type.element, i.value);
    }
    const bool zero = i.op == opcode::iota && i.type.extent(i.index) == 1;
    return zero ? constant(0, i.type) : none;
  }

  // One operand ---------------------------------------------------------------------------------

  constexpr value_id one_operand(const instruction& i, value_id x) {
    switch (i.op) {
      case opcode::neg:
        if (is(x, opcode::neg)) {
          return of(x);
        }
        if (is(x, opcode::sub) && is_integral(i.type.element)) {  // not of floats: 0 - 0 is +0
          return binary(opcode::sub, of(x, 1), of(x, 0));
        }
        break;
      case opcode::abs:
        if (is(x, opcode::abs) || i.type.element == dtype::uint8) {
          return x;
        }
        if (is(x, opcode::neg)) {
          return unary(opcode::abs, of(x));
        }
        break;
      case opcode::floor:
        if (is(x, opcode::floor)) {
          return x;
        }
        break;
      case opcode::bit_not:
        if (is(x, opcode::bit_not)) {
          return of(x);
        }
        return negated_compare(i, x);
      default:
        return none;  // other functions may round differently in scalars and in vectors
    }
    if (is(x, opcode::broadcast)) {
      return widen(unary(i.op, of(x)), i.type);
    }
    return none;
  }

  /// The reverse of a comparison; that of `<` holds for NaN as well, so floats keep it.
  constexpr value_id negated_compare(const instruction& i, value_id x) {
    const bool ordered = is(x, opcode::less) || is(x, opcode::less_equal);
    if (is(x, opcode::equal) || is(x, opcode::not_equal)) {
      const opcode other = is(x, opcode::equal) ? opcode::not_equal : opcode::equal;
      return (*this)({.op = other, .type = i.type}, {of(x, 0), of(x, 1)});
    }
    if (ordered && is_integral(q_.type_of(of(x)).element)) {
      const opcode other = is(x, opcode::less) ? opcode::less_equal : opcode::less;
      return (*this)({.op = other, .type = i.type}, {of(x, 1), of(x, 0)});
    }
    return none;
  }

  constexpr value_id cast(instruction& i, value_id x) {
    const dtype from = q_.type_of(x).element;
    const dtype to = i.type.element;
    if (from == to) {
      return x;
    }
    if (i.op == opcode::cast && !(is_floating(from) && is_floating(to))) {
      i.index = 0;  // the rounding does not count
    }
    if (i.op == opcode::cast && is(x, opcode::cast) &&
        middle_is_idle(q_.type_of(of(x)).element, from, to, static_cast<rounding>(i.index))) {
      return (*this)(i, {of(x)});
    }
    if (i.op == opcode::bitcast && is(x, opcode::bitcast) && from != dtype::boolean) {
      return (*this)(i, {of(x)});
    }
    if (is(x, opcode::broadcast)) {
      instruction small = i;
      small.type = q_.type_of(of(x)).with(to);
      return widen((*this)(small, {of(x)}), i.type);
    }
    return none;
  }

  constexpr value_id widen(value_id x, const tile_type& to) {
    return (*this)({.op = opcode::broadcast, .type = to}, {x});
  }

  // Two operands --------------------------------------------------------------------------------

  constexpr value_id floating(const instruction& i, value_id a, value_id b) {
    const std::optional<std::int64_t> c = known(b);
    switch (i.op) {
      case opcode::add:  // x + 0 turns -0 to +0
        return c == negative_zero   ? a
               : is(b, opcode::neg) ? binary(opcode::sub, a, of(b))
               : is(a, opcode::neg) ? binary(opcode::sub, b, of(a))
                                    : none;
      case opcode::sub:
        return c == positive_zero          ? a
               : known(a) == negative_zero ? unary(opcode::neg, b)
               : is(b, opcode::neg)        ? binary(opcode::add, a, of(b))
                                           : none;
      case opcode::mul:
        return c == one                                   ? a
               : c == minus_one                           ? unary(opcode::neg, a)
               : is(a, opcode::neg) && is(b, opcode::neg) ? binary(opcode::mul, of(a), of(b))
                                                          : none;
      case opcode::div:
        return c == one         ? a
               : c == minus_one ? unary(opcode::neg, a)
               : c              ? by_reciprocal(i, a, *c)
                                : none;
      default:
        return a == b ? a : none;  // min, max
    }
  }

  constexpr value_id by_reciprocal(const instruction& i, value_id a, std::int64_t bits) {
    const auto reciprocal = exact_reciprocal(i.type.element, bits);
    return reciprocal ? binary(opcode::mul, a, constant(*reciprocal, i.type)) : none;
  }

  /// `(x op c1) op c2` as `x op (c1 op c2)`; integers wrap, so the order does not count.
  constexpr value_id gathered(const instruction& i, value_id a, std::int64_t c) {
    if (!is(a, i.op)) {
      return none;
    }
    const std::optional<std::int64_t> inner = known(of(a, 1));
    if (!inner) {
      return none;
    }
    const std::array<std::int64_t, 2> both{*inner, c};
    const auto joint = eval::fold(i, i.type.element, both);
    return joint ? binary(i.op, of(a), constant(*joint, i.type)) : none;
  }

  constexpr value_id integral(const instruction& i, value_id a, value_id b) {
    const std::optional<std::int64_t> c = known(b);
    const std::int64_t ones = all_ones(i.type.element);
    const bool same = a == b;
    switch (i.op) {
      case opcode::add:
        if (c == 0) {
          return a;
        }
        if (is(b, opcode::neg)) {
          return binary(opcode::sub, a, of(b));
        }
        return c ? gathered(i, a, *c) : none;
      case opcode::sub:
        if (same) {
          return constant(0, i.type);
        }
        if (c) {  // x + (-c): wraps to the same for the most negative number
          const std::array<std::int64_t, 2> minus{0, *c};
          return binary(opcode::add, a, constant(*eval::fold(i, i.type.element, minus), i.type));
        }
        return known(a) == 0        ? unary(opcode::neg, b)
               : is(b, opcode::neg) ? binary(opcode::add, a, of(b))
                                    : none;
      case opcode::mul:
        if (c == 0) {
          return b;
        }
        if (c == 1) {
          return a;
        }
        if (c == -1) {
          return unary(opcode::neg, a);
        }
        return c ? gathered(i, a, *c) : none;
      case opcode::div:
        return c == 1 ? a : c == -1 ? unary(opcode::neg, a) : c == 0 ? b : known(a) == 0 ? a : none;
      case opcode::rem:
        return same || c == 1 || c == -1 || known(a) == 0 ? constant(0, i.type) : c == 0 ? a : none;
      case opcode::bit_and:
        return same || c == ones ? a : c == 0 ? b : c ? gathered(i, a, *c) : none;
      case opcode::bit_or:
        return same || c == 0 ? a : c == ones ? b : c ? gathered(i, a, *c) : none;
      case opcode::bit_xor:
        return same ? constant(0, i.type) : c == 0 ? a : c ? gathered(i, a, *c) : none;
      case opcode::shift_left:
      case opcode::shift_right:
        return c == 0 || known(a) == 0 ? a : none;
      default:
        return same ? a : c ? gathered(i, a, *c) : none;  // min, max
    }
  }

  constexpr value_id compare(const instruction& i, value_id a, value_id b) {
    if (a != b) {
      return none;
    }
    const bool whole = is_integral(q_.type_of(a).element);
    switch (i.op) {
      case opcode::less:
        return constant(0, i.type);
      case opcode::not_equal:  // whether it is NaN
        return whole ? constant(0, i.type) : none;
      default:
        return whole ? constant(1, i.type) : none;
    }
  }

  /// Computes before repeating where both operands are repeated alike. Arithmetic only, whose
  /// rounding is the same in scalars and in vectors.
  constexpr value_id under_broadcast(const instruction& i, value_id a, value_id b) {
    if (!is(a, opcode::broadcast) && !is(b, opcode::broadcast)) {
      return none;
    }
    const std::optional<std::int64_t> left = known(a);
    const std::optional<std::int64_t> right = known(b);
    value_id x = is(a, opcode::broadcast) ? of(a) : none;
    value_id y = is(b, opcode::broadcast) ? of(b) : none;
    if (right && x >= 0 && !(left && right)) {
      y = constant(*right, q_.type_of(x));
    } else if (left && y >= 0 && !(left && right)) {
      x = constant(*left, q_.type_of(y));
    }
    if (x < 0 || y < 0 || q_.type_of(x) != q_.type_of(y)) {
      return none;
    }
    instruction small = i;
    small.type = q_.type_of(x).with(i.type.element);
    return widen((*this)(small, {x, y}), i.type);
  }

  // Three operands ------------------------------------------------------------------------------

  constexpr value_id select(const instruction& i, const operands_of& x) {
    if (const auto condition = known(x[0])) {
      return *condition != 0 ? x[1] : x[2];
    }
    if (x[1] == x[2]) {
      return x[1];
    }
    if (i.type.element == dtype::boolean) {
      const auto yes = known(x[1]);
      const auto no = known(x[2]);
      if (yes == 1 && no == 0) {
        return x[0];
      }
      if (yes == 0 && no == 1) {
        return unary(opcode::bit_not, x[0]);
      }
    }
    return is(x[0], opcode::bit_not) ? (*this)(i, {of(x[0]), x[2], x[1]}) : none;
  }

  constexpr value_id fma(const instruction&, const operands_of& x) {
    const auto b = known(x[1]);
    return b == one                       ? binary(opcode::add, x[0], x[2])
           : b == minus_one               ? binary(opcode::sub, x[2], x[0])
           : known(x[2]) == negative_zero ? binary(opcode::mul, x[0], x[1])
                                          : none;
  }

  // Shape ---------------------------------------------------------------------------------------

  /// Whether it repeats one scalar, so that its shape says all.
  [[nodiscard]] constexpr bool repeats_scalar(value_id v) const {
    return is(v, opcode::broadcast) && q_.type_of(of(v)).is_scalar();
  }

  constexpr value_id shape(instruction& i, const operands_of& x) {
    const value_id a = x[0];
    const tile_type& t = q_.type_of(a);
    if (i.op == opcode::unpack_nibbles) {
      return none;
    }
    if (i.op == opcode::join) {
      const bool halves = is(a, opcode::split) && is(x[1], opcode::split) && of(a) == of(x[1]) &&
                          def(a).index == 0 && def(x[1]).index == 1;
      return halves ? of(a) : a == x[1] && repeats_scalar(a) ? widen(of(a), i.type) : none;
    }
    if (i.type == t && (i.op != opcode::transpose || is_in_order(i))) {
      return a;
    }
    if (i.op != opcode::broadcast && repeats_scalar(a)) {
      return widen(of(a), i.type);
    }
    switch (i.op) {
      case opcode::broadcast:
        if (is(a, opcode::broadcast) || adds_leading_ones(q_, a)) {
          return widen(of(a), i.type);
        }
        return none;
      case opcode::reshape:
        if (is(a, opcode::reshape)) {
          return (*this)(i, {of(a)});
        }
        return t.is_scalar() ? widen(a, i.type) : none;
      case opcode::transpose:
        return is(a, opcode::transpose) ? transpose_both(i, a) : none;
      default:  // split
        return is(a, opcode::join) ? of(a, i.index) : none;
    }
  }

  constexpr value_id transpose_both(instruction i, value_id inner) {
    i.value = composed_axes(i.value, def(inner).value, i.type.rank);
    return (*this)(i, {of(inner)});
  }

  rewriter& out_;
  const program& q_;
};

}  // namespace ashlar::tile::passes::detail
