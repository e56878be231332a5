// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstdint>
#include <limits>

#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/tile/functions.hpp"

namespace ashlar::chip::npu_isa::detail {

inline std::int64_t float_register(float v) {
  return static_cast<std::int64_t>(std::bit_cast<std::uint32_t>(v));
}
inline float register_float(std::int64_t r) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(r));
}

/// Returns: the result of a scalar instruction with two sources, or of `cast`.
inline std::int64_t scalar_result(const instruction& i, std::int64_t x, std::int64_t y) {
  namespace fn = tile::fn;
  const auto either = [](const auto& f, auto a, auto b) { return f(a, b); };
  if (i.op == opcode::s_cast) {
    if (i.type == i.from) {
      return x;
    }
    return i.type == element::f32 ? float_register(static_cast<float>(x))
                                  : to_integer(register_float(x), element::i64);
  }
  if (i.type == element::f32) {
    const float a = register_float(x);
    const float b = register_float(y);
    switch (i.op) {
      case opcode::s_add:
        return float_register(a + b);
      case opcode::s_sub:
        return float_register(a - b);
      case opcode::s_mul:
        return float_register(a * b);
      case opcode::s_div:
        return float_register(a / b);
      case opcode::s_min:
        return float_register(either(fn::minimum{}, a, b));
      case opcode::s_max:
        return float_register(either(fn::maximum{}, a, b));
      case opcode::s_eq:
        return a == b ? 1 : 0;
      case opcode::s_ne:
        return a != b ? 1 : 0;
      case opcode::s_lt:
        return a < b ? 1 : 0;
      default:
        return a <= b ? 1 : 0;
    }
  }
  switch (i.op) {
    case opcode::s_add:
      return fn::add{}(x, y);
    case opcode::s_sub:
      return fn::sub{}(x, y);
    case opcode::s_mul:
      return fn::mul{}(x, y);
    case opcode::s_div:
      return fn::div{}(x, y);
    case opcode::s_rem:  // x - y * (x / y), and x where y is 0
      return fn::sub{}(x, fn::mul{}(y, fn::div{}(x, y)));
    case opcode::s_min:
      return x < y ? x : y;
    case opcode::s_max:
      return x > y ? x : y;
    case opcode::s_and:
      return x & y;
    case opcode::s_or:
      return x | y;
    case opcode::s_xor:
      return x ^ y;
    case opcode::s_shl:
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(x) << (y & 63));
    case opcode::s_shr:
      return x >> (y & 63);
    case opcode::s_eq:
      return x == y ? 1 : 0;
    case opcode::s_ne:
      return x != y ? 1 : 0;
    case opcode::s_lt:
      return x < y ? 1 : 0;
    default:
      return x <= y ? 1 : 0;
  }
}

}  // namespace ashlar::chip::npu_isa::detail
