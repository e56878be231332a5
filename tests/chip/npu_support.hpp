// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <random>

#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/validate.hpp"

namespace npu_support {

namespace isa = ashlar::chip::npu_isa;

/// A well-formed instruction of the opcode, every field anywhere in its range.
inline isa::instruction random_instruction(isa::opcode op, std::mt19937& random) {
  const auto below = [&](std::int64_t n) {
    return std::uniform_int_distribution<std::int64_t>(0, n - 1)(random);
  };
  const auto between = [&](std::int32_t least, std::int32_t most) {
    return below(8) == 0 ? (below(2) == 0 ? least : most)
                         : std::uniform_int_distribution<std::int32_t>(least, most)(random);
  };
  const auto any_value = [&] {
    return isa::value{static_cast<std::uint8_t>(below(3) == 0 ? 0 : below(64)),
                      between(-isa::max_constant - 1, isa::max_constant)};
  };
  const isa::opcode_info& info = isa::info_of(op);
  const auto has = [&](std::uint32_t f) { return (info.fields & f) != 0; };
  const auto any_operand = [&](bool scalars, bool immediate) {
    isa::operand o;
    if (scalars && below(3) == 0) {
      o.kind = isa::operand_kind::scalar;
      o.base.reg = static_cast<std::uint8_t>(below(64));
    } else if (scalars && immediate && below(3) == 0) {
      o.kind = isa::operand_kind::immediate;
    } else {
      o.base = any_value();
      o.row_stride = between(-isa::max_stride - 1, isa::max_stride);
      o.col_stride = between(-isa::max_stride - 1, isa::max_stride);
    }
    return o;
  };
  const auto any_type = [&] {
    while (true) {
      const auto e = static_cast<isa::element>(below(isa::element_count));
      if ((info.types & isa::types::bit(e)) != 0) {
        return e;
      }
    }
  };
  isa::instruction i;
  i.op = op;
  i.unit = static_cast<std::uint8_t>(info.unit == isa::unit_kind::any ? below(isa::max_units)
                                     : info.unit == isa::unit_kind::dma
                                         ? isa::first_dma_unit + below(13)
                                         : static_cast<std::int64_t>(info.unit));
  i.type = has(isa::field::type) ? any_type() : i.type;
  i.from = has(isa::field::from) ? any_type() : i.from;
  i.axis = static_cast<std::uint8_t>(has(isa::field::axis) ? below(2) : 0);
  i.mode = static_cast<std::uint8_t>(has(isa::field::mode) ? below(2) : 0);
  i.rd = static_cast<std::uint8_t>(has(isa::field::rd) ? below(64) : 0);
  i.target = has(isa::field::target) ? static_cast<std::uint32_t>(random()) : 0;
  i.source = below(2) == 0 ? 0 : static_cast<std::uint32_t>(random());
  if (has(isa::field::imm)) {
    i.imm = op == isa::opcode::barrier ? static_cast<std::uint64_t>(1 + below(65535))
                                       : (static_cast<std::uint64_t>(random()) << 32) | random();
  }
  i.x = has(isa::field::x) ? any_value() : i.x;
  i.y = has(isa::field::y) ? any_value() : i.y;
  if (has(isa::field::shape)) {
    i.rows = any_value();
    i.cols = any_value();
  }
  i.depth = has(isa::field::depth) ? any_value() : i.depth;
  const bool scalars = isa::takes_scalars(op);
  const bool immediate = has(isa::field::imm);
  i.dst = has(isa::field::dst) ? any_operand(false, false) : i.dst;
  i.a = has(isa::field::a) ? any_operand(scalars, immediate) : i.a;
  i.b = has(isa::field::b) ? any_operand(scalars, immediate) : i.b;
  i.c = has(isa::field::c) ? any_operand(scalars, immediate) : i.c;
  if (has(isa::field::global)) {
    i.base = {static_cast<std::uint8_t>(below(64)), between(-0x7fffffff - 1, 0x7fffffff)};
    i.extents = {any_value(), any_value()};
    i.strides = {any_value(), any_value()};
  }
  if (has(isa::field::origin)) {
    i.origin = {any_value(), any_value()};
  }
  return i;
}

}  // namespace npu_support
