// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/lowering.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

/// Elementwise instructions on the vector unit.
namespace ashlar::chip::npu_codegen {

/// A tile that reads as `x`, repeated to the extents of `t`: no bytes move.
inline place repeated(const place& x, const tile::tile_type& t) {
  place y = x;
  y.type = t.with(x.type.element);
  const int skip = t.rank - x.type.rank;
  y.at.stride = {};
  for (int a = 0; a < x.type.rank; ++a) {
    const auto from = static_cast<std::size_t>(a);
    const auto to = static_cast<std::size_t>(a + skip);
    y.at.stride[to] = x.type.extent(a) == 1 ? 0 : x.at.stride[from];
  }
  return y;
}

/// A constant tile.
inline place constant_place(const tile::tile_type& t, std::int64_t bits) {
  return {.where = place::kind::constant, .type = t, .bits = bits};
}

/// One vector instruction on every box of `to`; `code` has opcode, types, mode and axis.
///
/// Requires: sources have the extents of `to`; a scalar or a constant only where the opcode takes
/// them.
inline void vector(lowering& l, isa::instruction code, const place& to,
                   std::initializer_list<place> from) {
  std::vector<layout> layouts{to.at};
  for (const place& s : from) {
    layouts.push_back(s.in_scratch() ? s.at : layout{});
  }
  const lowering::scope temporaries(l);
  code.unit = isa::vector_unit;
  std::array<int, 4> buffers{to.buffer, -1, -1, -1};
  std::array<isa::operand*, 3> sources{&code.a, &code.b, &code.c};
  bool immediate = false;
  std::size_t k = 0;
  for (const place& s : from) {
    isa::operand& o = *sources[k];
    buffers[k + 1] = s.in_scratch() ? s.buffer : -1;
    if (s.where == place::kind::constant) {
      const std::uint64_t bits = operand_bits(s.type.element, s.bits);
      if (code.op != isa::opcode::v_copy && (!immediate || code.imm == bits)) {
        o = {isa::operand_kind::immediate, {}, 0, 0};
        code.imm = bits;
        immediate = true;
      } else {
        const std::uint8_t r = l.fresh();
        l.add({.op = isa::opcode::li, .rd = r, .imm = bits});
        o = {isa::operand_kind::scalar, {r, 0}, 0, 0};
      }
    } else if (s.where == place::kind::scalar) {
      o = {isa::operand_kind::scalar, l.read_home(s.home), 0, 0};
    }
    ++k;
  }
  // Layouts of constants have strides of 0 and join with anything.
  for (std::size_t n = 1; n < layouts.size(); ++n) {
    layouts[n] = buffers[n] >= 0 ? layouts[n] : layout{};
  }
  const box_walk w = walk(to.type, layouts);
  const std::size_t count = from.size();
  const auto boxed = [&](std::size_t operand, std::size_t box, isa::element e) {
    const box_walk::operand& o = w.operands[operand];
    return isa::operand{
        isa::operand_kind::scratch, static_cast<std::int32_t>(o.offsets[box] * isa::size_of(e)),
        static_cast<std::int32_t>(o.row_stride), static_cast<std::int32_t>(o.col_stride)};
  };
  code.rows = static_cast<std::int32_t>(w.rows);
  code.cols = static_cast<std::int32_t>(w.cols);
  for (std::size_t box = 0; box < w.count(); ++box) {
    code.dst = boxed(0, box, element_of(to.type.element));
    k = 1;
    for (const place& s : from) {
      if (s.in_scratch()) {
        *sources[k - 1] = boxed(k, box, element_of(s.type.element));
      }
      ++k;
    }
    l.add(code, buffers);
  }
  static_cast<void>(count);
}

inline void vector(lowering& l, isa::opcode op, dtype e, const place& to,
                   std::initializer_list<place> from) {
  vector(l, {.op = op, .type = element_of(e)}, to, from);
}

/// Writes `x` into every element of `to`, or its elements where it has as many.
inline void copy(lowering& l, const place& to, const place& x) {
  if (x.where == place::kind::constant) {
    isa::instruction fill{.op = isa::opcode::v_fill, .type = element_of(to.type.element)};
    fill.imm = memory_bits(to.type.element, x.bits);
    return vector(l, fill, to, {});
  }
  if (x.in_scratch() && x.buffer == to.buffer && x.at == to.at) {
    return;
  }
  vector(l, isa::opcode::v_copy, to.type.element, to, {x});
}

/// `x` where it has elements: else one element, repeated.
inline place in_scratch(lowering& l, const place& x) {
  if (x.in_scratch()) {
    return x;
  }
  const place one = l.new_tile(tile::scalar_type(x.type.element));
  place scalar = x;
  scalar.type = one.type;
  copy(l, one, scalar);
  return repeated(one, x.type);
}

namespace detail {

constexpr isa::opcode vector_opcode(tile::opcode op) {
  using tile::opcode;
  switch (op) {
    case opcode::neg:
      return isa::opcode::v_neg;
    case opcode::abs:
      return isa::opcode::v_abs;
    case opcode::exp:
      return isa::opcode::v_exp;
    case opcode::log:
      return isa::opcode::v_log;
    case opcode::sqrt:
      return isa::opcode::v_sqrt;
    case opcode::rsqrt:
      return isa::opcode::v_rsqrt;
    case opcode::tanh:
      return isa::opcode::v_tanh;
    case opcode::sigmoid:
      return isa::opcode::v_sigmoid;
    case opcode::erf:
      return isa::opcode::v_erf;
    case opcode::floor:
      return isa::opcode::v_floor;
    case opcode::bit_not:
      return isa::opcode::v_not;
    case opcode::add:
      return isa::opcode::v_add;
    case opcode::sub:
      return isa::opcode::v_sub;
    case opcode::mul:
      return isa::opcode::v_mul;
    case opcode::div:
      return isa::opcode::v_div;
    case opcode::min:
      return isa::opcode::v_min;
    case opcode::max:
      return isa::opcode::v_max;
    case opcode::bit_and:
      return isa::opcode::v_and;
    case opcode::bit_or:
      return isa::opcode::v_or;
    case opcode::bit_xor:
      return isa::opcode::v_xor;
    case opcode::shift_left:
      return isa::opcode::v_shl;
    case opcode::shift_right:
      return isa::opcode::v_shr;
    case opcode::equal:
      return isa::opcode::v_eq;
    case opcode::not_equal:
      return isa::opcode::v_ne;
    case opcode::less:
      return isa::opcode::v_lt;
    case opcode::less_equal:
      return isa::opcode::v_le;
    case opcode::fma:
      return isa::opcode::v_fma;
    default:
      return isa::opcode::v_select;
  }
}

/// Amounts outside of the width push every bit out; the machine takes them modulo the width.
inline void shift(lowering& l, tile::opcode op, const place& to, const place& x, const place& by) {
  const dtype e = to.type.element;
  const std::int64_t width = 8 * static_cast<std::int64_t>(ashlar::size_of(e));
  const auto number = [&](std::int64_t n) { return constant_place(to.type, n); };
  const isa::opcode machine = vector_opcode(op);
  if (by.where == place::kind::constant && by.bits >= 0 && by.bits < width) {
    return vector(l, machine, e, to, {x, by});
  }
  const tile::tile_type truth = to.type.with(dtype::boolean);
  const place enough = l.new_tile(truth);
  const place inside = l.new_tile(truth);
  vector(l, isa::opcode::v_ge, e, enough, {by, number(0)});
  vector(l, isa::opcode::v_lt, e, inside, {by, number(width)});
  vector(l, isa::opcode::v_and, dtype::boolean, inside, {inside, enough});
  const place shifted = l.new_tile(to.type);
  if (op == tile::opcode::shift_right && e != dtype::uint8) {  // the sign stays
    vector(l, isa::opcode::v_select, e, shifted, {inside, by, number(width - 1)});
    return vector(l, machine, e, to, {x, shifted});
  }
  vector(l, machine, e, shifted, {x, by});
  vector(l, isa::opcode::v_select, e, to, {inside, shifted, number(0)});
}

inline void remainder(lowering& l, const place& to, const place& a, const place& b) {
  const dtype e = to.type.element;
  const place whole = l.new_tile(to.type);
  vector(l, isa::opcode::v_div, e, whole, {a, b});
  vector(l, isa::opcode::v_mul, e, whole, {whole, b});
  vector(l, isa::opcode::v_sub, e, to, {a, whole});
}

/// The largest number of a floating type.
inline double largest_of(dtype e) {
  return tile::eval::with_scalar(e, [&]<class T>(std::type_identity<T>) -> double {
    if constexpr (NarrowFloating<T>) {
      using bits = tile::eval::detail::bits_of<T>;
      const auto code = static_cast<bits>(ashlar::detail::largest_bits(dtype_of<T>));
      return static_cast<double>(static_cast<float>(tile::eval::detail::from_raw_bits<T>(code)));
    } else {
      return static_cast<double>(std::numeric_limits<float>::max());
    }
  });
}

/// `x` between `-most` and `most`, in f64 or f32; NaN stays.
inline place clamped(lowering& l, const place& x, double most) {
  const dtype e = x.type.element == dtype::float64 ? dtype::float64 : dtype::float32;
  const place y = l.new_tile(x.type.with(e));
  place wide = x;
  if (x.type.element != e) {
    vector(l,
           {.op = isa::opcode::v_cast, .type = element_of(e), .from = element_of(x.type.element)},
           y, {x});
    wide = y;
  }
  vector(l, isa::opcode::v_min, e, y, {wide, constant_place(y.type, tile::constant_bits(most))});
  vector(l, isa::opcode::v_max, e, y, {y, constant_place(y.type, tile::constant_bits(-most))});
  return y;
}

inline void convert(lowering& l, const tile::instruction& i, const place& to, const place& x) {
  isa::instruction code{.op = isa::opcode::v_cast,
                        .type = element_of(to.type.element),
                        .from = element_of(x.type.element)};
  const auto how = static_cast<tile::rounding>(i.index);
  const bool narrows = to.type.element != dtype::float64 && ashlar::is_floating(to.type.element) &&
                       ashlar::is_floating(x.type.element) &&
                       (to.type.element != dtype::float32 || x.type.element == dtype::float64);
  if (narrows && how == tile::rounding::saturating) {
    const place held = clamped(l, in_scratch(l, x), largest_of(to.type.element));
    code.from = element_of(held.type.element);
    return vector(l, code, to, {held});
  }
  code.mode = narrows && how == tile::rounding::toward_zero ? 1 : 0;
  vector(l, code, to, {in_scratch(l, x)});
}

}  // namespace detail

/// The same bits as another type, where no instruction is needed for it.
inline bool is_renaming(const tile::instruction& i, dtype from) {
  const dtype to = i.type.element;
  return i.op == tile::opcode::cast ? from == to
                                    : i.op == tile::opcode::bitcast && to != dtype::boolean;
}

constexpr bool is_float8(dtype e) { return e == dtype::float8_e4m3 || e == dtype::float8_e5m2; }

/// The same numbers in f32, where `x` has 8-bit floats.
inline place widened(lowering& l, const place& x) {
  if (!is_float8(x.type.element)) {
    return x;
  }
  place wide = x;
  wide.type = x.type.with(dtype::float32);
  if (x.in_scratch()) {
    wide = l.new_tile(wide.type);
    detail::convert(l, {.op = tile::opcode::cast}, wide, x);
  }
  return wide;
}

/// Writes the result of an elementwise instruction into `to`; with 8-bit floats it computes in f32
/// and rounds once more, as the interpreter does.
///
/// Requires: operands have the extents of `to`.
inline void elementwise_into(lowering& l, const tile::instruction& i, const place& to,
                             std::span<const place> in) {
  using tile::opcode;
  const bool converts = i.op == opcode::cast || i.op == opcode::bitcast;
  const bool small =
      std::any_of(in.begin(), in.end(), [](const place& x) { return is_float8(x.type.element); });
  if (small && !converts) {
    std::vector<place> wide;
    for (const place& x : in) {
      wide.push_back(widened(l, x));
    }
    if (!is_float8(to.type.element)) {
      return elementwise_into(l, i, to, wide);
    }
    const place result = l.new_tile(to.type.with(dtype::float32));
    elementwise_into(l, i, result, wide);
    return detail::convert(l, {.op = opcode::cast}, to, result);
  }
  const dtype e = in[0].type.element;
  switch (tile::info(i.op).kind) {
    case tile::opcode_kind::unary:
      if (i.op == opcode::bitcast) {  // to bool: whether it is not 0
        return detail::convert(l, {.op = opcode::cast, .type = i.type}, to, in[0]);
      }
      if (i.op == opcode::cast) {
        return detail::convert(l, i, to, in[0]);
      }
      return vector(l, detail::vector_opcode(i.op), e, to, {in_scratch(l, in[0])});
    case tile::opcode_kind::binary:
    case tile::opcode_kind::compare:
      if (i.op == opcode::shift_left || i.op == opcode::shift_right) {
        return detail::shift(l, i.op, to, in[0], in[1]);
      }
      if (i.op == opcode::rem) {
        return detail::remainder(l, to, in[0], in[1]);
      }
      return vector(l, detail::vector_opcode(i.op), e, to, {in[0], in[1]});
    case tile::opcode_kind::ternary:
      return vector(l, detail::vector_opcode(i.op), to.type.element, to, {in[0], in[1], in[2]});
    default:
      l.refuse("it is no elementwise instruction");
  }
}

/// The result of an elementwise instruction, in a tile of its own or as another view of an operand.
inline place elementwise(lowering& l, const tile::instruction& i, const tile::tile_type& type,
                         std::span<const place> in) {
  if (tile::info(i.op).kind == tile::opcode_kind::unary && is_renaming(i, in[0].type.element)) {
    place y = i.op == tile::opcode::cast ? in[0] : in_scratch(l, in[0]);
    y.type = type;
    return y;
  }
  const place to = l.new_tile(type);
  elementwise_into(l, i, to, in);
  return to;
}

}  // namespace ashlar::chip::npu_codegen
