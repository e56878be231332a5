// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

namespace ashlar::chip::npu_isa::detail {

using register_file = std::array<std::int64_t, register_count>;

inline std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
inline std::int64_t number_of(const register_file& r, const value& v) {
  return wrapping_add(r[v.reg], v.imm);
}

inline place place_of(const program& p, std::size_t index) {
  if (index >= p.code.size()) {
    return {index, "(past the last instruction)", ""};
  }
  return {index, disassemble(p.code[index]), std::string(p.source_of(p.code[index]))};
}

/// Element types of the sources; the result's is `result_type`.
constexpr element source_type(const instruction& i, char operand_name) {
  if (operand_name == 'a') {
    return i.op == opcode::v_cast ? i.from : i.op == opcode::v_select ? element::boolean : i.type;
  }
  const bool index = is_indexed(i.op) || takes_rows(i.op);
  return operand_name == 'b' && index ? element::i32 : i.type;
}

/// Reads the registers that an instruction names.
///
/// Throws: `illegal_instruction` for a negative or impossibly large shape.
inline job resolve(const npu_description& d, const program& p, std::size_t index,
                   const register_file& r) {
  const instruction& i = p.code[index];
  job w;
  w.i = &i;
  w.index = index;
  w.rows = number_of(r, i.rows);
  w.cols = number_of(r, i.cols);
  w.depth = number_of(r, i.depth);
  w.x = number_of(r, i.x);
  w.y = number_of(r, i.y);
  w.base = number_of(r, i.base);
  for (std::size_t k = 0; k < 2; ++k) {
    w.origin[k] = number_of(r, i.origin[k]);
    w.extents[k] = number_of(r, i.extents[k]);
    w.strides[k] = number_of(r, i.strides[k]);
  }
  for (const std::int64_t extent : {w.rows, w.cols, w.depth}) {
    if (extent < 0 || extent > d.scratchpad_bytes) {
      throw illegal_instruction(place_of(p, index),
                                "an extent of " + std::to_string(extent) +
                                    "; it must be from 0 to the size of the scratchpad");
    }
  }
  const auto fill = [&](resolved_operand& to, const operand& o, std::uint32_t f, element type,
                        std::int64_t rows, std::int64_t cols) {
    if (!uses(i.op, f)) {
      return;
    }
    to.used = true;
    to.type = type;
    to.scratch = o.kind == operand_kind::scratch;
    to.base = number_of(r, o.base);
    to.rows = rows;
    to.cols = cols;
    to.row_step = static_cast<std::int64_t>(o.row_stride) * size_of(type);
    to.col_step = static_cast<std::int64_t>(o.col_stride) * size_of(type);
    to.scalar = o.kind == operand_kind::immediate ? i.imm : static_cast<std::uint64_t>(to.base);
  };
  std::int64_t dst_rows = w.rows;
  std::int64_t dst_cols = w.cols;
  std::int64_t a_rows = w.rows;
  std::int64_t a_cols = w.cols;
  std::int64_t b_rows = w.rows;
  std::int64_t b_cols = w.cols;
  if (i.op == opcode::mma) {
    a_cols = b_rows = w.depth;
  } else if (is_reduction(i.op)) {
    (i.axis == 1 ? dst_cols : dst_rows) = 1;
  } else if (i.op == opcode::v_transpose) {
    a_rows = w.cols;
    a_cols = w.rows;
  } else if (i.op == opcode::v_gather) {
    (i.axis == 1 ? a_cols : a_rows) = w.rows > 0 && w.cols > 0 ? w.depth : 0;
  } else if (is_indexed(i.op)) {
    (i.axis == 1 ? dst_cols : dst_rows) = w.rows > 0 && w.cols > 0 ? w.depth : 0;
  } else if (takes_rows(i.op)) {
    b_cols = 1;
  } else if (i.op == opcode::s_load || i.op == opcode::s_store) {
    dst_rows = dst_cols = a_rows = a_cols = 1;
  }
  fill(w.dst, i.dst, field::dst, result_type(i), dst_rows, dst_cols);
  fill(w.a, i.a, field::a, source_type(i, 'a'), a_rows, a_cols);
  fill(w.b, i.b, field::b, source_type(i, 'b'), b_rows, b_cols);
  fill(w.c, i.c, field::c, source_type(i, 'c'), w.rows, w.cols);
  if (i.op == opcode::v_fill) {
    w.a.scalar = i.imm;
  }
  return w;
}

/// Throws: `out_of_bounds`, `misaligned`.
inline void check_scratch(const npu_description& d, const program& p, const job& w) {
  const auto check = [&](const resolved_operand& o, const char* name) {
    if (!o.used || !o.scratch || o.rows == 0 || o.cols == 0) {
      return;
    }
    if (o.base < 0 || o.base > d.scratchpad_bytes) {
      throw out_of_bounds(place_of(p, w.index), "scratchpad", o.base,
                          wrapping_add(o.base, size_of(o.type)));
    }
    const footprint f = o.bytes();
    if (f.first() < 0 || f.last() > d.scratchpad_bytes) {
      throw out_of_bounds(place_of(p, w.index), "scratchpad", f.first(), f.last());
    }
    const bool strict = w.i->unit >= matrix_unit;
    const std::int64_t multiple = strict && !(name[0] == 'b' && w.i->unit != matrix_unit)
                                      ? d.scratchpad_alignment
                                      : size_of(o.type);
    if (o.base % multiple != 0) {
      throw misaligned(place_of(p, w.index), name, o.base, multiple);
    }
    if (w.i->unit == matrix_unit) {
      for (const auto& [count, step] : {std::pair{o.rows, o.row_step}, {o.cols, o.col_step}}) {
        if (count > 1 && step != size_of(o.type) && step % multiple != 0) {
          throw misaligned(place_of(p, w.index), std::string(name) + " stride", step, multiple);
        }
      }
    }
  };
  check(w.dst, "dst");
  check(w.a, "a");
  check(w.b, "b");
  check(w.c, "c");
}

}  // namespace ashlar::chip::npu_isa::detail
