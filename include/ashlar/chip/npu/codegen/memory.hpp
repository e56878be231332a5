// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Loads and stores: a tile along the last axes of a view, as boxes of two axes each.
namespace ashlar::chip::npu_codegen {

/// Which axes of the view are rows and columns of a transfer; -1 where there is none.
struct box_axes {
  int rows = -1, cols = -1;

  box_axes(const tile::tile_type& t, int view_rank) {
    const int skip = view_rank - t.rank;
    for (int a = 0; a < t.rank; ++a) {
      cols = t.extent(a) > 1 ? a + skip : cols;
    }
    for (int a = 0; a < t.rank; ++a) {
      const bool longer = rows < 0 || t.extent(a) > t.extent(rows - skip);
      rows = a + skip != cols && t.extent(a) > 1 && longer ? a + skip : rows;
    }
    if (cols < 0) {
      cols = view_rank - 1;
    }
    if (rows < 0 && view_rank > 1) {
      rows = cols == view_rank - 1 ? view_rank - 2 : view_rank - 1;
    }
  }
  /// The tile's axes that are neither: one transfer for each of their elements.
  [[nodiscard]] unsigned others(const tile::tile_type& t, int view_rank) const {
    unsigned set = 0;
    for (int a = 0; a < t.rank; ++a) {
      const int axis = a + view_rank - t.rank;
      set |= t.extent(a) > 1 && axis != rows && axis != cols ? 1u << a : 0u;
    }
    return set;
  }
};

namespace detail {

/// The offsets, in elements, of each box of a transfer, and whether DMA can reach them.
inline bool reachable(const lowering& l, const place& x, unsigned others) {
  if (!x.in_scratch()) {
    return false;
  }
  const std::int64_t size = isa::size_of(element_of(x.type.element));
  const auto aligned = [&](std::int64_t n) {
    return n * size % l.out.machine.scratchpad_alignment == 0;
  };
  for (int a = 0; a < x.type.rank; ++a) {
    const std::int64_t stride = x.at.stride[static_cast<std::size_t>(a)];
    if ((others >> a & 1u) != 0 ? !aligned(stride)
                                : stride > isa::max_stride && x.type.extent(a) > 1) {
      return false;
    }
  }
  return aligned(x.at.offset);
}

class transfer {
 public:
  transfer(lowering& l, int i, isa::opcode op, const place& x, int first_offset)
      : l_(l),
        i_(i),
        op_(op),
        x_(x),
        first_offset_(first_offset),
        view_(l.p.at(i).index),
        rank_(l.p.parameter_at(view_).rank),
        axes_(x.type, rank_),
        engine_(op == isa::opcode::load ? l.load_engine() : l.store_engine()) {}

  void emit() {
    std::array<std::int32_t, tile::max_rank> at{};
    each(0, axes_.others(x_.type, rank_), at);
  }

 private:
  using word = argument_word::kind;

  [[nodiscard]] int skip() const { return rank_ - x_.type.rank; }

  void each(int a, unsigned others, std::array<std::int32_t, tile::max_rank>& at) {
    if (a == x_.type.rank) {
      return box(at);
    }
    const std::int32_t n = (others >> a & 1u) != 0 ? x_.type.extent(a) : 1;
    for (std::int32_t j = 0; j < n; ++j) {
      at[static_cast<std::size_t>(a)] = j;
      each(a + 1, others, at);
    }
  }

  isa::value offset(int axis) { return l_.scalar(l_.operand(i_, first_offset_ + axis)); }

  void box(const std::array<std::int32_t, tile::max_rank>& at) {
    const lowering::scope temporaries(l_);
    const isa::element e = element_of(x_.type.element);
    const std::int32_t size = isa::size_of(e);
    isa::instruction code{.op = op_, .type = e, .rows = 1, .cols = 1};
    code.unit = static_cast<std::uint8_t>(isa::dma_unit(engine_));
    code.base = l_.argument(word::address, view_);
    code.extents = {1, 1};
    code.strides = {1, 1};
    isa::value inside = 1;
    std::int64_t first = x_.at.offset;
    for (int axis = 0; axis < rank_; ++axis) {
      const int own = axis - skip();
      const std::int32_t step = own < 0 ? 0 : at[static_cast<std::size_t>(own)];
      if (own >= 0) {
        first += step * x_.at.stride[static_cast<std::size_t>(own)];
      }
      if (axis == axes_.rows || axis == axes_.cols) {
        continue;
      }
      if (inside.reg == 0) {
        const isa::value base{l_.fresh(), 0};
        l_.compute_into(base, isa::opcode::s_add, code.base, 0);
        code.base = base;
        inside = {l_.fresh(), 0};
        l_.compute_into(inside, isa::opcode::s_add, 1, 0);
      }
      const lowering::scope more(l_);
      isa::value n = offset(axis);
      n = step == 0 ? n : l_.compute(isa::opcode::s_add, n, step);
      const isa::value test{l_.fresh(), 0};
      if (n.reg != 0 || n.imm < 0) {
        l_.compute_into(test, isa::opcode::s_le, 0, n);
        l_.compute_into(inside, isa::opcode::s_and, inside, test);
      }
      l_.compute_into(test, isa::opcode::s_lt, n, l_.argument(word::extent, view_, axis));
      l_.compute_into(inside, isa::opcode::s_and, inside, test);
      l_.compute_into(test, isa::opcode::s_mul, n, l_.argument(word::stride, view_, axis));
      if (size > 1) {
        l_.compute_into(test, isa::opcode::s_mul, test, size);
      }
      l_.compute_into(code.base, isa::opcode::s_add, code.base, test);
    }
    const isa::element type = element_of(x_.type.element);
    code.dst = {isa::operand_kind::scratch, static_cast<std::int32_t>(first * isa::size_of(type)),
                0, 0};
    const auto set = [&](std::size_t which, int axis) {
      if (axis < 0) {
        return;
      }
      const int own = axis - skip();
      const std::int32_t n = own < 0 ? 1 : x_.type.extent(own);
      const auto stride =
          static_cast<std::int32_t>(n == 1 ? 0 : x_.at.stride[static_cast<std::size_t>(own)]);
      (which == 0 ? code.rows : code.cols) = n;
      (which == 0 ? code.dst.row_stride : code.dst.col_stride) = stride;
      code.origin[which] = offset(axis);
      code.extents[which] = l_.argument(word::extent, view_, axis);
      code.strides[which] = l_.argument(word::stride, view_, axis);
    };
    set(0, axes_.rows);
    set(1, axes_.cols);
    if (code.cols.imm == 1) {  // one dense run, as far as the machine can tell
      code.dst.col_stride = 1;
    }
    if (inside.reg != 0) {  // no rows where another axis leaves the view
      l_.compute_into(inside, isa::opcode::s_mul, inside, code.extents[0]);
      code.extents[0] = inside;
    }
    if (op_ == isa::opcode::load) {
      code.imm = memory_bits(x_.type.element, l_.p.at(i_).value);
    }
    l_.add(code, {x_.buffer, -1, -1, -1});
  }

  lowering& l_;
  int i_;
  isa::opcode op_;
  const place& x_;
  int first_offset_;
  int view_;
  int rank_;
  box_axes axes_;
  int engine_;
};

}  // namespace detail

/// Lowers `load`.
inline place load(lowering& l, int i) {
  const tile::instruction& code = l.p.at(i);
  const int rank = l.p.parameter_at(code.index).rank;
  const unsigned others = box_axes(code.type, rank).others(code.type, rank);
  const place to = l.room_of(i, others);
  if (detail::reachable(l, to, others)) {
    detail::transfer(l, i, isa::opcode::load, to, 0).emit();
    return to;
  }
  const place between = l.new_tile(code.type, others);
  detail::transfer(l, i, isa::opcode::load, between, 0).emit();
  copy(l, to, between);
  return to;
}

/// Lowers `store`.
inline void store(lowering& l, int i) {
  const tile::instruction& code = l.p.at(i);
  const int rank = l.p.parameter_at(code.index).rank;
  place x = in_scratch(l, l.operand(i, 0));
  const unsigned others = box_axes(x.type, rank).others(x.type, rank);
  if (!detail::reachable(l, x, others)) {
    const place between = l.new_tile(x.type, others);
    copy(l, between, x);
    x = between;
  }
  detail::transfer(l, i, isa::opcode::store, x, 1).emit();
}

}  // namespace ashlar::chip::npu_codegen
