// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Shapes: other layouts of the same elements, and copies where no layout will do.
namespace ashlar::chip::npu_codegen {

namespace detail {

inline place transposed(const place& x, const tile::instruction& i) {
  place y = x;
  y.type = i.type;
  for (int a = 0; a < i.type.rank; ++a) {
    y.at.stride[static_cast<std::size_t>(a)] =
        x.at.stride[static_cast<std::size_t>((i.value >> (4 * a)) & 15)];
  }
  return y;
}

/// Row-major order stays: the same elements where they lie so, else a copy.
inline place reshaped(lowering& l, const place& x, const tile::tile_type& t) {
  place y = x;
  if (!is_dense(x.type, x.at)) {
    y = l.new_tile(x.type);
    copy(l, y, x);
  }
  const std::int64_t first = y.at.offset;
  y.type = t;
  y.at = row_major(t);
  y.at.offset = first;
  return y;
}

/// Every second element of the last axis.
inline place half(const place& x, int which) {
  place y = x;
  const auto last = static_cast<std::size_t>(x.type.rank - 1);
  y.type.extents[last] /= 2;
  y.at.offset += which * x.at.stride[last];
  y.at.stride[last] *= 2;
  return y;
}

/// Low and high halves of bytes, in turn; the sign of `int8` comes by shifting it in.
inline void unpack(lowering& l, const place& to, const place& x) {
  const dtype e = to.type.element;
  const auto number = [&](std::int64_t n) { return constant_place(x.type, n); };
  const place low = half(to, 0);
  const place high = half(to, 1);
  vector(l, isa::opcode::v_shl, e, low, {x, number(4)});
  vector(l, isa::opcode::v_shr, e, low, {low, number(4)});
  vector(l, isa::opcode::v_shr, e, high, {x, number(4)});
}

}  // namespace detail

/// Lowers an instruction of the kind `shape`.
inline place shape(lowering& l, int i) {
  using tile::opcode;
  const tile::instruction& code = l.p.at(i);
  const place& x = l.operand(i, 0);
  if (code.op == opcode::broadcast) {
    return repeated(x, code.type);
  }
  if (code.op == opcode::join) {
    const place to = l.room_of(i);
    copy(l, detail::half(to, 0), x);
    copy(l, detail::half(to, 1), l.operand(i, 1));
    return to;
  }
  if (code.op == opcode::unpack_nibbles) {
    const place from = in_scratch(l, x);
    const place to = l.room_of(i);
    detail::unpack(l, to, from);
    return to;
  }
  if (!x.in_scratch()) {  // one number everywhere
    place y = x;
    y.type = code.type;
    return y;
  }
  switch (code.op) {
    case opcode::reshape:
      return detail::reshaped(l, x, code.type);
    case opcode::transpose:
      return detail::transposed(x, code);
    default:
      return detail::half(x, code.index);
  }
}

}  // namespace ashlar::chip::npu_codegen
