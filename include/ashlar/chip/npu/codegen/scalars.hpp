// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>

#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// Integer scalars: the control engine's registers.
namespace ashlar::chip::npu_codegen {

namespace detail {

/// Cuts a register to the width of `e`, in place.
inline void cut(lowering& l, dtype e, isa::value r) {
  if (e == dtype::int64) {
    return;
  }
  if (e == dtype::boolean) {
    return l.compute_into(r, isa::opcode::s_ne, r, 0);
  }
  if (e == dtype::uint8) {
    return l.compute_into(r, isa::opcode::s_and, r, 255);
  }
  const int unused = e == dtype::int32 ? 32 : 56;
  l.compute_into(r, isa::opcode::s_shl, r, unused);
  l.compute_into(r, isa::opcode::s_shr, r, unused);
}

constexpr isa::opcode scalar_opcode(tile::opcode op) {
  using tile::opcode;
  switch (op) {
    case opcode::add:
      return isa::opcode::s_add;
    case opcode::sub:
      return isa::opcode::s_sub;
    case opcode::mul:
      return isa::opcode::s_mul;
    case opcode::div:
      return isa::opcode::s_div;
    case opcode::rem:
      return isa::opcode::s_rem;
    case opcode::min:
      return isa::opcode::s_min;
    case opcode::max:
      return isa::opcode::s_max;
    case opcode::bit_and:
      return isa::opcode::s_and;
    case opcode::bit_or:
      return isa::opcode::s_or;
    case opcode::bit_xor:
      return isa::opcode::s_xor;
    case opcode::equal:
      return isa::opcode::s_eq;
    case opcode::not_equal:
      return isa::opcode::s_ne;
    case opcode::less:
      return isa::opcode::s_lt;
    default:
      return isa::opcode::s_le;
  }
}

}  // namespace detail

/// Whether the control engine computes the instruction: integer scalars from integer scalars.
inline bool is_scalar_code(const lowering& l, int i) {
  const tile::instruction& code = l.p.at(i);
  const tile::opcode_kind kind = tile::info(code.op).kind;
  if (kind < tile::opcode_kind::unary || kind > tile::opcode_kind::ternary ||
      !code.type.is_scalar() || !is_integral(code.type.element)) {
    return false;
  }
  for (int k = 0; k < code.count; ++k) {
    const place& o = l.operand(i, k);
    if (!is_integral(l.p.type_of(l.p.operand(i, k)).element) || o.in_scratch()) {
      return false;
    }
  }
  return true;
}

/// Lowers instruction `i`, for which `is_scalar_code` holds.
inline place scalar_code(lowering& l, int i) {
  using tile::opcode;
  const tile::instruction& code = l.p.at(i);
  const dtype e = l.p.type_of(l.p.operand(i, 0)).element;
  const lowering::scope temporaries(l);
  const auto in = [&](int k) { return l.scalar(l.operand(i, k)); };
  isa::value r{l.fresh(), 0};
  switch (code.op) {
    case opcode::neg:
      l.compute_into(r, isa::opcode::s_sub, 0, in(0));
      detail::cut(l, e, r);
      break;
    case opcode::abs: {
      const isa::value x = in(0);
      l.compute_into(r, isa::opcode::s_sub, 0, x);
      l.compute_into(r, isa::opcode::s_max, r, x);
      detail::cut(l, e, r);
      break;
    }
    case opcode::bit_not:
      l.compute_into(r, isa::opcode::s_xor, in(0), e == dtype::boolean ? 1 : -1);
      detail::cut(l, e, r);
      break;
    case opcode::cast:
    case opcode::bitcast:
      l.compute_into(r, isa::opcode::s_add, in(0), 0);
      detail::cut(l, code.type.element, r);
      break;
    case opcode::shift_left:
    case opcode::shift_right: {
      const isa::value x = in(0);
      const isa::value by = in(1);
      const int width = 8 * static_cast<int>(size_of(e));
      const isa::value inside = l.compute(isa::opcode::s_lt, by, width);
      l.compute_into(inside, isa::opcode::s_and, inside, l.compute(isa::opcode::s_le, 0, by));
      if (code.op == opcode::shift_left || e == dtype::uint8) {  // times 1 or 0
        l.compute_into(r, code.op == opcode::shift_left ? isa::opcode::s_shl : isa::opcode::s_shr,
                       x, by);
        l.compute_into(r, isa::opcode::s_mul, r, inside);
      } else {  // the sign stays: shift by the amount or by 63
        l.compute_into(r, isa::opcode::s_sub, inside, 1);
        l.compute_into(r, isa::opcode::s_or, r, by);
        l.compute_into(r, isa::opcode::s_shr, x, r);
      }
      detail::cut(l, e, r);
      break;
    }
    case opcode::select: {  // no ^ ((yes ^ no) & -condition)
      const isa::value no = in(2);
      l.compute_into(r, isa::opcode::s_xor, in(1), no);
      l.compute_into(r, isa::opcode::s_and, r, l.compute(isa::opcode::s_sub, 0, in(0)));
      l.compute_into(r, isa::opcode::s_xor, r, no);
      break;
    }
    default:
      l.compute_into(r, detail::scalar_opcode(code.op), in(0), in(1));
      detail::cut(l, code.type.element, r);
  }
  place made{.where = place::kind::scalar, .type = code.type};
  made.home = l.new_home(l.facts.last_use(i));
  l.write_home(made.home, r);
  return made;
}

/// Brings a scalar from the scratchpad into a register.
inline place loaded_scalar(lowering& l, const place& x, int last) {
  const lowering::scope temporaries(l);
  const isa::element e = element_of(x.type.element);
  const std::uint8_t r = l.fresh();
  const auto at = static_cast<std::int32_t>(x.at.offset * isa::size_of(e));
  l.add(
      {.op = isa::opcode::s_load, .type = e, .rd = r, .a = {isa::operand_kind::scratch, at, 0, 0}},
      {-1, x.buffer, -1, -1});
  place made{.where = place::kind::scalar, .type = x.type};
  made.home = l.new_home(last);
  l.write_home(made.home, {r, 0});
  return made;
}

}  // namespace ashlar::chip::npu_codegen
