// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstdint>
#include <optional>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/type.hpp"

/// What holds of types, constants and single instructions, for identities to ask.
namespace ashlar::tile::passes::detail {

/// Whether every value of `from` is one of `to`.
constexpr bool holds_all(dtype from, dtype to) {
  if (from == to || from == dtype::boolean) {
    return true;
  }
  switch (from) {
    case dtype::int8:
    case dtype::uint8:
      return to == dtype::int32 || to == dtype::int64 || (is_floating(to) && size_of(to) > 1);
    case dtype::int32:
      return to == dtype::int64 || to == dtype::float64;
    case dtype::float8_e4m3:
    case dtype::float8_e5m2:
      return to == dtype::float16 || to == dtype::bfloat16 || to == dtype::float32 ||
             to == dtype::float64;
    case dtype::float16:
    case dtype::bfloat16:
      return to == dtype::float32 || to == dtype::float64;
    case dtype::float32:
      return to == dtype::float64;
    default:
      return false;
  }
}

/// Whether a cast from `a` through `middle` to `b`, rounded there as `how` says, gives what a cast
/// from `a` to `b` does.
constexpr bool middle_is_idle(dtype a, dtype middle, dtype b, rounding how) {
  if (!holds_all(a, middle)) {
    return false;
  }
  // A cast that loses nothing leaves infinity alone, one from a wider type would not.
  if (how == rounding::saturating && holds_all(a, b)) {
    return false;
  }
  // Integers always go to the nearest floating-point number.
  if (is_integral(a) && is_floating(middle) && is_floating(b) && !holds_all(a, b) &&
      how != rounding::nearest_even) {
    return false;
  }
  // An integer that goes to a narrower one loses high bits; as a floating-point number it would
  // saturate.
  const bool saturates = is_integral(a) && a != dtype::boolean && is_floating(middle) &&
                         is_integral(b) && b != dtype::boolean;
  return a == b || !saturates;
}

/// Whether operands may change places, with the same bits.
constexpr bool commutes(const instruction& i) {
  switch (i.op) {
    case opcode::add:
    case opcode::mul:
    case opcode::fma:
    case opcode::bit_and:
    case opcode::bit_or:
    case opcode::bit_xor:
    case opcode::equal:
    case opcode::not_equal:
      return true;
    case opcode::min:
    case opcode::max:  // of +0 and -0 it gives the second
      return is_integral(i.type.element);
    default:
      return false;
  }
}

constexpr std::int64_t all_ones(dtype e) {
  return e == dtype::boolean ? 1 : e == dtype::uint8 ? 255 : -1;
}

/// The reciprocal of a power of two, where it is a normal number: to divide is to multiply by it.
///
/// Both are `constant_bits` of `element`.
constexpr std::optional<std::int64_t> exact_reciprocal(dtype element, std::int64_t bits) {
  constexpr int mantissa = 52;
  constexpr std::int64_t bias = 1023;
  const std::int64_t exponent = ((bits >> mantissa) & 0x7ff) - bias;
  const std::int64_t most = element == dtype::float8_e4m3   ? 6
                            : element == dtype::float8_e5m2 ? 14
                            : element == dtype::float16     ? 14
                            : element == dtype::float64     ? 1022
                                                            : 126;
  if ((bits & ((std::int64_t{1} << mantissa) - 1)) != 0 || exponent > most || exponent < -most) {
    return std::nullopt;
  }
  const std::int64_t sign = bits < 0 ? std::bit_cast<std::int64_t>(-0.0) : 0;
  return sign | ((bias - exponent) << mantissa);
}

/// Whether a transpose leaves the axes as they are.
constexpr bool is_in_order(const instruction& i) {
  for (int a = 0; a < i.type.rank; ++a) {
    if (((i.value >> (4 * a)) & 15) != a) {
      return false;
    }
  }
  return true;
}

/// The axes of a transpose by `inner`, then by `outer`.
constexpr std::int64_t composed_axes(std::int64_t outer, std::int64_t inner, int rank) {
  std::int64_t both = 0;
  for (int a = 0; a < rank; ++a) {
    const auto from = (outer >> (4 * a)) & 15;
    both |= ((inner >> (4 * from)) & 15) << (4 * a);
  }
  return both;
}

/// Whether it only puts axes of extent 1 in front, as a broadcast does by itself.
constexpr bool adds_leading_ones(const program& p, value_id v) {
  if (p.at(v).op != opcode::reshape) {
    return false;
  }
  const tile_type& t = p.type_of(v);
  const tile_type& x = p.type_of(p.operand(v, 0));
  const int more = t.rank - x.rank;
  if (more < 0) {
    return false;
  }
  for (int a = 0; a < t.rank; ++a) {
    if (t.extent(a) != (a < more ? 1 : x.extent(a - more))) {
      return false;
    }
  }
  return true;
}

}  // namespace ashlar::tile::passes::detail
