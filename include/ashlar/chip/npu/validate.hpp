// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>
#include <string_view>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

namespace ashlar::chip::npu_isa {

inline constexpr std::int32_t max_constant = (1 << 23) - 1;  ///< of a `value`
inline constexpr std::int32_t max_stride = (1 << 16) - 1;    ///< of an `operand`

namespace detail {

constexpr bool fits(const value& v) {
  return v.reg < register_count && v.imm <= max_constant && v.imm >= -max_constant - 1;
}
constexpr bool fits(std::int32_t stride) {
  return stride <= max_stride && stride >= -max_stride - 1;
}

constexpr std::string_view problem_of(const operand& o, bool used, bool scalars, bool immediate) {
  if (!used) {
    return o == operand{} ? "" : "an operand that the opcode does not have";
  }
  if (!fits(o.base) || !fits(o.row_stride) || !fits(o.col_stride)) {
    return "a register, a constant or a stride of an operand is out of range";
  }
  if (o.kind == operand_kind::scratch) {
    return "";
  }
  if (o.kind > operand_kind::immediate || !scalars) {
    return "this operand must lie in the scratchpad";
  }
  if (o.row_stride != 0 || o.col_stride != 0 || o.base.imm != 0) {
    return "a scalar operand has no constant and no strides";
  }
  if (o.kind == operand_kind::immediate && (!immediate || o.base.reg != 0)) {
    return "the opcode has no immediate operand, or it names a register";
  }
  return "";
}

}  // namespace detail

/// Returns: what is wrong with the instruction on any machine; empty for a well-formed one.
///
/// Well-formed instructions are those that have an encoding.
constexpr std::string_view problem_of(const instruction& i) {
  if (static_cast<int>(i.op) >= opcode_count) {
    return "no such opcode";
  }
  const opcode_info& info = info_of(i.op);
  const auto has = [&](std::uint32_t f) { return (info.fields & f) != 0; };
  if (i.unit >= max_units || (info.unit != unit_kind::any && kind_of(i.unit) != info.unit)) {
    return "the opcode does not run on this engine";
  }
  if (static_cast<int>(i.type) >= element_count || static_cast<int>(i.from) >= element_count) {
    return "no such element type";
  }
  if (has(field::type) ? (info.types & types::bit(i.type)) == 0 : i.type != element::boolean) {
    return "the opcode does not work on this element type";
  }
  if (has(field::from) ? (info.types & types::bit(i.from)) == 0 : i.from != element::boolean) {
    return "the opcode does not convert from this element type";
  }
  if (i.axis > (has(field::axis) ? 1 : 0) || i.mode > (has(field::mode) ? 1 : 0)) {
    return "axis and mode are 0 or 1, and 0 where the opcode has none";
  }
  if (i.rd >= (has(field::rd) ? register_count : 1)) {
    return "no such result register";
  }
  if ((i.target != 0 && !has(field::target)) || (i.imm != 0 && !has(field::imm))) {
    return "a branch target or a constant that the opcode does not have";
  }
  const auto check_value = [&](const value& v, bool used) {
    return used ? detail::fits(v) : v == value{};
  };
  const bool box = has(field::global);
  if (!check_value(i.x, has(field::x)) || !check_value(i.y, has(field::y)) ||
      !check_value(i.rows, has(field::shape)) || !check_value(i.cols, has(field::shape)) ||
      !check_value(i.depth, has(field::depth)) || !check_value(i.extents[0], box) ||
      !check_value(i.extents[1], box) || !check_value(i.strides[0], box) ||
      !check_value(i.strides[1], box) || !check_value(i.origin[0], has(field::origin)) ||
      !check_value(i.origin[1], has(field::origin))) {
    return "a value is out of range, or given where the opcode has none";
  }
  if (box ? i.base.reg >= register_count : i.base != value{}) {
    return "the global address is out of range, or the opcode has none";
  }
  const bool scalars = takes_scalars(i.op);
  for (const std::string_view problem :
       {detail::problem_of(i.dst, has(field::dst), false, false),
        detail::problem_of(i.a, has(field::a), scalars, has(field::imm)),
        detail::problem_of(i.b, has(field::b), scalars, has(field::imm)),
        detail::problem_of(i.c, has(field::c), scalars, has(field::imm))}) {
    if (!problem.empty()) {
      return problem;
    }
  }
  if (i.op == opcode::barrier && (i.imm == 0 || i.imm >> max_units != 0)) {
    return "a barrier names one engine at least, and engines below 16";
  }
  return "";
}

}  // namespace ashlar::chip::npu_isa
