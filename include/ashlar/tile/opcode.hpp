// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ashlar::tile {

/// What an instruction of the tile IR does. `info(op)` says how each is formed.
///
/// Operand order, attributes (`index`, `value`) and types stand beside each group.
enum class opcode : std::uint8_t {
  // Leaves: no operands.
  constant,      ///< value: bits of the scalar (`constant_bits`); any element type, rank 0
  iota,          ///< index: axis; 0, 1, 2 ... along it; int32 or int64
  program_id,    ///< index: grid axis 0..2; int64 scalar
  grid_size,     ///< index: grid axis 0..2; int64 scalar
  extent,        ///< index: parameter, value: axis of its view; int64 scalar
  argument,      ///< index: parameter that is a scalar
  region_input,  ///< index: which input of the region that it begins

  // Memory. index: parameter. Offsets are int64 scalars, one per axis of the view; the tile lies
  // along the view's last axes. `value` is what an element outside the view reads as.
  load,        ///< offsets...
  store,       ///< tile, offsets...; elements outside the view are dropped
  gather,      ///< indices...: int64, each a scalar or of the result's extents
  scatter,     ///< tile, indices...; the last of equal places wins, in row-major order
  atomic_add,  ///< as scatter; equal places add up in row-major order within one program
  atomic_max,
  atomic_min,

  // Elementwise, one operand.
  neg,
  abs,
  exp,
  log,
  sqrt,
  rsqrt,
  tanh,
  sigmoid,
  erf,
  floor,
  bit_not,  ///< integers and bool
  cast,     ///< index: `rounding`; float to integer goes towards zero and saturates, NaN gives 0;
            ///< integer to integer keeps the low bits; anything to bool: whether it is not 0
  bitcast,  ///< element types of one size

  // Elementwise, two operands of one type.
  add,
  sub,
  mul,
  div,  ///< integers: towards zero, 0 where the divisor is 0
  rem,  ///< integers: a - div(a, b) * b, so a where the divisor is 0
  min,  ///< NaN if either is
  max,
  bit_and,
  bit_or,
  bit_xor,
  shift_left,   ///< amounts below 0 and of the width or more push every bit out
  shift_right,  ///< arithmetic for signed types, which keep the sign when every bit is pushed out
  equal,        ///< comparisons give bool
  not_equal,
  less,
  less_equal,

  // Elementwise, three operands.
  fma,     ///< a * b + c, rounded once where the machine can: see `simd::fused_madd`
  select,  ///< bool, yes, no

  // Shape.
  broadcast,       ///< see `broadcasts_to`
  reshape,         ///< row-major order stays
  transpose,       ///< value: the axes, 4 bits each, the first in the lowest
  split,           ///< index 0 or 1: elements 0, 2, ... or 1, 3, ... of the last axis
  join,            ///< two tiles, interleaved along the last axis: the reverse of both splits
  unpack_nibbles,  ///< int8 or uint8 [..., n] -> [..., 2n]: low half first, sign as the type says

  // Matrices. a[.., M, K], b[.., K, N], c[.., M, N]: c + a b, sequential in K with `fma`.
  dot,
  dot_scaled,  ///< a, scales of a [M, K/32], b, scales of b [K/32, N], c: each group of 32 adds up
               ///< from 0 as in `dot`, then c = fma(group, scale of a * scale of b, c)

  random_bits,  ///< seed (int64 scalar), counters (int64): word 0 of each counter's Philox block;
                ///< int32

  // Regions follow their instruction directly; each begins with `region_input`s, ends with `yield`.
  /// index: axis; tiles... ; region (a..., b...) -> combined, on scalars.
  ///
  /// The order is the same on every chip, so that results are. Element e along the axis belongs to
  /// lane e mod 16; a lane begins with its first element and takes in the others by increasing e:
  /// lane = combine(lane, element). Then, for h = 8, 4, 2, 1, lane l < h becomes
  /// combine(lane l, lane l + h) where there is a lane l + h, that is l + h < min(extent, 16).
  /// Lane 0 is the result: the tree of `simd::sum`.
  reduce,
  scan,    ///< index: axis, value: 1 for from the end; inclusive; sum = combine(sum, next), in turn
  loop,    ///< first, end, step, carried...; region (counter, carried...) -> carried; the counter
           ///< stays below end; a step of 0 or less is an error where there is somebody to tell
  repeat,  ///< carried...; region (carried...) -> bool, then region (carried...) -> carried, while
           ///< the first gives true
  branch,  ///< bool; two regions () -> results

  yield,   ///< ends a region; its operands are the region's results
  result,  ///< operand: a region's instruction; index: which of its results

  // For people.
  print,   ///< tile; index: a number to find it by
  require  ///< bool tile: every element must hold; index: a number to find it by
};

inline constexpr int opcode_count = static_cast<int>(opcode::require) + 1;

/// Groups that share their rule of types.
enum class opcode_kind : std::uint8_t {
  leaf,
  memory,
  unary,
  binary,
  compare,
  ternary,
  shape,
  matrix,
  region,
  other
};

struct opcode_info {
  std::string_view name;
  opcode_kind kind;
  std::int8_t operands;  ///< -1: as many as it says
  std::int8_t regions;
  bool effect;  ///< it writes memory or speaks: never removed, merged or moved
};

namespace detail {
struct opcode_table {
  using k = opcode_kind;
  static constexpr std::array<opcode_info, opcode_count> rows{{
      {"constant", k::leaf, 0, 0, false},
      {"iota", k::leaf, 0, 0, false},
      {"program_id", k::leaf, 0, 0, false},
      {"grid_size", k::leaf, 0, 0, false},
      {"extent", k::leaf, 0, 0, false},
      {"argument", k::leaf, 0, 0, false},
      {"region_input", k::leaf, 0, 0, false},
      {"load", k::memory, -1, 0, false},
      {"store", k::memory, -1, 0, true},
      {"gather", k::memory, -1, 0, false},
      {"scatter", k::memory, -1, 0, true},
      {"atomic_add", k::memory, -1, 0, true},
      {"atomic_max", k::memory, -1, 0, true},
      {"atomic_min", k::memory, -1, 0, true},
      {"neg", k::unary, 1, 0, false},
      {"abs", k::unary, 1, 0, false},
      {"exp", k::unary, 1, 0, false},
      {"log", k::unary, 1, 0, false},
      {"sqrt", k::unary, 1, 0, false},
      {"rsqrt", k::unary, 1, 0, false},
      {"tanh", k::unary, 1, 0, false},
      {"sigmoid", k::unary, 1, 0, false},
      {"erf", k::unary, 1, 0, false},
      {"floor", k::unary, 1, 0, false},
      {"bit_not", k::unary, 1, 0, false},
      {"cast", k::unary, 1, 0, false},
      {"bitcast", k::unary, 1, 0, false},
      {"add", k::binary, 2, 0, false},
      {"sub", k::binary, 2, 0, false},
      {"mul", k::binary, 2, 0, false},
      {"div", k::binary, 2, 0, false},
      {"rem", k::binary, 2, 0, false},
      {"min", k::binary, 2, 0, false},
      {"max", k::binary, 2, 0, false},
      {"bit_and", k::binary, 2, 0, false},
      {"bit_or", k::binary, 2, 0, false},
      {"bit_xor", k::binary, 2, 0, false},
      {"shift_left", k::binary, 2, 0, false},
      {"shift_right", k::binary, 2, 0, false},
      {"equal", k::compare, 2, 0, false},
      {"not_equal", k::compare, 2, 0, false},
      {"less", k::compare, 2, 0, false},
      {"less_equal", k::compare, 2, 0, false},
      {"fma", k::ternary, 3, 0, false},
      {"select", k::ternary, 3, 0, false},
      {"broadcast", k::shape, 1, 0, false},
      {"reshape", k::shape, 1, 0, false},
      {"transpose", k::shape, 1, 0, false},
      {"split", k::shape, 1, 0, false},
      {"join", k::shape, 2, 0, false},
      {"unpack_nibbles", k::shape, 1, 0, false},
      {"dot", k::matrix, 3, 0, false},
      {"dot_scaled", k::matrix, 5, 0, false},
      {"random_bits", k::other, 2, 0, false},
      {"reduce", k::region, -1, 1, false},
      {"scan", k::region, -1, 1, false},
      {"loop", k::region, -1, 1, false},
      {"repeat", k::region, -1, 2, false},
      {"branch", k::region, 1, 2, false},
      {"yield", k::other, -1, 0, false},
      {"result", k::other, 1, 0, false},
      {"print", k::other, 1, 0, true},
      {"require", k::other, 1, 0, true},
  }};
};
}  // namespace detail

constexpr const opcode_info& info(opcode op) {
  return detail::opcode_table::rows[static_cast<std::size_t>(op)];
}

/// How a cast to a narrower floating-point type rounds.
enum class rounding : std::uint8_t {
  nearest_even,  ///< what is too large becomes infinity, or NaN where there is none (e4m3)
  toward_zero,   ///< what is too large becomes the largest number, but for infinity
  saturating     ///< as `nearest_even`, but what is too large becomes the largest number
};

}  // namespace ashlar::tile
