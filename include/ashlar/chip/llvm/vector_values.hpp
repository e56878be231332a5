// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/text.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/scalar.hpp"

namespace ashlar::chip::llvm_codegen {

/// Literals and single instructions on `lanes` elements at once, and the 16-bit formats.
///
/// A value is the name of a `<lanes x T>`, of a `T` for one lane.
class vector_values {
 public:
  vector_values(text& t, int lanes) : t_(t), n_(lanes) {}

  [[nodiscard]] int lanes() const { return n_; }
  [[nodiscard]] std::string type(std::string_view one) const {
    return n_ == 1 ? std::string(one) : cat("<", n_, " x ", one, ">");
  }
  [[nodiscard]] std::string type(dtype d) const { return type(value_type(d)); }

  /// The same literal in every lane.
  [[nodiscard]] std::string literal(std::string_view one, std::string_view value) const {
    if (n_ == 1) {
      return std::string(value);
    }
    std::string all = "<";
    for (int i = 0; i < n_; ++i) {
      all += cat(i == 0 ? "" : ", ", one, " ", value);
    }
    return all + ">";
  }
  [[nodiscard]] std::string literal(std::string_view one, std::int64_t value) const {
    const std::int64_t fits = one == "i32"   ? static_cast<std::int32_t>(value)
                              : one == "i16" ? static_cast<std::int16_t>(value)
                              : one == "i8"  ? static_cast<std::int8_t>(value)
                              : one == "i1"  ? value & 1
                                             : value;
    return literal(one, std::string_view(std::to_string(fits)));
  }
  /// A floating-point number of `d`, which is no narrow format.
  [[nodiscard]] std::string number(dtype d, double x) const {
    const double rounded = d == dtype::float32 ? static_cast<double>(static_cast<float>(x)) : x;
    return literal(value_type(d), std::string_view(hex(rounded)));
  }
  /// The scalar of these `constant_bits`.
  [[nodiscard]] std::string constant(dtype d, std::int64_t bits) const {
    return tile::eval::with_scalar(d, [&]<class T>(std::type_identity<T>) {
      const T x = tile::constant_value<T>(bits);
      if constexpr (std::same_as<T, bool>) {
        return literal("i1", std::int64_t{x});
      } else if constexpr (std::integral<T>) {
        return literal(value_type(d), static_cast<std::int64_t>(x));
      } else if constexpr (std::floating_point<T>) {
        return number(d, static_cast<double>(x));
      } else {
        return literal(value_type(d), std::int64_t{x.bits});
      }
    });
  }
  /// A scalar in every lane.
  std::string splat(std::string_view one, const std::string& x) {
    if (n_ == 1) {
      return x;
    }
    const std::string in = t_.let("insertelement ", type(one), " poison, ", one, " ", x, ", i32 0");
    return t_.let("shufflevector ", type(one), " ", in, ", ", type(one), " poison, <", n_,
                  " x i32> zeroinitializer");
  }

  // --- instructions ------------------------------------------------------------------------------

  std::string choose(dtype d, const std::string& condition, const std::string& yes,
                     const std::string& no) {
    return t_.let("select ", type("i1"), " ", condition, ", ", type(d), " ", yes, ", ", type(d),
                  " ", no);
  }

  std::string convert(std::string_view how, std::string_view from, const std::string& x,
                      std::string_view to) {
    return t_.let(how, " ", type(from), " ", x, " to ", type(to));
  }
  std::string two(std::string_view operation, dtype d, const std::string& a, const std::string& b) {
    return t_.let(operation, " ", type(d), " ", a, ", ", b);
  }
  std::string compared(std::string_view how, dtype d, const std::string& a, const std::string& b) {
    return two(how, d, a, b);
  }
  std::string i32(std::string_view operation, const std::string& a, std::int64_t b) {
    return two(operation, dtype::int32, a, literal("i32", b));
  }
  std::string magnitude(dtype d, const std::string& x) { return intrinsic("fabs", d, {x}); }

  [[nodiscard]] std::string suffix(dtype d) const {
    const std::string one = cat(is_floating(d) ? "f" : "i", bits_of(d));
    return n_ == 1 ? one : cat("v", n_, one);
  }

  /// An intrinsic function on values of `d`.
  std::string intrinsic(std::string_view name, dtype d, std::initializer_list<std::string> given) {
    const std::string symbol = cat("@llvm.", name, ".", suffix(d));
    std::string types;
    std::string operands;
    for (const std::string& x : given) {
      types += cat(types.empty() ? "" : ", ", type(d));
      operands += cat(operands.empty() ? "" : ", ", type(d), " ", x);
    }
    t_.declared.insert(cat("declare ", type(d), " ", symbol, "(", types, ")"));
    return t_.let("call ", type(d), " ", symbol, "(", operands, ")");
  }

  // --- narrow formats ----------------------------------------------------------------------------

  static constexpr bool is_narrow(dtype d) { return is_narrow_floating(d); }

  /// A narrow format as `float`; integer arithmetic, so that no machine needs to know the format.
  std::string widen(dtype d, const std::string& x) {
    std::string bits = convert("zext", value_type(d), x, "i32");
    if (d == dtype::bfloat16) {
      return convert("bitcast", "i32", i32("shl", bits, 16), "float");
    }
    if (d == dtype::float8_e5m2) {  // the upper byte of a float16
      bits = i32("shl", bits, 8);
    }
    const bool four = d == dtype::float8_e4m3;
    const std::string sign = i32("shl", i32("and", bits, four ? 0x80 : 0x8000), four ? 24 : 16);
    const std::string size = i32("and", bits, four ? 0x7f : 0x7fff);
    const std::string moved = i32("shl", size, four ? 20 : 13);
    const std::string normal = i32("add", moved, four ? 0x3c000000 : 0x38000000);
    const std::string special = four ? literal("i32", 0x7fc00000) : i32("or", moved, 0x7f800000);
    const std::string small =
        convert("bitcast", "float",
                two("fmul", dtype::float32, convert("uitofp", "i32", size, "float"),
                    number(dtype::float32, four ? 0x1p-9 : 0x1p-24)),
                "i32");
    const auto from = [&](std::int64_t code) {
      return compared("icmp uge", dtype::int32, size, literal("i32", code));
    };
    const std::string y = choose(dtype::int32, from(four ? 0x7f : 0x7c00), special,
                                 choose(dtype::int32, from(four ? 0x8 : 0x400), normal, small));
    return convert("bitcast", "i32", two("or", dtype::int32, sign, y), "float");
  }

  std::string narrow(dtype d, const std::string& x,
                     tile::rounding how = tile::rounding::nearest_even) {
    const std::string bits = convert("bitcast", "float", x, "i32");
    const std::string_view one = value_type(d);
    const std::string rounded = d == dtype::bfloat16  ? brain_bits(bits)
                                : d == dtype::float16 ? half_bits(bits)
                                : d == dtype::float8_e4m3
                                    ? small_bits(bits, ashlar::detail::e4m3_format)
                                    : small_bits(bits, ashlar::detail::e5m2_format);
    const std::string y = convert("trunc", "i32", rounded, one);
    if (how == tile::rounding::nearest_even) {
      return y;
    }
    // What is too large: infinity, or NaN where there is none.
    const std::string most = number(dtype::float32, 0x1.fffffep127);
    const std::string size = magnitude(dtype::float32, x);
    const std::string back = magnitude(dtype::float32, widen(d, y));
    const bool nearest = how == tile::rounding::saturating;
    const std::string held = nearest ? compared("fcmp ord", dtype::float32, x, x)
                                     : compared("fcmp ole", dtype::float32, size, most);
    const std::int64_t sign = bits_of(d) == 8 ? 0x80 : 0x8000;
    const std::string largest = two("or", d, two("and", d, y, literal(one, sign)),
                                    literal(one, ashlar::detail::largest_bits(d)));
    const std::string nearer = nearest ? y
                                       : choose(d, compared("fcmp ogt", dtype::float32, back, size),
                                                two("sub", d, y, literal(one, 1)), y);
    return choose(d, compared("fcmp ole", dtype::float32, back, most), nearer,
                  choose(d, held, largest, y));
  }

 protected:
  text& t_;
  int n_;

 private:
  static std::string hex(double x) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto bits = std::bit_cast<std::uint64_t>(x);
    std::string all = "0x";
    for (int shift = 60; shift >= 0; shift -= 4) {
      all += digits[(bits >> shift) & 15];
    }
    return all;
  }

  /// `detail::brain_bits`, in the low half of an i32.
  std::string brain_bits(const std::string& bits) {
    const std::string high = i32("lshr", bits, 16);
    const std::string rounded =
        i32("lshr", two("add", dtype::int32, i32("add", bits, 0x7fff), i32("and", high, 1)), 16);
    const std::string nan = compared("icmp ugt", dtype::int32, i32("and", bits, 0x7fffffff),
                                     literal("i32", 0x7f800000));
    return choose(dtype::int32, nan, i32("or", high, 0x40), rounded);
  }

  /// `detail::float8_bits`, in the low byte of an i32.
  std::string small_bits(const std::string& bits, const ashlar::detail::float8_format& f) {
    const dtype d = dtype::int32;
    const std::string zero = literal("i32", 0);
    const std::string one = literal("i32", 1);
    const std::string sign = i32("and", i32("lshr", bits, 24), 0x80);
    const std::string size = i32("and", bits, 0x7fffffff);
    const std::string mantissa = i32("or", i32("and", size, 0x7fffff), 0x800000);
    const std::string exponent = i32("sub", i32("lshr", size, 23), 127 - f.bias);
    const std::string is_small = compared("icmp slt", d, exponent, one);
    const std::string deficit = choose(d, is_small, two("sub", d, one, exponent), zero);
    const std::string shift = i32("add", deficit, 23 - f.mantissa);
    // 25 cuts everything off, and is less than the 32 that a shift may have.
    const std::string cut =
        choose(d, compared("icmp ugt", d, shift, literal("i32", 25)), literal("i32", 25), shift);
    const std::string whole = two("lshr", d, mantissa, cut);
    const std::string unit = two("shl", d, one, cut);
    const std::string rest = two("and", d, mantissa, i32("sub", unit, 1));
    const std::string half = i32("lshr", unit, 1);
    const std::string up = two("or", dtype::boolean, compared("icmp ugt", d, rest, half),
                               two("and", dtype::boolean, compared("icmp eq", d, rest, half),
                                   compared("icmp ne", d, i32("and", whole, 1), zero)));
    const std::string steps = choose(d, is_small, zero, i32("sub", exponent, 1));
    const std::string code = two("add", d, i32("shl", steps, f.mantissa),
                                 two("add", d, whole, convert("zext", "i1", up, "i32")));
    const std::string finite = choose(d, compared("icmp ugt", d, code, literal("i32", f.largest)),
                                      literal("i32", f.beyond), code);
    const std::string nan = compared("icmp ugt", d, size, literal("i32", 0x7f800000));
    return two("or", d, sign, choose(d, nan, literal("i32", 0x7f), finite));
  }

  /// `detail::half_bits`, in the low half of an i32.
  std::string half_bits(const std::string& bits) {
    const dtype d = dtype::int32;
    const auto above = [&](const std::string& x, std::int64_t y) {
      return compared("icmp ugt", d, x, literal("i32", y));
    };
    const std::string sign = i32("and", i32("lshr", bits, 16), 0x8000);
    const std::string size = i32("and", bits, 0x7fffffff);
    const std::string nan = i32("or", i32("and", i32("lshr", size, 13), 0x3ff), 0x7e00);
    const std::string is_normal = above(size, 0x387fffff);
    const std::string is_small = above(size, 0x32ffffff);
    // A number below the normal ones loses 14 to 24 bits of its mantissa.
    const std::string mantissa = i32("or", i32("and", size, 0x7fffff), 0x800000);
    const std::string cut = two("sub", d, literal("i32", 126), i32("lshr", size, 23));
    const std::string subnormal = two("and", dtype::boolean, is_small,
                                      two("xor", dtype::boolean, is_normal, literal("i1", -1)));
    const std::string shift = choose(d, subnormal, cut, literal("i32", 14));
    const std::string left = two("sub", d, literal("i32", 32), shift);
    const std::string zero = literal("i32", 0);
    const std::string half = choose(d, is_normal, i32("lshr", i32("sub", size, 0x38000000), 13),
                                    choose(d, is_small, two("lshr", d, mantissa, shift), zero));
    const std::string rest = choose(d, is_normal, i32("shl", size, 19),
                                    choose(d, is_small, two("shl", d, mantissa, left), zero));
    // Above the tie, or at it and odd.
    const std::string up =
        two("or", dtype::boolean, above(rest, 0x80000000),
            two("and", dtype::boolean, compared("icmp eq", d, rest, literal("i32", 0x80000000)),
                compared("icmp ne", d, i32("and", half, 1), zero)));
    const std::string rounded = two("add", d, half, convert("zext", "i1", up, "i32"));
    const std::string finite = choose(d, above(size, 0x477fefff), literal("i32", 0x7c00), rounded);
    return two("or", d, sign, choose(d, above(size, 0x7f800000), nan, finite));
  }
};

}  // namespace ashlar::chip::llvm_codegen
