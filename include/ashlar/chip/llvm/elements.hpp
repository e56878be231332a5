// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/chip/llvm/gpu_math.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/text.hpp"
#include "ashlar/chip/llvm/vector_values.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"

namespace ashlar::chip::llvm_codegen {

/// Elementwise operations on `lanes` elements at once, with the meaning that `tile::eval` gives
/// them.
///
/// A value is the name of a `<lanes x T>`, of a `T` for one lane. No flags are set, so that LLVM
/// keeps every rounding.
class elements : public vector_values {
 public:
  elements(text& t, const llvm_target& target, int lanes)
      : vector_values(t, lanes), target_(target) {}

  /// `align`: in elements.
  std::string load(dtype d, const std::string& from, int align = 1) {
    const std::string x = t_.let("load ", type(storage_type(d)), ", ptr ", from, ", align ",
                                 align * static_cast<std::int64_t>(size_of(d)));
    return d == dtype::boolean ? t_.let("icmp ne ", type("i8"), " ", x, ", ", literal("i8", 0)) : x;
  }
  void store(dtype d, const std::string& x, const std::string& to, int align = 1) {
    const std::string y = d == dtype::boolean ? convert("zext", "i1", x, "i8") : x;
    t_.line("store ", type(storage_type(d)), " ", y, ", ptr ", to, ", align ",
            align * static_cast<std::int64_t>(size_of(d)));
  }
  /// One value from those of the lanes, and back.
  std::string pack(dtype d, std::span<const std::string> each) {
    if (n_ == 1) {
      return each[0];
    }
    std::string all = "poison";
    for (int i = 0; i < n_; ++i) {
      all = t_.let("insertelement ", type(d), " ", all, ", ", value_type(d), " ",
                   each[static_cast<std::size_t>(i)], ", i32 ", i);
    }
    return all;
  }
  void unpack(dtype d, const std::string& all, std::span<std::string> each) {
    for (int i = 0; i < n_; ++i) {
      each[static_cast<std::size_t>(i)] =
          n_ == 1 ? all : t_.let("extractelement ", type(d), " ", all, ", i32 ", i);
    }
  }

  // --- the operations ----------------------------------------------------------------------------

  std::string unary(tile::opcode op, dtype d, const std::string& x) {
    using tile::opcode;
    if (is_narrow(d)) {
      return narrow(d, unary(op, dtype::float32, widen(d, x)));
    }
    if (op == opcode::bit_not) {
      return two("xor", d, x, literal(value_type(d), -1));
    }
    if (is_integral(d)) {
      const std::string negative = two("sub", d, literal(value_type(d), 0), x);
      if (op == opcode::neg || d == dtype::uint8) {
        return op == opcode::neg ? negative : x;
      }
      return choose(d, compared("icmp slt", d, x, literal(value_type(d), 0)), negative, x);
    }
    switch (op) {
      case opcode::neg:
        return t_.let("fneg ", type(d), " ", x);
      case opcode::abs:
        return magnitude(d, x);
      case opcode::floor:
        return intrinsic("floor", d, {x});
      case opcode::sqrt:
        return intrinsic("sqrt", d, {x});
      case opcode::rsqrt:
        return two("fdiv", d, number(d, 1), intrinsic("sqrt", d, {x}));
      case opcode::exp:
        return function("exp", d, x);
      case opcode::log:
        return function("log", d, x);
      case opcode::tanh:
        return function("tanh", d, x);
      case opcode::erf:
        return function("erf", d, x);
      default: {  // sigmoid
        const std::string e = function("exp", d, t_.let("fneg ", type(d), " ", x));
        return two("fdiv", d, number(d, 1), two("fadd", d, number(d, 1), e));
      }
    }
  }

  std::string binary(tile::opcode op, dtype d, const std::string& a, const std::string& b) {
    using tile::opcode;
    const bool bitwise = op >= opcode::bit_and && op <= opcode::bit_xor;
    if (bitwise) {
      return two(op == opcode::bit_and ? "and" : op == opcode::bit_or ? "or" : "xor", d, a, b);
    }
    if (is_narrow(d)) {
      return narrow(d, binary(op, dtype::float32, widen(d, a), widen(d, b)));
    }
    if (is_floating(d)) {
      return floating(op, d, a, b);
    }
    const bool sign = d != dtype::uint8;
    switch (op) {
      case opcode::add:
        return two("add", d, a, b);
      case opcode::sub:
        return two("sub", d, a, b);
      case opcode::mul:
        return two("mul", d, a, b);
      case opcode::div:
        return quotient(d, a, b);
      case opcode::rem:
        return two("sub", d, a, two("mul", d, quotient(d, a, b), b));
      case opcode::min:
        return choose(d, compared(sign ? "icmp slt" : "icmp ult", d, a, b), a, b);
      case opcode::max:
        return choose(d, compared(sign ? "icmp sgt" : "icmp ugt", d, a, b), a, b);
      default:
        return shifted(op, d, a, b);
    }
  }

  std::string compare(tile::opcode op, dtype d, const std::string& a, const std::string& b) {
    using tile::opcode;
    if (is_narrow(d)) {
      return compare(op, dtype::float32, widen(d, a), widen(d, b));
    }
    const bool sign = d != dtype::uint8 && d != dtype::boolean;
    if (is_floating(d)) {
      return compared(op == opcode::equal       ? "fcmp oeq"
                      : op == opcode::not_equal ? "fcmp une"
                      : op == opcode::less      ? "fcmp olt"
                                                : "fcmp ole",
                      d, a, b);
    }
    return compared(op == opcode::equal       ? "icmp eq"
                    : op == opcode::not_equal ? "icmp ne"
                    : op == opcode::less      ? (sign ? "icmp slt" : "icmp ult")
                                              : (sign ? "icmp sle" : "icmp ule"),
                    d, a, b);
  }

  std::string fma(dtype d, const std::string& a, const std::string& b, const std::string& c) {
    if (is_narrow(d)) {
      return narrow(d, fma(dtype::float32, widen(d, a), widen(d, b), widen(d, c)));
    }
    return intrinsic("fma", d, {a, b, c});
  }

  std::string cast(dtype from, dtype to, tile::rounding how, const std::string& x) {
    if (from == to) {
      return x;
    }
    if (is_narrow(from)) {
      return cast(dtype::float32, to, how, widen(from, x));
    }
    if (to == dtype::boolean) {
      return is_floating(from) ? compared("fcmp une", from, x, number(from, 0))
                               : compared("icmp ne", from, x, literal(value_type(from), 0));
    }
    const bool sign = from != dtype::uint8 && from != dtype::boolean;
    if (is_integral(to)) {
      if (is_floating(from)) {
        return saturated(from, to, x);
      }
      return bits_of(from) == bits_of(to) ? x
             : bits_of(from) > bits_of(to)
                 ? convert("trunc", value_type(from), x, value_type(to))
                 : convert(sign ? "sext" : "zext", value_type(from), x, value_type(to));
    }
    if (is_narrow(to)) {
      return is_integral(from) ? narrow(to, cast(from, dtype::float32, how, x))
                               : narrow(to, cast(from, dtype::float32, how, x), how);
    }
    if (is_integral(from)) {
      return convert(sign ? "sitofp" : "uitofp", value_type(from), x, value_type(to));
    }
    if (to == dtype::float64) {
      return convert("fpext", "float", x, "double");
    }
    const std::string y = convert("fptrunc", "double", x, "float");
    if (how == tile::rounding::nearest_even) {
      return y;
    }
    const std::string far =
        compared("fcmp ogt", dtype::float64,
                 magnitude(dtype::float64, convert("fpext", "float", y, "double")),
                 magnitude(dtype::float64, x));
    const std::string bits = convert("bitcast", "float", y, "i32");
    if (how == tile::rounding::saturating) {
      const std::string infinite = compared("icmp eq", dtype::int32, i32("and", bits, 0x7fffffff),
                                            literal("i32", 0x7f800000));
      const std::string largest = i32("or", i32("and", bits, 0x80000000), 0x7f7fffff);
      return convert("bitcast", "i32", choose(dtype::int32, infinite, largest, bits), "float");
    }
    const std::string less = two("sub", dtype::int32, bits, literal("i32", 1));
    return convert("bitcast", "i32", choose(dtype::int32, far, less, bits), "float");
  }

  std::string bitcast(dtype from, dtype to, const std::string& x) {
    if (value_type(from) == value_type(to)) {
      return x;
    }
    if (from == dtype::boolean) {
      return convert("zext", "i1", x, "i8");
    }
    if (to == dtype::boolean) {
      return t_.let("icmp ne ", type("i8"), " ", x, ", ", literal("i8", 0));
    }
    return convert("bitcast", value_type(from), x, value_type(to));
  }

  /// Word 0 of each counter's Philox block.
  std::string philox(const std::string& seed, const std::string& counters) {
    const auto low = [&](const std::string& x) { return convert("trunc", "i64", x, "i32"); };
    const auto high = [&](const std::string& x) {
      return low(t_.let("lshr ", type("i64"), " ", x, ", ", literal("i64", 32)));
    };
    const auto exclusive = [&](const std::string& a, const std::string& b) {
      return two("xor", dtype::int32, a, b);
    };
    const auto product = [&](std::int64_t a, const std::string& b) {
      return two("mul", dtype::int64, literal("i64", a), convert("zext", "i32", b, "i64"));
    };
    std::array<std::string, 4> c{low(counters), high(counters), literal("i32", 0),
                                 literal("i32", 0)};
    std::string k0 = low(seed);
    std::string k1 = high(seed);
    for (int round = 0; round < 10; ++round) {
      const std::string a = product(0xD2511F53, c[0]);
      const std::string b = product(0xCD9E8D57, c[2]);
      c = {exclusive(exclusive(high(b), c[1]), k0), low(b), exclusive(exclusive(high(a), c[3]), k1),
           low(a)};
      k0 = two("add", dtype::int32, k0, literal("i32", 0x9E3779B9));
      k1 = two("add", dtype::int32, k1, literal("i32", 0xBB67AE85));
    }
    return c[0];
  }

 private:
  /// A function of the target's C library, lane by lane: not the intrinsic, which LLVM would fold
  /// with the functions of the machine that it runs on.
  std::string function(std::string_view name, dtype d, const std::string& x) {
    const std::string_view one = value_type(d);
    const bool own = target_.has_own_math();
    const std::string symbol =
        own ? gpu_function(name, d)
            : cat("@", target_.math_prefix(), name, d == dtype::float32 ? "f" : "");
    if (!own) {
      t_.declared.insert(cat("declare ", one, " ", symbol, "(", one, ") nounwind"));
    }
    std::vector<std::string> each(static_cast<std::size_t>(n_));
    unpack(d, x, each);
    for (std::string& y : each) {
      y = t_.let("call ", one, " ", symbol, "(", one, " ", y, ")");
    }
    return pack(d, each);
  }

  std::string floating(tile::opcode op, dtype d, const std::string& a, const std::string& b) {
    using tile::opcode;
    switch (op) {
      case opcode::add:
        return two("fadd", d, a, b);
      case opcode::sub:
        return two("fsub", d, a, b);
      case opcode::mul:
        return two("fmul", d, a, b);
      case opcode::div:
        return two("fdiv", d, a, b);
      default: {
        const std::string first = compared(op == opcode::max ? "fcmp ogt" : "fcmp olt", d, a, b);
        const std::string nan = compared("fcmp uno", d, a, a);
        return choose(d, nan, a, choose(d, first, a, b));
      }
    }
  }

  /// Towards zero; by 0 it is 0, and the most negative number by -1 stays.
  std::string quotient(dtype d, const std::string& a, const std::string& b) {
    const std::string zero = literal(value_type(d), 0);
    const std::string one = literal(value_type(d), 1);
    const std::string by_zero = compared("icmp eq", d, b, zero);
    if (d == dtype::uint8) {
      return choose(d, by_zero, zero, two("udiv", d, a, choose(d, by_zero, one, b)));
    }
    const std::string by_minus = compared("icmp eq", d, b, literal(value_type(d), -1));
    const std::string safe = choose(d, by_zero, one, choose(d, by_minus, one, b));
    const std::string q = two("sdiv", d, a, safe);
    return choose(d, by_zero, zero, choose(d, by_minus, two("sub", d, zero, a), q));
  }

  std::string shifted(tile::opcode op, dtype d, const std::string& x, const std::string& by) {
    const std::string_view one = value_type(d);
    const std::string zero = literal(one, 0);
    const std::string out = compared("icmp uge", d, by, literal(one, bits_of(d)));
    const std::string n = choose(d, out, literal(one, bits_of(d) - 1), by);
    if (op == tile::opcode::shift_left) {
      return choose(d, out, zero, two("shl", d, x, n));
    }
    if (d == dtype::uint8) {
      return choose(d, out, zero, two("lshr", d, x, n));
    }
    return two("ashr", d, x, n);  // all sign bits where every bit is pushed out
  }

  std::string saturated(dtype from, dtype to, const std::string& x) {
    const std::string symbol =
        cat("@llvm.fpto", to == dtype::uint8 ? "u" : "s", "i.sat.", suffix(to), ".", suffix(from));
    t_.declared.insert(cat("declare ", type(to), " ", symbol, "(", type(from), ")"));
    return t_.let("call ", type(to), " ", symbol, "(", type(from), " ", x, ")");
  }

  const llvm_target& target_;
};

}  // namespace ashlar::chip::llvm_codegen
