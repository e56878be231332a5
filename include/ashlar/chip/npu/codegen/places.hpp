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

/// Elements by index: a view is one line of elements, each a row of its own.
namespace ashlar::chip::npu_codegen {

namespace detail {

/// The number of each element in the line of the view's elements; -1 where it is outside.
inline place element_numbers(lowering& l, int i, const tile::tile_type& t, int first_index) {
  using word = argument_word::kind;
  const int view = l.p.at(i).index;
  const tile::tile_type wide = t.with(dtype::int64);
  const tile::tile_type truth = t.with(dtype::boolean);
  const place number = l.new_tile(wide);
  const place inside = l.new_tile(truth);
  const place test = l.new_tile(truth);
  const auto scalar = [&](word what, int axis) {
    place made{.where = place::kind::scalar, .type = wide};
    made.home = l.argument(what, view, axis).reg;
    return made;
  };
  {
    const lowering::scope temporaries(l);
    copy(l, number, scalar(word::origin, 0));
  }
  copy(l, inside, constant_place(truth, 1));
  for (int axis = 0; axis < l.p.parameter_at(view).rank; ++axis) {
    const lowering::scope temporaries(l);
    const place index = repeated(in_scratch(l, l.operand(i, first_index + axis)), wide);
    vector(l, isa::opcode::v_ge, dtype::int64, test, {index, constant_place(wide, 0)});
    vector(l, isa::opcode::v_and, dtype::boolean, inside, {inside, test});
    vector(l, isa::opcode::v_lt, dtype::int64, test, {index, scalar(word::extent, axis)});
    vector(l, isa::opcode::v_and, dtype::boolean, inside, {inside, test});
    vector(l, isa::opcode::v_fma, dtype::int64, number,
           {index, scalar(word::stride, axis), number});
  }
  vector(l, isa::opcode::v_select, dtype::int64, number,
         {inside, number, constant_place(wide, -1)});
  const place narrow = l.new_tile(t.with(dtype::int32));
  vector(l, {.op = isa::opcode::v_cast, .type = isa::element::i32, .from = isa::element::i64},
         narrow, {number});
  return narrow;
}

/// One transfer of all elements of a dense tile. Requires: it begins at an aligned address.
inline void transfer_elements(lowering& l, int i, isa::opcode op, const place& x,
                              const place& numbers) {
  using word = argument_word::kind;
  const lowering::scope temporaries(l);
  const int view = l.p.at(i).index;
  const int engine = op == isa::opcode::load_rows ? l.load_engine() : l.store_engine();
  isa::instruction code{.op = op,
                        .unit = static_cast<std::uint8_t>(isa::dma_unit(engine)),
                        .type = element_of(x.type.element)};
  code.rows = static_cast<std::int32_t>(x.type.size());
  code.cols = 1;
  const auto first = x.at.offset * isa::size_of(code.type);
  code.dst = {isa::operand_kind::scratch, static_cast<std::int32_t>(first), 1, 1};
  code.b = {isa::operand_kind::scratch, {}, 1, 1};
  code.base = l.argument(word::lowest, view);
  code.extents = {l.argument(word::reach, view), 1};
  code.strides = {1, 1};
  if (op == isa::opcode::load_rows) {
    code.imm = memory_bits(x.type.element, l.p.at(i).value);
  }
  l.add(code, {x.buffer, -1, numbers.buffer, -1});
}

inline bool is_dense_and_aligned(const lowering& l, const place& x) {
  return x.in_scratch() && is_dense(x.type, x.at) &&
         x.at.offset * isa::size_of(element_of(x.type.element)) %
                 l.out.machine.scratchpad_alignment ==
             0;
}

}  // namespace detail

/// Lowers `gather`.
inline place gather(lowering& l, int i) {
  const tile::tile_type& t = l.p.type_of(i);
  const place to = l.room_of(i);
  const place line = detail::is_dense_and_aligned(l, to) ? to : l.new_tile(t);
  detail::transfer_elements(l, i, isa::opcode::load_rows, line,
                            detail::element_numbers(l, i, t, 0));
  copy(l, to, line);
  return to;
}

/// Lowers `scatter` and the atomics.
inline void scatter(lowering& l, int i) {
  const tile::opcode op = l.p.at(i).op;
  place x = l.operand(i, 0);
  if (x.type.element == dtype::boolean && op != tile::opcode::scatter) {
    l.refuse("bool has no sums and no order");
  }
  if (!detail::is_dense_and_aligned(l, x)) {
    const place line = l.new_tile(x.type);
    copy(l, line, x);
    x = line;
  }
  const isa::opcode machine = op == tile::opcode::scatter      ? isa::opcode::store_rows
                              : op == tile::opcode::atomic_add ? isa::opcode::store_rows_add
                              : op == tile::opcode::atomic_max ? isa::opcode::store_rows_max
                                                               : isa::opcode::store_rows_min;
  detail::transfer_elements(l, i, machine, x, detail::element_numbers(l, i, x.type, 1));
}

/// Lowers `print`: the vector unit shows the place in the grid and then the elements, each with the
/// number of the instruction.
inline void print(lowering& l, int i, const std::array<int, 3>& grid) {
  const lowering::scope temporaries(l);
  tile::tile_type three = tile::scalar_type(dtype::int64);
  three.rank = 1;
  three.extents[0] = 3;
  const place where = l.new_tile(three);
  for (std::size_t a = 0; a < grid.size(); ++a) {
    place part = where;
    part.type.extents[0] = 1;
    part.at.offset += static_cast<std::int64_t>(a);
    copy(l, part, {.where = place::kind::scalar, .type = part.type, .home = grid[a]});
  }
  place x = in_scratch(l, l.operand(i, 0));
  if (!is_dense(x.type, x.at)) {
    const place line = l.new_tile(x.type);
    copy(l, line, x);
    x = line;
  }
  for (const place& shown : {where, x}) {
    const isa::element e = element_of(shown.type.element);
    isa::instruction code{.op = isa::opcode::v_print, .unit = isa::vector_unit, .type = e};
    code.imm = static_cast<std::uint64_t>(i);
    code.rows = 1;
    code.cols = static_cast<std::int32_t>(shown.type.size());
    code.a = {isa::operand_kind::scratch,
              static_cast<std::int32_t>(shown.at.offset * isa::size_of(e)), 0, 1};
    l.add(code, {-1, shown.buffer, -1, -1});
  }
}

/// Lowers `require`: the control engine stops the program where the least of the elements is 0.
inline void require(lowering& l, int i) {
  const lowering::scope temporaries(l);
  place x = l.operand(i, 0);
  if (!x.in_scratch()) {
    l.add({.op = isa::opcode::check, .x = l.scalar(x)});
    return;
  }
  if (!is_dense(x.type, x.at)) {
    const place line = l.new_tile(x.type);
    copy(l, line, x);
    x = line;
  }
  const place least = l.new_tile(tile::scalar_type(dtype::uint8));
  isa::instruction code{
      .op = isa::opcode::v_rmin, .unit = isa::vector_unit, .type = isa::element::u8, .axis = 1};
  code.rows = 1;
  code.cols = static_cast<std::int32_t>(x.type.size());
  code.dst = {isa::operand_kind::scratch, {}, 0, 1};
  code.a = {isa::operand_kind::scratch, static_cast<std::int32_t>(x.at.offset), 0, 1};
  l.add(code, {least.buffer, x.buffer, -1, -1});
  const std::uint8_t r = l.fresh();
  l.add({.op = isa::opcode::s_load, .type = isa::element::u8, .rd = r}, {-1, least.buffer, -1, -1});
  l.add({.op = isa::opcode::check, .x = isa::value{r, 0}});
}

}  // namespace ashlar::chip::npu_codegen
