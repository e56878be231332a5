// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// Elementwise operations of the tile IR on one scalar: what each of them means.
///
/// The 16-bit formats compute in `float` and round after each instruction. What can be is
/// `constexpr`; the functions whose last bits differ between machines come from a `Math`.
namespace ashlar::tile::eval {

/// The functions of the C++ library. A chip that has others gives a type with the same members.
struct std_math {
  template <std::floating_point T>
  static T exp(T x) {
    return std::exp(x);
  }
  template <std::floating_point T>
  static T log(T x) {
    return std::log(x);
  }
  template <std::floating_point T>
  static T sqrt(T x) {
    return std::sqrt(x);
  }
  template <std::floating_point T>
  static T tanh(T x) {
    return std::tanh(x);
  }
  template <std::floating_point T>
  static T erf(T x) {
    return std::erf(x);
  }
  /// `a * b + c`: in one rounding here; a machine without it rounds twice.
  template <std::floating_point T>
  static T madd(T a, T b, T c) {
    return std::fma(a, b, c);
  }
};

/// `f(std::type_identity<T>())` with the scalar type of `d`.
template <class F>
constexpr decltype(auto) with_scalar(dtype d, F&& f) {
  switch (d) {
    case dtype::boolean:
      return f(std::type_identity<bool>());
    case dtype::uint8:
      return f(std::type_identity<std::uint8_t>());
    case dtype::int8:
      return f(std::type_identity<std::int8_t>());
    case dtype::int32:
      return f(std::type_identity<std::int32_t>());
    case dtype::int64:
      return f(std::type_identity<std::int64_t>());
    case dtype::float8_e4m3:
      return f(std::type_identity<float8_e4m3>());
    case dtype::float8_e5m2:
      return f(std::type_identity<float8_e5m2>());
    case dtype::float16:
      return f(std::type_identity<float16>());
    case dtype::bfloat16:
      return f(std::type_identity<bfloat16>());
    case dtype::float32:
      return f(std::type_identity<float>());
    case dtype::float64:
      break;
  }
  return f(std::type_identity<double>());
}

namespace detail {

/// A number whose functions are those of `Math`, for the functors of `fn`.
template <class Math, std::floating_point T>
struct number {
  T value;

  friend constexpr number operator+(number a, number b) { return {a.value + b.value}; }
  friend constexpr number operator/(number a, number b) { return {a.value / b.value}; }
  friend constexpr number operator-(number a) { return {-a.value}; }
  friend number exp(number a) { return {Math::exp(a.value)}; }
  friend number log(number a) { return {Math::log(a.value)}; }
  friend number sqrt(number a) { return {Math::sqrt(a.value)}; }
  friend number tanh(number a) { return {Math::tanh(a.value)}; }
  friend number erf(number a) { return {Math::erf(a.value)}; }
  friend constexpr number constant_like(number, double c) { return {static_cast<T>(c)}; }
};

template <class T>
using bits_of = std::conditional_t<
    sizeof(T) == 1, std::uint8_t,
    std::conditional_t<sizeof(T) == 2, std::uint16_t,
                       std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;

template <class T>
constexpr bits_of<T> raw_bits(T x) {
  if constexpr (std::same_as<T, bool>) {
    return x ? 1 : 0;
  } else if constexpr (NarrowFloating<T>) {
    return x.bits;
  } else {
    return std::bit_cast<bits_of<T>>(x);
  }
}

template <class T>
constexpr T from_raw_bits(bits_of<T> bits) {
  if constexpr (std::same_as<T, bool>) {
    return bits != 0;
  } else if constexpr (NarrowFloating<T>) {
    T x{};
    x.bits = bits;
    return x;
  } else {
    return std::bit_cast<T>(bits);
  }
}

/// One step towards zero in the order of the bits, from infinity to the largest number too.
template <class T>
constexpr T nearer_zero(T x) {
  return from_raw_bits<T>(static_cast<bits_of<T>>(raw_bits(x) - 1));
}

template <std::floating_point T>
constexpr T magnitude(T x) {
  constexpr auto mask = static_cast<bits_of<T>>(~bits_of<T>{0}) >> 1;
  return std::bit_cast<T>(static_cast<bits_of<T>>(raw_bits(x) & mask));
}

constexpr float narrowed(double x, rounding how) {
  constexpr double beyond = 0x1.ffffffp+127;  // halfway between the largest float and 2^128
  float y = 0;
  if (x != x) {
    y = std::numeric_limits<float>::quiet_NaN();
  } else if (magnitude(x) >= beyond) {  // no constant expression may convert it
    y = how == rounding::saturating ? std::numeric_limits<float>::max()
                                    : std::numeric_limits<float>::infinity();
    y = x < 0 ? -y : y;
  } else {
    y = static_cast<float>(x);
  }
  return how == rounding::toward_zero && magnitude(static_cast<double>(y)) > magnitude(x)
             ? nearer_zero(y)
             : y;
}

template <NarrowFloating To>
constexpr To narrowed_to(float x, rounding how) {
  constexpr float most = std::numeric_limits<float>::max();
  const To y(x);
  if (how == rounding::nearest_even || x != x) {
    return y;
  }
  const float back = magnitude(static_cast<float>(y));
  if (!(back <= most)) {  // too large: infinity, or NaN where there is none
    const bool held = how == rounding::saturating || magnitude(x) <= most;
    const auto sign = static_cast<bits_of<To>>(bits_of<To>{1} << (8 * sizeof(To) - 1));
    const auto code = static_cast<bits_of<To>>(ashlar::detail::largest_bits(dtype_of<To>));
    return held ? from_raw_bits<To>(static_cast<bits_of<To>>((raw_bits(y) & sign) | code)) : y;
  }
  return how == rounding::toward_zero && back > magnitude(x) ? nearer_zero(y) : y;
}

/// Towards zero; saturates, and NaN gives 0.
template <std::integral To, std::floating_point From>
constexpr To truncated(From x) {
  using limits = std::numeric_limits<To>;
  // 2^(bits of To): the least power of two above every To, exact in each floating type.
  constexpr From above = static_cast<From>(limits::max() / 2 + 1) * From{2};
  if (x != x) {
    return 0;
  }
  if (x >= above) {
    return limits::max();
  }
  if (std::is_signed_v<To> ? x <= -above : x <= From{0}) {
    return limits::min();
  }
  return static_cast<To>(x);
}

template <std::floating_point T>
constexpr T floor_of(T x) {
  // From here on a number has no fraction; NaN stays, too. Zero keeps its sign.
  constexpr T whole = static_cast<T>(std::int64_t{1} << (std::numeric_limits<T>::digits - 1));
  if (!(magnitude(x) < whole) || x == T{0}) {
    return x;
  }
  const T cut = static_cast<T>(static_cast<std::int64_t>(x));
  return cut > x ? cut - T{1} : cut;
}

}  // namespace detail

// Casts -----------------------------------------------------------------------------------------

/// `opcode::cast`.
///
/// To an integer: from floating types towards zero, saturating, NaN to 0; from wider integers the
/// low bits. To bool: whether it is not 0. To a floating type: `how` counts where a floating type
/// gets narrower, else to nearest even; the narrow formats are reached by way of `float`.
template <Scalar To, Scalar From>
constexpr To cast(From x, rounding how = rounding::nearest_even) {
  if constexpr (std::same_as<To, From>) {
    return x;
  } else if constexpr (NarrowFloating<From>) {
    return cast<To>(static_cast<float>(x), how);
  } else if constexpr (std::same_as<To, bool>) {
    return x != From{0};
  } else if constexpr (std::integral<To>) {
    if constexpr (std::integral<From>) {
      return static_cast<To>(x);
    } else {
      return detail::truncated<To>(x);
    }
  } else if constexpr (NarrowFloating<To>) {
    if constexpr (std::integral<From>) {
      return To(static_cast<float>(x));
    } else {
      return detail::narrowed_to<To>(cast<float>(x, how), how);
    }
  } else if constexpr (std::same_as<To, float> && std::same_as<From, double>) {
    return detail::narrowed(x, how);
  } else {
    return static_cast<To>(x);
  }
}

/// `opcode::bitcast`. Bool counts as a byte; of a byte it is whether that is not 0.
template <Scalar To, Scalar From>
  requires(sizeof(To) == sizeof(From))
constexpr To bitcast(From x) {
  return detail::from_raw_bits<To>(detail::raw_bits(x));
}

// Operations on a type in which one computes: everything but the 16-bit formats ------------------

namespace detail {

template <class Math, class T>
T function(opcode op, T x) {
  using v = number<Math, T>;
  const v a{x};
  switch (op) {
    case opcode::exp:
      return fn::exp{}(a).value;
    case opcode::log:
      return fn::log{}(a).value;
    case opcode::sqrt:
      return fn::sqrt{}(a).value;
    case opcode::rsqrt:
      return fn::rsqrt{}(a).value;
    case opcode::tanh:
      return fn::tanh{}(a).value;
    case opcode::sigmoid:
      return fn::sigmoid{}(a).value;
    default:
      return fn::erf{}(a).value;
  }
}

template <class Math, class T>
constexpr T unary(opcode op, T x) {
  if constexpr (std::same_as<T, bool>) {
    return !x;
  } else if constexpr (std::integral<T>) {
    switch (op) {
      case opcode::neg:
        return fn::neg{}(x);
      case opcode::abs:
        return fn::abs{}(x);
      default:
        return static_cast<T>(~x);
    }
  } else {
    switch (op) {
      case opcode::neg:
        return fn::neg{}(x);
      case opcode::abs:
        return magnitude(x);
      case opcode::floor:
        return floor_of(x);
      default:
        return function<Math>(op, x);
    }
  }
}

/// Shifts by the width or more, or by a negative number, push every bit out.
template <std::integral T>
constexpr T shifted(opcode op, T x, T by) {
  using bits = std::make_unsigned_t<T>;
  constexpr int width = std::numeric_limits<bits>::digits;
  const bool out = by < T{0} || by >= T{width};
  const int n = out ? width - 1 : static_cast<int>(by);
  if (op == opcode::shift_right) {
    const T y = static_cast<T>(x >> n);
    return out && !(x < T{0}) ? T{0} : y;
  }
  return out ? T{0} : static_cast<T>(static_cast<bits>(std::uint64_t{static_cast<bits>(x)} << n));
}

template <class T>
constexpr T binary(opcode op, T a, T b) {
  if constexpr (std::same_as<T, bool>) {
    return op == opcode::bit_and ? a && b : op == opcode::bit_or ? a || b : a != b;
  } else {
    switch (op) {
      case opcode::add:
        return fn::add{}(a, b);
      case opcode::sub:
        return fn::sub{}(a, b);
      case opcode::mul:
        return fn::mul{}(a, b);
      case opcode::div:
        return fn::div{}(a, b);
      case opcode::min:
        return fn::minimum{}(a, b);
      case opcode::max:
        return fn::maximum{}(a, b);
      default:
        break;
    }
    if constexpr (std::integral<T>) {
      switch (op) {
        case opcode::rem:
          return fn::sub{}(a, fn::mul{}(fn::div{}(a, b), b));
        case opcode::bit_and:
          return static_cast<T>(a & b);
        case opcode::bit_or:
          return static_cast<T>(a | b);
        case opcode::bit_xor:
          return static_cast<T>(a ^ b);
        default:
          return shifted(op, a, b);
      }
    } else {
      return a;
    }
  }
}

template <class T>
inline constexpr bool is_narrow = NarrowFloating<T>;

}  // namespace detail

// The operations --------------------------------------------------------------------------------

/// Every `opcode_kind::unary` but the casts. Requires: `op` allows `T`, see `rules.hpp`.
template <class Math = std_math, Scalar T>
constexpr T unary(opcode op, T x) {
  if constexpr (detail::is_narrow<T>) {
    return T(detail::unary<Math>(op, static_cast<float>(x)));
  } else {
    return detail::unary<Math>(op, x);
  }
}

/// Every `opcode_kind::binary`. Requires: `op` allows `T`.
template <Scalar T>
constexpr T binary(opcode op, T a, T b) {
  if constexpr (detail::is_narrow<T>) {
    return T(detail::binary(op, static_cast<float>(a), static_cast<float>(b)));
  } else {
    return detail::binary(op, a, b);
  }
}

/// Every `opcode_kind::compare`; false with NaN, but for `not_equal`.
template <Scalar T>
constexpr bool compare(opcode op, T a, T b) {
  const auto x = static_cast<compute_type<T>>(a);
  const auto y = static_cast<compute_type<T>>(b);
  switch (op) {
    case opcode::equal:
      return fn::equal{}(x, y);
    case opcode::not_equal:
      return fn::not_equal{}(x, y);
    case opcode::less:
      return fn::less{}(x, y);
    default:
      return fn::less_equal{}(x, y);
  }
}

/// `opcode::fma`.
template <class Math = std_math, Floating T>
T fma(T a, T b, T c) {
  using compute = compute_type<T>;
  return T(Math::madd(static_cast<compute>(a), static_cast<compute>(b), static_cast<compute>(c)));
}

// On the bits of constants ----------------------------------------------------------------------

namespace detail {

/// Whether an operation on them neither overflows a double nor is undefined, so that it can be
/// folded in a constant expression, and gives one result there and at run time.
constexpr bool folds(opcode op, double a, double b) {
  constexpr double most = 0x1p+500;
  if (op == opcode::min || op == opcode::max) {
    return a == a && b == b;
  }
  if (op == opcode::div && !(magnitude(b) > 1 / most)) {
    return false;
  }
  return magnitude(a) < most && magnitude(b) < most;
}

template <class T>
constexpr std::optional<std::int64_t> bits_unless_nan(T x) {
  if constexpr (std::integral<T>) {
    return constant_bits(x);
  } else {
    const auto y = static_cast<compute_type<T>>(x);
    return y == y ? std::optional(constant_bits(y)) : std::nullopt;
  }
}

template <class T>
constexpr std::optional<std::int64_t> fold_unary(const instruction& i, T x) {
  if (i.op == opcode::cast) {
    return with_scalar(i.type.element, [&]<class To>(std::type_identity<To>) {
      return bits_unless_nan(eval::cast<To>(x, static_cast<rounding>(i.index)));
    });
  }
  if (i.op == opcode::bitcast) {
    return with_scalar(i.type.element,
                       [&]<class To>(std::type_identity<To>) -> std::optional<std::int64_t> {
                         if constexpr (sizeof(To) == sizeof(T)) {
                           return bits_unless_nan(eval::bitcast<To>(x));
                         } else {
                           return std::nullopt;
                         }
                       });
  }
  const bool plain = i.op == opcode::neg || i.op == opcode::abs || i.op == opcode::floor ||
                     i.op == opcode::bit_not;
  return plain ? bits_unless_nan(eval::unary(i.op, x)) : std::nullopt;
}

template <class T>
constexpr std::optional<std::int64_t> fold_binary(opcode op, T a, T b) {
  if (info(op).kind == opcode_kind::compare) {
    return constant_bits(eval::compare(op, a, b));
  }
  if constexpr (std::integral<T>) {
    return constant_bits(eval::binary(op, a, b));
  } else {
    // In double and rounded then, which gives what `float` does: 53 >= 2 * 24 + 2.
    const auto x = static_cast<double>(static_cast<compute_type<T>>(a));
    const auto y = static_cast<double>(static_cast<compute_type<T>>(b));
    return folds(op, x, y) ? bits_unless_nan(eval::cast<T>(eval::binary(op, x, y))) : std::nullopt;
  }
}

}  // namespace detail

/// What an elementwise instruction makes of constants, as `constant_bits`.
///
/// `operand` is the element type of the operands; of `select`, that of the second.
/// Returns: nothing where only a chip knows the last bit (`exp`, `fma` ...), where the result is
///          NaN, and where floating-point numbers leave the range in which compilers compute.
constexpr std::optional<std::int64_t> fold(const instruction& i, dtype operand,
                                           std::span<const std::int64_t> bits) {
  const opcode_kind kind = info(i.op).kind;
  if (bits.size() != static_cast<std::size_t>(info(i.op).operands)) {
    return std::nullopt;
  }
  return with_scalar(operand, [&]<class T>(std::type_identity<T>) -> std::optional<std::int64_t> {
    const auto value = [&](std::size_t k) { return constant_value<T>(bits[k]); };
    if (kind == opcode_kind::unary) {
      return detail::fold_unary(i, value(0));
    }
    if (kind == opcode_kind::binary || kind == opcode_kind::compare) {
      return detail::fold_binary(i.op, value(0), value(1));
    }
    if (i.op == opcode::select) {
      return detail::bits_unless_nan(value(bits[0] != 0 ? 1 : 2));
    }
    return std::nullopt;
  });
}

}  // namespace ashlar::tile::eval
