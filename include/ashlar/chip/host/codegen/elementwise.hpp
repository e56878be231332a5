// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/extra.hpp"
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/scalar.hpp"

/// Elementwise instructions on scalars and packets: the same functions on both, so that a scalar
/// has the bits that it would have in a tile.
namespace ashlar::chip::host_codegen {

/// The functions of the host, for single elements with the bits of its vectors.
struct host_math {
  template <std::floating_point T>
  static T exp(T x) {
    return simd::exp(x);
  }
  template <std::floating_point T>
  static T log(T x) {
    return simd::log(x);
  }
  template <std::floating_point T>
  static T sqrt(T x) {
    return simd::sqrt(x);
  }
  template <std::floating_point T>
  static T tanh(T x) {
    return simd::tanh(x);
  }
  template <std::floating_point T>
  static T erf(T x) {
    return simd::erf(x);
  }
  template <std::floating_point T>
  static T madd(T a, T b, T c) {
    return simd::madd(a, b, c);
  }
};

namespace detail {

using tile::opcode;
using tile::opcode_kind;

/// Operations that `vec<T>` has.
template <class T>
constexpr bool has_vector_form(opcode op) {
  switch (op) {
    case opcode::add:
    case opcode::sub:
    case opcode::mul:
    case opcode::min:
    case opcode::max:
    case opcode::neg:
      return true;
    default:
      return info(op).kind == opcode_kind::compare || std::floating_point<T>;
  }
}

template <opcode Op, class V>
ASHLAR_INLINE auto on_vector(const V& x) {
  namespace fn = tile::fn;
  if constexpr (Op == opcode::neg) {
    return -x;
  } else if constexpr (Op == opcode::abs) {
    return simd::abs(x);
  } else if constexpr (Op == opcode::exp) {
    return simd::exp(x);
  } else if constexpr (Op == opcode::log) {
    return simd::log(x);
  } else if constexpr (Op == opcode::sqrt) {
    return simd::sqrt(x);
  } else if constexpr (Op == opcode::rsqrt) {
    return fn::rsqrt{}(x);
  } else if constexpr (Op == opcode::tanh) {
    return simd::tanh(x);
  } else if constexpr (Op == opcode::sigmoid) {
    return fn::sigmoid{}(x);
  } else if constexpr (Op == opcode::erf) {
    return simd::erf(x);
  } else {
    static_assert(Op == opcode::floor);
    return simd::floor(x);
  }
}

template <opcode Op, class V>
ASHLAR_INLINE auto on_vector(const V& a, const V& b) {
  if constexpr (Op == opcode::add) {
    return a + b;
  } else if constexpr (Op == opcode::sub) {
    return a - b;
  } else if constexpr (Op == opcode::mul) {
    return a * b;
  } else if constexpr (Op == opcode::div) {
    return a / b;
  } else if constexpr (Op == opcode::min) {
    return simd::min(a, b);
  } else if constexpr (Op == opcode::max) {
    return simd::max(a, b);
  } else if constexpr (Op == opcode::equal) {
    return a == b;
  } else if constexpr (Op == opcode::not_equal) {
    return a != b;
  } else if constexpr (Op == opcode::less) {
    return a < b;
  } else {
    static_assert(Op == opcode::less_equal);
    return a <= b;
  }
}

/// A comparison's mask in the form of `packet<bool>`.
template <class T>
ASHLAR_INLINE simd::vec_mask<float> as_packet(const simd::vec_mask<T>& m) {
  return simd::mask_cast<float>(m);
}
template <simd::Lane T>
ASHLAR_INLINE simd::vec<T> as_packet(const simd::vec<T>& v) {
  return v;
}

/// Sixteen times `f(k)`, gathered into a packet of `R`.
template <Scalar R, class F>
ASHLAR_INLINE packet<R> by_element(const F& f) {
  alignas(64) R y[lanes];
  for (int k = 0; k < lanes; ++k) {
    y[k] = f(k);
  }
  return load_packet<R>(y);
}

/// The elements of a packet, to be read one by one.
template <Scalar T>
struct elements_of {
  alignas(64) T element[lanes];
  ASHLAR_INLINE explicit elements_of(const packet<T>& x) { store_packet<T>(element, x); }
};

template <class T>
inline constexpr bool is_narrow = NarrowFloating<T>;

template <class T>
ASHLAR_INLINE simd::vec<float> widened(const packet<T>& x) {
  return simd::load_as<float>(x.element);
}
template <class T>
ASHLAR_INLINE packet<T> narrowed(const simd::vec<float>& x) {
  packet<T> y;
  simd::store_as(y.element, x);
  return y;
}

/// What the compiler's vectors of integers do as the IR wants it, any overflow included.
constexpr bool has_integer_form(opcode op) {
  switch (op) {
    case opcode::add:
    case opcode::sub:
    case opcode::mul:
    case opcode::min:
    case opcode::max:
    case opcode::bit_and:
    case opcode::bit_or:
    case opcode::bit_xor:
      return true;
    default:
      return info(op).kind == opcode_kind::compare;
  }
}

/// All bits where a condition holds, as vectors of `T` compare.
template <WideInteger T>
ASHLAR_INLINE auto bits_of(const packet<bool>& m) {
  alignas(16) bool there[lanes];
  simd::store_mask<float>(there, m);
  typename integers<std::int8_t>::vector bytes;
  std::memcpy(&bytes, there, sizeof bytes);
  using vector = typename integers<std::make_signed_t<T>>::vector;
  return __builtin_convertvector(bytes, vector) != vector{};
}
template <WideInteger T>
ASHLAR_INLINE packet<T> chosen(const auto& bits, const packet<T>& yes, const packet<T>& no) {
  using vector = typename packet<T>::vector;
  const auto mask = reinterpret_cast<vector>(bits);
  return {(yes.v & mask) | (no.v & ~mask)};
}
/// A comparison's vector as a mask.
ASHLAR_INLINE packet<bool> mask_of(const auto& bits) {
  typedef std::int32_t words __attribute__((vector_size(lanes * sizeof(std::int32_t))));
  const words w = __builtin_convertvector(bits, words);
  alignas(64) std::int32_t there[lanes];
  std::memcpy(there, &w, sizeof w);
  return simd::mask_cast<float>(simd::load(there) != simd::broadcast(std::int32_t{0}));
}

template <opcode Op, WideInteger T>
ASHLAR_INLINE auto on_integers(const packet<T>& a, const packet<T>& b) {
  using vector = typename packet<T>::vector;
  using wrapping = typename integers<std::make_unsigned_t<T>>::vector;
  const auto x = reinterpret_cast<wrapping>(a.v);
  const auto y = reinterpret_cast<wrapping>(b.v);
  if constexpr (Op == opcode::add) {
    return packet<T>{reinterpret_cast<vector>(x + y)};
  } else if constexpr (Op == opcode::sub) {
    return packet<T>{reinterpret_cast<vector>(x - y)};
  } else if constexpr (Op == opcode::mul) {
    return packet<T>{reinterpret_cast<vector>(x * y)};
  } else if constexpr (Op == opcode::min) {
    return chosen<T>(b.v < a.v, b, a);
  } else if constexpr (Op == opcode::max) {
    return chosen<T>(a.v < b.v, b, a);
  } else if constexpr (Op == opcode::bit_and) {
    return packet<T>{a.v & b.v};
  } else if constexpr (Op == opcode::bit_or) {
    return packet<T>{a.v | b.v};
  } else if constexpr (Op == opcode::bit_xor) {
    return packet<T>{a.v ^ b.v};
  } else if constexpr (Op == opcode::equal) {
    return mask_of(a.v == b.v);
  } else if constexpr (Op == opcode::not_equal) {
    return mask_of(a.v != b.v);
  } else if constexpr (Op == opcode::less) {
    return mask_of(a.v < b.v);
  } else {
    static_assert(Op == opcode::less_equal);
    return mask_of(a.v <= b.v);
  }
}

}  // namespace detail

/// One scalar instruction with one operand but for the casts.
template <tile::opcode Op, Scalar T>
ASHLAR_INLINE T apply(std::type_identity<T>, T x) {
  return tile::eval::unary<host_math>(Op, x);
}
template <tile::opcode Op, Scalar T>
ASHLAR_INLINE auto apply(std::type_identity<T>, T a, T b) {
  if constexpr (info(Op).kind == tile::opcode_kind::compare) {
    return tile::eval::compare(Op, a, b);
  } else {
    return tile::eval::binary(Op, a, b);
  }
}

/// The same on packets of `T`.
template <tile::opcode Op, Scalar T>
ASHLAR_INLINE packet<T> apply(std::type_identity<T>, const packet<T>& x)
  requires(!std::same_as<packet<T>, T>)
{
  if constexpr (std::same_as<T, bool>) {
    return !x;
  } else if constexpr (detail::is_narrow<T>) {
    return detail::narrowed<T>(detail::on_vector<Op>(detail::widened<T>(x)));
  } else if constexpr (simd::Lane<T> && detail::has_vector_form<T>(Op)) {
    return detail::on_vector<Op>(x);
  } else {
    const detail::elements_of<T> e(x);
    return detail::by_element<T>(
        [&](int k) { return tile::eval::unary<host_math>(Op, e.element[k]); });
  }
}

template <tile::opcode Op, Scalar T>
ASHLAR_INLINE auto apply(std::type_identity<T>, const packet<T>& a, const packet<T>& b)
  requires(!std::same_as<packet<T>, T>)
{
  constexpr bool compares = info(Op).kind == tile::opcode_kind::compare;
  using R = std::conditional_t<compares, bool, T>;
  if constexpr (std::same_as<T, bool> && Op == tile::opcode::bit_and) {
    return a & b;
  } else if constexpr (std::same_as<T, bool> && Op == tile::opcode::bit_or) {
    return a | b;
  } else if constexpr (detail::is_narrow<T>) {
    const auto y = detail::on_vector<Op>(detail::widened<T>(a), detail::widened<T>(b));
    if constexpr (compares) {
      return y;
    } else {
      return detail::narrowed<T>(y);
    }
  } else if constexpr (simd::Lane<T> && detail::has_vector_form<T>(Op)) {
    return detail::as_packet(detail::on_vector<Op>(a, b));
  } else if constexpr (WideInteger<T> && detail::has_integer_form(Op)) {
    return detail::on_integers<Op, T>(a, b);
  } else {
    const detail::elements_of<T> x(a);
    const detail::elements_of<T> y(b);
    return detail::by_element<R>(
        [&](int k) { return apply<Op>(std::type_identity<T>{}, x.element[k], y.element[k]); });
  }
}

template <Scalar T>
ASHLAR_INLINE packet<T> apply_fma(const packet<T>& a, const packet<T>& b, const packet<T>& c) {
  if constexpr (simd::Lane<T>) {
    return simd::madd(a, b, c);
  } else {
    return detail::narrowed<T>(
        simd::madd(detail::widened<T>(a), detail::widened<T>(b), detail::widened<T>(c)));
  }
}

template <Scalar T>
ASHLAR_INLINE packet<T> apply_select(const packet<bool>& m, const packet<T>& yes,
                                     const packet<T>& no) {
  if constexpr (std::same_as<T, bool>) {
    return (m & yes) | (!m & no);
  } else if constexpr (simd::Lane<T>) {
    return simd::select(simd::mask_cast<T>(m), yes, no);
  } else if constexpr (WideInteger<T>) {
    return detail::chosen<T>(detail::bits_of<T>(m), yes, no);
  } else {
    const detail::elements_of<bool> c(m);
    return detail::by_element<T>(
        [&](int k) { return c.element[k] ? yes.element[k] : no.element[k]; });
  }
}

template <Scalar To, Scalar From>
ASHLAR_INLINE packet<To> apply_cast(const packet<From>& x, tile::rounding how) {
  constexpr bool exact_enough = std::same_as<From, float> || detail::is_narrow<From>;
  if constexpr (std::same_as<From, To>) {
    return x;
  } else if constexpr (std::same_as<To, float> && detail::is_narrow<From>) {
    return detail::widened<From>(x);
  } else if constexpr (detail::is_narrow<To> && exact_enough) {
    if (how == tile::rounding::nearest_even) {
      if constexpr (std::same_as<From, float>) {
        return detail::narrowed<To>(x);
      } else {
        return detail::narrowed<To>(detail::widened<From>(x));
      }
    }
  }
  const detail::elements_of<From> e(x);
  return detail::by_element<To>([&](int k) { return tile::eval::cast<To>(e.element[k], how); });
}

template <Scalar To, Scalar From>
ASHLAR_INLINE packet<To> apply_bitcast(const packet<From>& x) {
  const detail::elements_of<From> e(x);
  return detail::by_element<To>([&](int k) { return tile::eval::bitcast<To>(e.element[k]); });
}

}  // namespace ashlar::chip::host_codegen
