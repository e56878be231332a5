// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/scalar.hpp"

namespace ashlar::tile::passes {

/// The bits of a value that is one constant, repeated or not.
constexpr std::optional<std::int64_t> uniform_constant(const program& p, value_id v) {
  const instruction* i = &p.at(v);
  if (i->op == opcode::broadcast) {
    i = &p.at(p.operands(*i)[0]);
  }
  return i->op == opcode::constant ? std::optional(i->value) : std::nullopt;
}

/// The one form of a constant's bits: those of the number that the element type makes of them.
constexpr std::int64_t canonical_bits(dtype element, std::int64_t bits) {
  switch (element) {
    case dtype::int64:
    case dtype::float64:
      return bits;
    case dtype::int32:
      return static_cast<std::int32_t>(bits);
    default:
      break;
  }
  return eval::with_scalar(element, [&]<class T>(std::type_identity<T>) {
    if constexpr (std::integral<T>) {
      return constant_bits(static_cast<T>(bits));
    } else {
      const T x = eval::cast<T>(std::bit_cast<double>(bits));
      return constant_bits(static_cast<compute_type<T>>(x));
    }
  });
}

/// A constant of the type `to`, repeated where that is a tile.
constexpr value_id emit_constant(rewriter& out, std::int64_t bits, const tile_type& to) {
  const value_id scalar =
      out.emit({.op = opcode::constant, .value = bits, .type = scalar_type(to.element)});
  return to.is_scalar() ? scalar : out.emit({.op = opcode::broadcast, .type = to}, {scalar});
}

namespace detail {

/// The element type in which `eval::fold` reads the operands of `i`.
constexpr dtype folded_operand(const program& p, const instruction& i,
                               std::span<const value_id> operands) {
  return p.type_of(operands[i.op == opcode::select ? 1 : 0]).element;
}

/// What an elementwise instruction makes of operands that are all constants.
constexpr std::optional<std::int64_t> folded(const program& p, const instruction& i,
                                             std::span<const value_id> operands) {
  const opcode_kind kind = info(i.op).kind;
  const bool elementwise = kind == opcode_kind::unary || kind == opcode_kind::binary ||
                           kind == opcode_kind::compare || i.op == opcode::select;
  if (!elementwise) {
    return std::nullopt;
  }
  std::array<std::int64_t, 3> bits{};
  for (std::size_t k = 0; k < operands.size(); ++k) {
    const std::optional<std::int64_t> c = uniform_constant(p, operands[k]);
    if (!c) {
      return std::nullopt;
    }
    bits[k] = *c;
  }
  return eval::fold(i, folded_operand(p, i, operands), std::span(bits).first(operands.size()));
}

}  // namespace detail

/// Computes what constants decide: `eval::fold` over scalars and over tiles of one value.
///
/// Cost: O(size).
constexpr program fold_constants(const program& p) {
  rewriter out(p);
  for (int i = 0; i < p.size; ++i) {
    std::array<value_id, 3> now{};
    const instruction& old = p.at(i);
    if (old.count > 0 && old.count <= now.size() && out.fits(i, 1, 1)) {
      for (std::size_t k = 0; k < old.count; ++k) {
        now[k] = out[p.operands(old)[k]];
      }
      if (const auto bits = detail::folded(out.so_far(), old, std::span(now).first(old.count))) {
        out.replace(i, emit_constant(out, *bits, old.type));
        continue;
      }
    }
    out.copy(i);
  }
  return out.finish();
}

}  // namespace ashlar::tile::passes
