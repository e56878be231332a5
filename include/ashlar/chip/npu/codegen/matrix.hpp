// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Products on the matrix unit.
namespace ashlar::chip::npu_codegen {

namespace detail {

/// Whether the matrix unit can read or write the last two axes where they are.
inline bool fits_matrix(const lowering& l, const place& x) {
  if (!x.in_scratch()) {
    return false;
  }
  const std::int64_t size = isa::size_of(element_of(x.type.element));
  const auto aligned = [&](std::int64_t n) {
    return n * size % l.out.machine.scratchpad_alignment == 0;
  };
  for (int a = 0; a < x.type.rank; ++a) {
    const std::int64_t stride = x.at.stride[static_cast<std::size_t>(a)];
    const bool batch = a < x.type.rank - 2;
    if (x.type.extent(a) > 1 && !aligned(stride) && (batch || stride != 1)) {
      return false;
    }
    if (x.type.extent(a) > 1 && stride > isa::max_stride) {
      return false;
    }
  }
  return aligned(x.at.offset);
}

/// `x`, or a copy whose rows begin at aligned addresses; 8-bit floats as bf16, which has them all.
inline place matrix_operand(lowering& l, const place& x) {
  const dtype e = x.type.element;
  const bool small = is_float8(e);
  if (!small && fits_matrix(l, x)) {
    return x;
  }
  const unsigned rows = x.type.rank == 3 ? 3u : 1u;
  if (small) {
    const place wide = l.new_tile(x.type.with(dtype::bfloat16), rows);
    vector(l, {.op = isa::opcode::v_cast, .type = isa::element::bf16, .from = element_of(e)}, wide,
           {in_scratch(l, x)});
    return wide;
  }
  const place aligned = l.new_tile(x.type, rows);
  copy(l, aligned, x);
  return aligned;
}

/// Strides of the last two axes, first element of batch `n`.
inline isa::operand matrix_box(const place& x, std::int64_t n) {
  const auto r = static_cast<std::size_t>(x.type.rank);
  const isa::element e = element_of(x.type.element);
  const std::int64_t first = x.at.offset + (r == 3 ? n * x.at.stride[0] : 0);
  const auto stride = [&](std::size_t axis) {
    return static_cast<std::int32_t>(x.type.extents[axis] == 1 ? 1 : x.at.stride[axis]);
  };
  return {isa::operand_kind::scratch, static_cast<std::int32_t>(first * isa::size_of(e)),
          stride(r - 2), stride(r - 1)};
}

/// `to (+)= a b`. Requires: all of them fit the matrix unit.
inline void multiply(lowering& l, const place& to, const place& a, const place& b,
                     bool accumulate) {
  const auto r = static_cast<std::size_t>(to.type.rank);
  isa::instruction code{.op = isa::opcode::mma,
                        .unit = isa::matrix_unit,
                        .type = element_of(a.type.element),
                        .mode = static_cast<std::uint8_t>(accumulate ? 1 : 0)};
  code.rows = to.type.extents[r - 2];
  code.cols = to.type.extents[r - 1];
  code.depth = a.type.extents[r - 1];
  const std::int64_t batches = r == 3 ? to.type.extents[0] : 1;
  for (std::int64_t n = 0; n < batches; ++n) {
    code.dst = matrix_box(to, n);
    code.a = matrix_box(a, n);
    code.b = matrix_box(b, n);
    l.add(code, {to.buffer, a.buffer, b.buffer, -1});
  }
}

/// `to += a b`, or `to = a b` where the flag is 0 yet.
inline void begin_or_add(lowering& l, const place& to, const place& a, const place& b, int flag) {
  const lowering::scope temporaries(l);
  const isa::instruction test{.op = isa::opcode::beq, .x = l.read_home(flag), .y = 0};
  const int adds = l.open(region_kind::arm);
  multiply(l, to, a, b, true);
  l.close();
  const int begins = l.open(region_kind::arm);
  multiply(l, to, a, b, false);
  l.write_home(flag, 1);
  l.close();
  l.add_control(step_kind::choice, test, {adds, begins});
}

inline bool is_zero(const place& x) { return x.where == place::kind::constant && x.bits == 0; }

}  // namespace detail

/// Lowers `dot_scaled`: groups of 32 add up from 0, then their sums with the scales.
inline place dot_scaled(lowering& l, int i) {
  constexpr std::int32_t group = 32;
  const place a = detail::matrix_operand(l, l.operand(i, 0));
  const place b = detail::matrix_operand(l, l.operand(i, 2));
  const place scale_a = in_scratch(l, l.operand(i, 1));
  const place scale_b = in_scratch(l, l.operand(i, 3));
  const tile::tile_type& t = l.p.type_of(i);
  const place to = l.room_of(i);
  const place sum = l.new_tile(t, 1u);
  const place scale = l.new_tile(t);
  const auto part = [](const place& x, int axis, std::int64_t from, std::int32_t count) {
    place y = x;
    const auto u = static_cast<std::size_t>(axis);
    y.type.extents[u] = count;
    y.at.offset += from * x.at.stride[u];
    return y;
  };
  copy(l, to, l.operand(i, 4));
  for (std::int32_t g = 0; g < a.type.extent(1) / group; ++g) {
    const place x = detail::matrix_operand(l, part(a, 1, g * group, group));
    const place y = detail::matrix_operand(l, part(b, 0, g * group, group));
    detail::multiply(l, sum, x, y, false);
    vector(l, isa::opcode::v_mul, dtype::float32, scale,
           {repeated(part(scale_a, 1, g, 1), t), repeated(part(scale_b, 0, g, 1), t)});
    vector(l, isa::opcode::v_fma, dtype::float32, to, {sum, scale, to});
  }
  return to;
}

/// Lowers `dot`: `c + a b`, in the room of `c` where nobody needs it any more.
inline place dot(lowering& l, int i) {
  const place& c = l.operand(i, 2);
  const place a = detail::matrix_operand(l, l.operand(i, 0));
  const place b = detail::matrix_operand(l, l.operand(i, 1));
  const place to = l.room_of(i, l.p.type_of(i).rank == 3 ? 3u : 1u);
  const bool zero = detail::is_zero(c);
  const place sum =
      detail::fits_matrix(l, to) ? to : l.new_tile(to.type, to.type.rank == 3 ? 3u : 1u);
  if (const int flag = l.begun[static_cast<std::size_t>(i)]; flag != 0) {
    detail::begin_or_add(l, sum, a, b, flag);
    return to;
  }
  if (!zero) {
    copy(l, sum, c);
  }
  detail::multiply(l, sum, a, b, !zero);
  copy(l, to, sum);
  return to;
}

}  // namespace ashlar::chip::npu_codegen
