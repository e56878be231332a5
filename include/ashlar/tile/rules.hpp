// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/program.hpp"

/// What must hold of one instruction, given those before it. Each rule is the sentence that an
/// error shows; no sentence means that all is well.
namespace ashlar::tile::detail {

using rule = std::string_view;

constexpr bool is_index(const program& p, value_id v) { return p.type_of(v) == index_type; }

constexpr rule leaf_rule(const program& p, const instruction& i) {
  const tile_type& t = i.type;
  const auto is_parameter = [&] { return i.index >= 0 && i.index < p.parameter_count; };
  switch (i.op) {
    case opcode::constant:
      return t.is_scalar() ? rule() : "constant: it is a scalar; broadcast it";
    case opcode::iota:
      if (t.element != dtype::int32 && t.element != dtype::int64) {
        return "iota: its elements are int32 or int64";
      }
      return i.index >= 0 && i.index < t.rank ? rule() : "iota: there is no such axis";
    case opcode::program_id:
    case opcode::grid_size:
      if (i.index < 0 || i.index > 2) {
        return "a grid has the axes 0, 1 and 2";
      }
      return t == index_type ? rule() : "a place in the grid is an int64 scalar";
    case opcode::extent:
      if (!is_parameter() || !p.parameter_at(i.index).is_view()) {
        return "extent: no such view among the parameters";
      }
      if (i.value < 0 || i.value >= p.parameter_at(i.index).rank) {
        return "extent: the view has no such axis";
      }
      return t == index_type ? rule() : "extent: it is an int64 scalar";
    case opcode::argument:
      if (!is_parameter() || p.parameter_at(i.index).is_view()) {
        return "argument: no such scalar among the parameters";
      }
      return t == scalar_type(p.parameter_at(i.index).element)
                 ? rule()
                 : "argument: its type is the parameter's";
    default:
      return i.index >= 0 ? rule() : "region_input: its number is negative";
  }
}

constexpr rule memory_rule(const program& p, const instruction& i) {
  const auto operands = p.operands(i);
  const bool reads = i.op == opcode::load || i.op == opcode::gather;
  const bool blocks = i.op == opcode::load || i.op == opcode::store;
  if (i.index < 0 || i.index >= p.parameter_count || !p.parameter_at(i.index).is_view()) {
    return "memory: no such view among the parameters";
  }
  const parameter& view = p.parameter_at(i.index);
  if (!reads && !view.written) {
    return "memory: the view is only for reading";
  }
  const std::size_t places = operands.size() - (reads ? 0 : 1);
  if (operands.size() < (reads ? 0u : 1u) || places != static_cast<std::size_t>(view.rank)) {
    return "memory: one place per axis of the view";
  }
  const tile_type& t = reads ? i.type : p.type_of(operands[0]);
  if (!t.is_value() || t.element != view.element) {
    return "memory: the tile and the view have different element types; cast";
  }
  if (blocks && t.rank > view.rank) {
    return "memory: the tile has more axes than the view";
  }
  for (const value_id place : operands.subspan(reads ? 0 : 1)) {
    const tile_type& at = p.type_of(place);
    if (at.element != dtype::int64 || !(at.is_scalar() || (!blocks && at.same_extents(t)))) {
      return blocks ? "memory: offsets are int64 scalars"
                    : "memory: indices are int64, scalars or of the tile's extents";
    }
  }
  return reads || !i.type.is_value() ? rule() : "memory: what writes has no result";
}

constexpr bool is_function(opcode op) { return op >= opcode::exp && op <= opcode::floor; }

constexpr rule unary_rule(const program& p, const instruction& i) {
  const tile_type& x = p.type_of(p.operands(i)[0]);
  if (i.op == opcode::cast) {
    if (i.index < 0 || i.index > static_cast<int>(rounding::saturating)) {
      return "cast: there is no such rounding";
    }
    return i.type.same_extents(x) ? rule() : "cast: the extents stay";
  }
  if (i.op == opcode::bitcast) {
    return i.type.same_extents(x) && size_of(i.type.element) == size_of(x.element)
               ? rule()
               : "bitcast: the extents and the size of an element stay";
  }
  if (i.type != x) {
    return "the result has the operand's type";
  }
  if (is_function(i.op) && !is_floating(x.element)) {
    return "this function is for floating-point elements; cast";
  }
  if (i.op == opcode::bit_not && !is_integral(x.element)) {
    return "bit_not: for integers and bool";
  }
  return (i.op == opcode::neg || i.op == opcode::abs) && x.element == dtype::boolean
             ? "bool has no sign"
             : rule();
}

constexpr rule binary_rule(const program& p, const instruction& i) {
  const tile_type& a = p.type_of(p.operands(i)[0]);
  const tile_type& b = p.type_of(p.operands(i)[1]);
  if (a != b) {
    return "two operands of one type; broadcast or cast";
  }
  if (info(i.op).kind == opcode_kind::compare) {
    return i.type == a.with(dtype::boolean) ? rule() : "a comparison gives bool";
  }
  if (i.type != a) {
    return "the result has the operands' type";
  }
  const bool bits = i.op >= opcode::bit_and && i.op <= opcode::shift_right;
  if ((bits || i.op == opcode::rem) && !is_integral(a.element)) {
    return "this operation is for integers";
  }
  const bool shift = i.op == opcode::shift_left || i.op == opcode::shift_right;
  const bool bit = i.op >= opcode::bit_and && i.op <= opcode::bit_xor;
  return a.element == dtype::boolean && (shift || !bit) ? "bool knows and, or, xor; cast" : rule();
}

constexpr rule ternary_rule(const program& p, const instruction& i) {
  const tile_type& a = p.type_of(p.operands(i)[0]);
  const tile_type& b = p.type_of(p.operands(i)[1]);
  const tile_type& c = p.type_of(p.operands(i)[2]);
  if (i.op == opcode::select) {
    return b == c && a == b.with(dtype::boolean) && i.type == b
               ? rule()
               : "select: a bool tile and two tiles of the result's type, all of one shape";
  }
  return is_floating(a.element) && a == b && a == c && i.type == a
             ? rule()
             : "fma: three floating-point operands of the result's type";
}

constexpr rule shape_rule(const program& p, const instruction& i) {
  const tile_type& x = p.type_of(p.operands(i)[0]);
  const tile_type& t = i.type;
  if (!t.is_value() || x.element != t.element) {
    return "shape: the element type stays";
  }
  switch (i.op) {
    case opcode::broadcast:
      return broadcasts_to(x, t) ? rule() : "broadcast: each extent is 1 or the result's";
    case opcode::reshape:
      return x.size() == t.size() ? rule() : "reshape: the number of elements stays";
    case opcode::transpose: {
      unsigned seen = 0;
      for (int a = 0; a < x.rank; ++a) {
        const auto from = static_cast<int>((i.value >> (4 * a)) & 15);
        if (from >= x.rank || t.rank != x.rank || t.extent(a) != x.extent(from)) {
          return "transpose: the result's extents are the operand's, in the order of the axes";
        }
        seen |= 1u << from;
      }
      return seen == (1u << x.rank) - 1 && i.value >> (4 * x.rank) == 0
                 ? rule()
                 : "transpose: each axis once";
    }
    case opcode::split:
      if (x.rank < 1 || t.rank != x.rank || t.extent(t.rank - 1) * 2 != x.extent(x.rank - 1) ||
          i.index < 0 || i.index > 1) {
        return "split: half 0 or 1 of the last axis, whose extent is even";
      }
      return t.without(t.rank - 1) == x.without(x.rank - 1) ? rule() : "split: other axes stay";
    case opcode::join: {
      const tile_type& y = p.type_of(p.operands(i)[1]);
      if (x != y || x.rank < 1 || t.rank != x.rank ||
          t.extent(t.rank - 1) != x.extent(x.rank - 1) * 2) {
        return "join: two tiles of one type; the last axis doubles";
      }
      return t.without(t.rank - 1) == x.without(x.rank - 1) ? rule() : "join: other axes stay";
    }
    default:
      if ((x.element != dtype::int8 && x.element != dtype::uint8) || x.rank < 1 ||
          t.rank != x.rank || t.extent(t.rank - 1) != x.extent(x.rank - 1) * 2) {
        return "unpack_nibbles: int8 or uint8; the last axis doubles";
      }
      return t.without(t.rank - 1) == x.without(x.rank - 1) ? rule()
                                                            : "unpack_nibbles: other axes stay";
  }
}

/// The element type in which products of `e` add up.
constexpr dtype accumulator_of(dtype e) {
  switch (e) {
    case dtype::float8_e4m3:
    case dtype::float8_e5m2:
    case dtype::float16:
    case dtype::bfloat16:
    case dtype::float32:
      return dtype::float32;
    case dtype::float64:
      return dtype::float64;
    default:
      return dtype::int32;
  }
}

constexpr rule matrix_rule(const program& p, const instruction& i) {
  const bool scaled = i.op == opcode::dot_scaled;
  const auto operands = p.operands(i);
  const tile_type& a = p.type_of(operands[0]);
  const tile_type& b = p.type_of(operands[scaled ? 2 : 1]);
  const tile_type& c = p.type_of(operands[scaled ? 4 : 2]);
  const int r = a.rank;
  if (r < 2 || r > 3 || b.rank != r || c.rank != r || i.type != c) {
    return "dot: a[.., M, K], b[.., K, N] and c[.., M, N], of the result's type";
  }
  if (a.extent(r - 2) != c.extent(r - 2) || b.extent(r - 1) != c.extent(r - 1) ||
      a.extent(r - 1) != b.extent(r - 2) ||
      (r == 3 && (a.extent(0) != c.extent(0) || b.extent(0) != c.extent(0)))) {
    return "dot: the extents of a[.., M, K], b[.., K, N] and c[.., M, N] do not meet";
  }
  const bool known = is_floating(a.element) || a.element == dtype::int8;
  if (a.element != b.element || !known || c.element != accumulator_of(a.element)) {
    return "dot: f32 and narrower floats add up in f32, f64 in f64, int8 in int32";
  }
  if (!scaled) {
    return {};
  }
  const tile_type& sa = p.type_of(operands[1]);
  const tile_type& sb = p.type_of(operands[3]);
  const std::int32_t k = a.extent(r - 1);
  if (r != 2 || k % 32 != 0 || c.element != dtype::float32 ||
      sa != tile_type(dtype::float32, {a.extent(0), k / 32}) ||
      sb != tile_type(dtype::float32, {k / 32, b.extent(1)})) {
    return "dot_scaled: f32 scales [M, K/32] and [K/32, N], K a multiple of 32, c in f32";
  }
  return {};
}

/// One instruction but for its regions, which `verify` checks.
///
/// Requires: its operands are instructions before it.
constexpr rule broken_rule(const program& p, const instruction& i) {
  const opcode_info& about = info(i.op);
  if (about.operands >= 0 && i.count != about.operands) {
    return "it has another number of operands";
  }
  if (i.op != opcode::result) {
    for (const value_id o : p.operands(i)) {
      if (!p.type_of(o).is_value()) {
        return "an operand has no value";
      }
    }
  }
  std::int64_t room = max_elements;
  for (int a = 0; a < i.type.rank; ++a) {
    if (i.type.extent(a) < 1) {
      return "a tile's extents are at least 1";
    }
    room /= i.type.extent(a);
  }
  if (room == 0) {
    return "a tile has at most 2^24 elements";
  }
  switch (about.kind) {
    case opcode_kind::leaf:
      return leaf_rule(p, i);
    case opcode_kind::memory:
      return memory_rule(p, i);
    case opcode_kind::unary:
      return unary_rule(p, i);
    case opcode_kind::binary:
    case opcode_kind::compare:
      return binary_rule(p, i);
    case opcode_kind::ternary:
      return ternary_rule(p, i);
    case opcode_kind::shape:
      return shape_rule(p, i);
    case opcode_kind::matrix:
      return matrix_rule(p, i);
    case opcode_kind::region:
      return i.type.is_value() ? "an instruction with regions has results, not a value" : rule();
    case opcode_kind::other:
      break;
  }
  if (i.op == opcode::random_bits) {
    const tile_type& counters = p.type_of(p.operands(i)[1]);
    return is_index(p, p.operands(i)[0]) && counters.element == dtype::int64 &&
                   i.type == counters.with(dtype::int32)
               ? rule()
               : "random_bits: an int64 seed and int64 counters give int32";
  }
  if (i.op == opcode::require && p.type_of(p.operands(i)[0]).element != dtype::boolean) {
    return "require: a bool tile";
  }
  return (i.op == opcode::result) == i.type.is_value() ? rule() : "it has no value of its own";
}

}  // namespace ashlar::tile::detail
