// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ashlar/chip/npu/codegen/elementwise.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/type.hpp"

/// Reductions and scans: the machine's own where it has one, else the region on whole slices.
namespace ashlar::chip::npu_codegen {

namespace detail {

/// Elements `from` to `from + count` along an axis.
inline place slice(const place& x, int axis, std::int64_t from, std::int32_t count) {
  place y = x;
  const auto u = static_cast<std::size_t>(axis);
  y.type.extents[u] = count;
  y.at.offset += from * x.at.stride[u];
  return y;
}

/// Without an axis of one element.
inline place dropped(const place& x, int axis) {
  place y = x;
  y.type = x.type.without(axis);
  y.at.stride = {};
  for (int a = 0, to = 0; a < x.type.rank; ++a) {
    if (a != axis) {
      y.at.stride[static_cast<std::size_t>(to++)] = x.at.stride[static_cast<std::size_t>(a)];
    }
  }
  return y;
}

/// Backwards along an axis.
inline place reversed(const place& x, int axis) {
  place y = x;
  const auto u = static_cast<std::size_t>(axis);
  y.at.offset += (x.type.extent(axis) - 1) * x.at.stride[u];
  y.at.stride[u] = -x.at.stride[u];
  return y;
}

/// Runs the region of `owner` on tiles in place of scalars: `a = combine(a, b)`.
///
/// `to` may be `a`.
inline void combine(lowering& l, int owner, const std::vector<place>& to,
                    const std::vector<place>& a, const std::vector<place>& b) {
  const int n = l.p.at(owner).count;
  const int end = tile::at(l.facts.tree().last_yield, owner);
  const tile::tile_type extents = a[0].type;
  std::vector<place> inside(static_cast<std::size_t>(end - owner));
  const auto value = [&](int v) -> place {
    if (v > owner) {
      return inside[static_cast<std::size_t>(v - owner)];
    }
    return repeated(l.places[static_cast<std::size_t>(v)], extents);
  };
  for (int k = 0; k < n; ++k) {
    inside[static_cast<std::size_t>(1 + k)] = a[static_cast<std::size_t>(k)];
    inside[static_cast<std::size_t>(1 + n + k)] = b[static_cast<std::size_t>(k)];
  }
  const int before = l.current;
  for (int v = owner + 1 + 2 * n; v < end; ++v) {
    const tile::instruction& i = l.p.at(v);
    l.current = v;
    const tile::tile_type type = extents.with(i.type.element);
    const tile::opcode_kind kind = tile::info(i.op).kind;
    if (!i.type.is_scalar()) {
      l.refuse("only scalars are combined by a reduction or a scan");
    }
    std::vector<place> in;
    for (const tile::value_id o : l.p.operands(v)) {
      in.push_back(value(o));
    }
    if (i.op == tile::opcode::constant) {
      inside[static_cast<std::size_t>(v - owner)] = constant_place(type, i.value);
    } else if (kind >= tile::opcode_kind::unary && kind <= tile::opcode_kind::ternary) {
      inside[static_cast<std::size_t>(v - owner)] = elementwise(l, i, type, in);
    } else if (i.op == tile::opcode::broadcast || i.op == tile::opcode::reshape ||
               i.op == tile::opcode::transpose) {
      inside[static_cast<std::size_t>(v - owner)] = in[0];
    } else {
      l.refuse("a reduction or a scan combines by elementwise instructions alone");
    }
  }
  l.current = before;
  // All are read before any is written.
  std::vector<place> given;
  for (int k = 0; k < n; ++k) {
    place x = value(l.p.operand(end, k));
    for (int j = 0; j < n; ++j) {
      if (j != k && x.in_scratch() && x.buffer == to[static_cast<std::size_t>(j)].buffer) {
        const place kept = l.new_tile(x.type);
        copy(l, kept, x);
        x = kept;
        break;
      }
    }
    given.push_back(x);
  }
  for (int k = 0; k < n; ++k) {
    copy(l, to[static_cast<std::size_t>(k)], given[static_cast<std::size_t>(k)]);
  }
}

/// The operation of a region that only adds, multiplies or takes the larger or smaller one.
inline std::optional<tile::opcode> single_operation(const lowering& l, int owner) {
  using tile::opcode;
  const int end = tile::at(l.facts.tree().last_yield, owner);
  if (l.p.at(owner).count != 1 || end != owner + 4 || l.p.operand(end, 0) != owner + 3 ||
      l.p.at(owner + 3).count != 2) {
    return std::nullopt;
  }
  const int x = l.p.operand(owner + 3, 0);
  const int y = l.p.operand(owner + 3, 1);
  const opcode op = l.p.at(owner + 3).op;
  const bool known =
      op == opcode::add || op == opcode::mul || op == opcode::min || op == opcode::max;
  // Sums in the narrow types round after each step, which the machine does not.
  const dtype e = l.p.at(owner + 3).type.element;
  const bool exact = e == dtype::float32 || e == dtype::float64 || is_integral(e) ||
                     op == opcode::min || op == opcode::max;
  if (!known || !exact || is_float8(e) || std::min(x, y) != owner + 1 ||
      std::max(x, y) != owner + 2) {
    return std::nullopt;
  }
  return op;
}

constexpr isa::opcode across_opcode(tile::opcode op, bool scan) {
  using tile::opcode;
  switch (op) {
    case opcode::add:
      return scan ? isa::opcode::v_scan_sum : isa::opcode::v_sum;
    case opcode::mul:
      return scan ? isa::opcode::v_scan_prod : isa::opcode::v_prod;
    case opcode::min:
      return scan ? isa::opcode::v_scan_min : isa::opcode::v_rmin;
    default:
      return scan ? isa::opcode::v_scan_max : isa::opcode::v_rmax;
  }
}

/// One machine instruction on every box of (other axes, axis); `to` has the axis, too.
inline void across(lowering& l, isa::opcode op, const place& to, const place& x, int axis) {
  const std::int32_t n = x.type.extent(axis);
  const std::array<layout, 2> layouts{dropped(to, axis).at, dropped(x, axis).at};
  const tile::tile_type others = x.type.without(axis);
  const isa::element e = element_of(x.type.element);
  // Lines one behind the other are rows: a walk of the other axes, whose columns become rows.
  const box_walk w = walk(others, layouts);
  const auto along = [&](const place& p) {
    return p.type.extent(axis) == 1
               ? 0
               : static_cast<std::int32_t>(p.at.stride[static_cast<std::size_t>(axis)]);
  };
  for (std::size_t box = 0; box < w.count(); ++box) {
    for (std::int64_t r = 0; r < w.rows; ++r) {
      const auto operand = [&](std::size_t k, const place& p) {
        const box_walk::operand& o = w.operands[k];
        const std::int64_t first = o.offsets[box] + r * o.row_stride;
        return isa::operand{isa::operand_kind::scratch,
                            static_cast<std::int32_t>(first * isa::size_of(e)),
                            static_cast<std::int32_t>(o.col_stride), along(p)};
      };
      isa::instruction code{.op = op, .unit = isa::vector_unit, .type = e, .axis = 1};
      code.rows = static_cast<std::int32_t>(w.cols);
      code.cols = n;
      code.dst = operand(0, to);
      code.a = operand(1, x);
      l.add(code, {to.buffer, x.buffer, -1, -1});
    }
  }
}

}  // namespace detail

/// Lowers `reduce`. Returns: its results.
inline std::vector<place> reduce(lowering& l, int i) {
  constexpr std::int32_t width = 16;
  const int axis = l.p.at(i).index;
  std::vector<place> from;
  for (int k = 0; k < l.p.at(i).count; ++k) {
    from.push_back(in_scratch(l, l.operand(i, k)));
  }
  const std::int32_t n = from[0].type.extent(axis);
  std::vector<place> given;
  if (const auto op = detail::single_operation(l, i)) {
    tile::tile_type kept = from[0].type;
    kept.extents[static_cast<std::size_t>(axis)] = 1;
    const place to = l.new_tile(kept);
    detail::across(l, detail::across_opcode(*op, false), to, from[0], axis);
    return {detail::dropped(to, axis)};
  }
  const std::int32_t lanes = std::min(n, width);
  std::vector<place> sum;
  for (const place& x : from) {
    tile::tile_type t = x.type;
    t.extents[static_cast<std::size_t>(axis)] = lanes;
    sum.push_back(l.new_tile(t));
    copy(l, sum.back(), detail::slice(x, axis, 0, lanes));
  }
  const auto sliced = [&](const std::vector<place>& all, std::int32_t first, std::int32_t count) {
    std::vector<place> part;
    for (const place& x : all) {
      part.push_back(detail::slice(x, axis, first, count));
    }
    return part;
  };
  for (std::int32_t e = lanes; e < n; e += width) {
    const std::int32_t count = std::min(width, n - e);
    const auto to = sliced(sum, 0, count);
    detail::combine(l, i, to, to, sliced(from, e, count));
  }
  for (std::int32_t half = width / 2; half > 0; half /= 2) {
    const std::int32_t count = std::min(half, lanes - half);
    if (count > 0) {
      const auto to = sliced(sum, 0, count);
      detail::combine(l, i, to, to, sliced(sum, half, count));
    }
  }
  for (const place& x : sliced(sum, 0, 1)) {
    given.push_back(detail::dropped(x, axis));
  }
  return given;
}

/// Lowers `scan`. Returns: its results.
inline std::vector<place> scan(lowering& l, int i) {
  const int axis = l.p.at(i).index;
  const bool backwards = l.p.at(i).value != 0;
  std::vector<place> from;
  std::vector<place> sums;
  std::vector<place> given;
  for (int k = 0; k < l.p.at(i).count; ++k) {
    const place x = in_scratch(l, l.operand(i, k));
    const place to = l.new_tile(x.type);
    from.push_back(backwards ? detail::reversed(x, axis) : x);
    sums.push_back(backwards ? detail::reversed(to, axis) : to);
    given.push_back(to);
  }
  if (const auto op = detail::single_operation(l, i)) {
    detail::across(l, detail::across_opcode(*op, true), sums[0], from[0], axis);
    return given;
  }
  const auto sliced = [&](const std::vector<place>& all, std::int32_t at) {
    std::vector<place> part;
    for (const place& x : all) {
      part.push_back(detail::slice(x, axis, at, 1));
    }
    return part;
  };
  for (std::size_t k = 0; k < from.size(); ++k) {
    copy(l, detail::slice(sums[k], axis, 0, 1), detail::slice(from[k], axis, 0, 1));
  }
  for (std::int32_t e = 1; e < from[0].type.extent(axis); ++e) {
    detail::combine(l, i, sliced(sums, e), sliced(sums, e - 1), sliced(from, e));
  }
  return given;
}

}  // namespace ashlar::chip::npu_codegen
