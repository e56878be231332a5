// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

/// Tiles of a program that is written while the library runs.
namespace ashlar::graph {

/// A tile whose element type and extents are known only now: what the functions of `tile::fn`
/// compute with where a graph becomes a kernel.
///
/// The twin of `tile::tile`, with the same operators; extents of 1 are repeated, as there.
struct traced {
  tile::builder* program = nullptr;
  tile::value_id id = -1;

  [[nodiscard]] constexpr const tile::tile_type& type() const { return program->type_of(id); }
  [[nodiscard]] constexpr dtype element() const { return type().element; }
};

namespace detail {

/// The extents that two tiles of one rank meet in.
constexpr tile::tile_type meet(const tile::tile_type& a, const tile::tile_type& b) {
  tile::tile_type both = a.rank >= b.rank ? a : b;
  const tile::tile_type& other = a.rank >= b.rank ? b : a;
  const int lead = both.rank - other.rank;
  for (int i = 0; i < other.rank; ++i) {
    auto& extent = both.extents[static_cast<std::size_t>(i + lead)];
    extent = std::max(extent, other.extent(i));
  }
  return both;
}
constexpr tile::value_id spread(const traced& x, const tile::tile_type& to) {
  return x.program->broadcast(x.id, to.with(x.element()));
}
constexpr traced traced_binary(tile::opcode op, const traced& a, const traced& b) {
  const tile::tile_type to = meet(a.type(), b.type());
  const tile::value_id x = spread(a, to);
  const tile::value_id y = spread(b, to);
  return {a.program, a.program->binary(op, x, y)};
}
constexpr traced traced_unary(tile::opcode op, const traced& x) {
  return {x.program, x.program->unary(op, x.id)};
}

}  // namespace detail

constexpr traced operator+(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::add, a, b);
}
constexpr traced operator-(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::sub, a, b);
}
constexpr traced operator*(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::mul, a, b);
}
constexpr traced operator/(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::div, a, b);
}
constexpr traced operator==(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::equal, a, b);
}
constexpr traced operator!=(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::not_equal, a, b);
}
constexpr traced operator<(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::less, a, b);
}
constexpr traced operator<=(const traced& a, const traced& b) {
  return detail::traced_binary(tile::opcode::less_equal, a, b);
}
constexpr traced operator>(const traced& a, const traced& b) { return b < a; }
constexpr traced operator>=(const traced& a, const traced& b) { return b <= a; }
constexpr traced operator-(const traced& x) { return detail::traced_unary(tile::opcode::neg, x); }

constexpr traced abs(const traced& x) { return detail::traced_unary(tile::opcode::abs, x); }
constexpr traced exp(const traced& x) { return detail::traced_unary(tile::opcode::exp, x); }
constexpr traced log(const traced& x) { return detail::traced_unary(tile::opcode::log, x); }
constexpr traced sqrt(const traced& x) { return detail::traced_unary(tile::opcode::sqrt, x); }
constexpr traced tanh(const traced& x) { return detail::traced_unary(tile::opcode::tanh, x); }
constexpr traced erf(const traced& x) { return detail::traced_unary(tile::opcode::erf, x); }

constexpr traced select(const traced& condition, const traced& yes, const traced& no) {
  const tile::tile_type to = detail::meet(condition.type(), detail::meet(yes.type(), no.type()));
  const tile::value_id m = detail::spread(condition, to);
  const tile::value_id x = detail::spread(yes, to);
  const tile::value_id y = detail::spread(no, to);
  return {condition.program, condition.program->select(m, x, y)};
}
/// A number of the element type of `like`; it spreads where it meets a tile.
constexpr traced constant_like(const traced& like, double value) {
  return {like.program,
          is_floating(like.element())
              ? like.program->constant(like.element(), value)
              : like.program->constant(like.element(), static_cast<std::int64_t>(value))};
}

constexpr traced cast(const traced& x, dtype to) {
  return x.element() == to ? x : traced{x.program, x.program->cast(x.id, to)};
}

/// Combines the elements of each row, the last axis, which stays with extent 1. In the order of
/// `opcode::reduce`.
constexpr traced fold_rows(tile::opcode combine, const traced& x) {
  tile::builder& b = *x.program;
  const tile::tile_type from = x.type();
  const int axis = from.rank - 1;
  if (from.extent(axis) == 1) {
    return x;
  }
  const tile::value_id owner = b.emit({.op = tile::opcode::reduce, .index = axis}, {x.id});
  const tile::tile_type one = tile::scalar_type(from.element);
  const std::array<tile::tile_type, 2> inputs{one, one};
  const tile::value_id left = b.begin_region(inputs);
  const tile::value_id both = b.binary(combine, left, static_cast<tile::value_id>(left + 1));
  b.yield(std::array{both});
  const tile::value_id folded = b.result(owner, 0, from.without(axis));
  tile::tile_type kept = from;
  kept.extents[static_cast<std::size_t>(axis)] = 1;
  return {&b, b.reshape(folded, kept)};
}

}  // namespace ashlar::graph
