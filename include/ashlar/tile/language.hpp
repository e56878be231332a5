// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/detail/expect.hpp"
#include "ashlar/tile/program.hpp"

/// The tile language: what a kernel says, typed by element and extents.
///
/// A kernel is an object whose call takes a `scope` and its parameters; `program_of<K>` traces it.
/// Everything here is a constant expression: calling a kernel writes instructions, no numbers move.
/// The language is in one place, as its user reads it.
namespace ashlar::tile {

template <Scalar T, int... Extents>
struct tile;

/// A tile of rank 0: offsets, extents, loop counters, attributes.
template <class T>
using scalar = tile<T>;
using index = scalar<std::int64_t>;

namespace detail {

/// `Of<tile<T, E...>>` of a list of extents.
template <int... E>
struct extents {
  static constexpr int rank = sizeof...(E);
  static constexpr std::array<int, sizeof...(E)> value{E...};
};

/// The extents in which two tiles meet; `ok` is false where they do not.
template <class A, class B>
struct meet;
template <int... A, int... B>
struct meet<extents<A...>, extents<B...>> {
  static constexpr int rank = sizeof...(A) > sizeof...(B) ? sizeof...(A) : sizeof...(B);
  static constexpr int at(const auto& e, int n, int axis) {
    const int own = axis - (rank - n);
    return own < 0 ? 1 : e[static_cast<std::size_t>(own)];
  }
  static constexpr std::array<int, sizeof...(A) + 1> a{A..., 1};
  static constexpr std::array<int, sizeof...(B) + 1> b{B..., 1};
  static constexpr bool ok = [] {
    for (int i = 0; i < rank; ++i) {
      const int x = at(a, sizeof...(A), i);
      const int y = at(b, sizeof...(B), i);
      if (x != y && x != 1 && y != 1) {
        return false;
      }
    }
    return true;
  }();
  static constexpr int extent(int i) {
    const int x = at(a, sizeof...(A), i);
    const int y = at(b, sizeof...(B), i);
    return x == 1 ? y : x;
  }
};

template <class T, class M, class I>
struct of_meet;
template <class T, class M, std::size_t... I>
struct of_meet<T, M, std::index_sequence<I...>> {
  using type = tile<T, M::extent(static_cast<int>(I))...>;
};

/// `E` without the axis `Axis`, as a tile of `T`.
template <class T, class E, int Axis, class I = std::make_index_sequence<E::rank - 1>>
struct without;
template <class T, class E, int Axis, std::size_t... I>
struct without<T, E, Axis, std::index_sequence<I...>> {
  using type = tile<T, E::value[I < static_cast<std::size_t>(Axis) ? I : I + 1]...>;
};

template <class X>
inline constexpr bool is_tile = false;
template <class T, int... E>
inline constexpr bool is_tile<tile<T, E...>> = true;

}  // namespace detail

/// A tile expression: where its value stands in the program that is being written.
///
/// The extents are exact and may be any numbers; none is a scalar.
template <Scalar T, int... Extents>
struct tile {
  static_assert(sizeof...(Extents) <= max_rank, "ashlar::tile::tile: at most 4 extents");
  static_assert(((Extents > 0) && ...), "ashlar::tile::tile: every extent is at least 1");

  using value_type = T;
  using extents = detail::extents<Extents...>;
  static constexpr int rank = sizeof...(Extents);
  static constexpr tile_type type{dtype_of<T>, {Extents...}};

  builder* program;
  value_id id;
};

template <class X>
concept Tile = detail::is_tile<std::remove_cvref_t<X>>;

/// What stands where a tile or a plain number is asked for.
template <class X>
concept Number =
    std::integral<std::remove_cvref_t<X>> || std::floating_point<std::remove_cvref_t<X>>;

/// The type of an elementwise operation on two tiles of element `T`.
template <class T, Tile A, Tile B>
using met = typename detail::of_meet<
    T, detail::meet<typename A::extents, typename B::extents>,
    std::make_index_sequence<static_cast<std::size_t>(
        detail::meet<typename A::extents, typename B::extents>::rank)>>::type;

/// `x` repeated to the type `To`: axes are aligned at the last, extents are 1 or equal.
template <Tile To, Tile X>
constexpr To broadcast(X x) {
  static_assert(std::same_as<typename To::value_type, typename X::value_type>,
                "ashlar::tile::broadcast: the element type stays; cast first");
  static_assert(broadcasts_to(X::type, To::type),
                "ashlar::tile::broadcast: each extent must be 1 or the one asked for");
  return {x.program, x.program->broadcast(x.id, To::type)};
}

namespace detail {

template <class T, Number N>
constexpr scalar<T> number(builder* p, N value) {
  return {p, p->constant(dtype_of<T>, value)};
}

template <Tile A, Tile B>
constexpr void expect_meeting() {
  static_assert(std::same_as<typename A::value_type, typename B::value_type>,
                "ashlar::tile: two tiles of one operation have different element types; cast one");
  static_assert(
      meet<typename A::extents, typename B::extents>::ok,
      "ashlar::tile: the extents of two tiles of one operation do not meet, each equal or "
      "1; broadcast, reshape or load one so that they do");
}

template <Tile A, Tile B>
constexpr auto binary(opcode op, A a, B b) {
  expect_meeting<A, B>();
  using R = met<typename A::value_type, A, B>;
  const value_id x = broadcast<R>(a).id;
  const value_id y = broadcast<R>(b).id;
  return R{a.program, a.program->binary(op, x, y)};
}
template <Tile A, Number B>
constexpr auto binary(opcode op, A a, B b) {
  return binary(op, a, number<typename A::value_type>(a.program, b));
}
template <Number A, Tile B>
constexpr auto binary(opcode op, A a, B b) {
  return binary(op, number<typename B::value_type>(b.program, a), b);
}

template <Tile A, Tile B>
constexpr auto compare(opcode op, A a, B b) {
  expect_meeting<A, B>();
  using V = met<typename A::value_type, A, B>;
  const value_id x = broadcast<V>(a).id;
  const value_id y = broadcast<V>(b).id;
  return met<bool, A, B>{a.program, a.program->binary(op, x, y)};
}
template <Tile A, Number B>
constexpr auto compare(opcode op, A a, B b) {
  return compare(op, a, number<typename A::value_type>(a.program, b));
}
template <Number A, Tile B>
constexpr auto compare(opcode op, A a, B b) {
  return compare(op, number<typename B::value_type>(b.program, a), b);
}

template <class A, class B>
constexpr auto bits(opcode op, A a, B b) {
  expect_integral<std::conditional_t<Tile<A>, A, B>>();
  return binary(op, a, b);
}

template <Tile X>
constexpr X unary(opcode op, X x) {
  return {x.program, x.program->unary(op, x.id)};
}
template <Tile X>
constexpr X function(opcode op, X x) {
  expect_floating<X>();
  return unary(op, x);
}

template <class A, class B>
concept Operands = (Tile<A> && (Tile<B> || Number<B>)) || (Number<A> && Tile<B>);

}  // namespace detail

// --- arithmetic, comparison, bits: tiles with tiles of the same element type, or with numbers ----

template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator+(A a, B b) {
  return detail::binary(opcode::add, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator-(A a, B b) {
  return detail::binary(opcode::sub, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator*(A a, B b) {
  return detail::binary(opcode::mul, a, b);
}
/// Integers: towards zero, and 0 where the divisor is 0.
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator/(A a, B b) {
  return detail::binary(opcode::div, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator%(A a, B b) {
  return detail::bits(opcode::rem, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator&(A a, B b) {
  return detail::bits(opcode::bit_and, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator|(A a, B b) {
  return detail::bits(opcode::bit_or, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator^(A a, B b) {
  return detail::bits(opcode::bit_xor, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator<<(A a, B b) {
  return detail::bits(opcode::shift_left, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator>>(A a, B b) {
  return detail::bits(opcode::shift_right, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator==(A a, B b) {
  return detail::compare(opcode::equal, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator!=(A a, B b) {
  return detail::compare(opcode::not_equal, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator<(A a, B b) {
  return detail::compare(opcode::less, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator<=(A a, B b) {
  return detail::compare(opcode::less_equal, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator>(A a, B b) {
  return detail::compare(opcode::less, b, a);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto operator>=(A a, B b) {
  return detail::compare(opcode::less_equal, b, a);
}
template <Tile X>
constexpr X operator-(X x) {
  return detail::unary(opcode::neg, x);
}
template <Tile X>
constexpr X operator~(X x) {
  detail::expect_integral<X>();
  return detail::unary(opcode::bit_not, x);
}
template <Tile X>
  requires std::same_as<typename X::value_type, bool>
constexpr X operator!(X x) {
  return detail::unary(opcode::bit_not, x);
}

/// The larger and the smaller; NaN where either is.
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto max(A a, B b) {
  return detail::binary(opcode::max, a, b);
}
template <class A, class B>
  requires detail::Operands<A, B>
constexpr auto min(A a, B b) {
  return detail::binary(opcode::min, a, b);
}

/// A tile of one number with the type of another: how `tile::fn` spells its constants.
template <Tile X>
constexpr X constant_like(X like, double value) {
  return broadcast<X>(detail::number<typename X::value_type>(like.program, value));
}

// --- functions -----------------------------------------------------------------------------------

template <Tile X>
constexpr X exp(X x) {
  return detail::function(opcode::exp, x);
}
template <Tile X>
constexpr X log(X x) {
  return detail::function(opcode::log, x);
}
template <Tile X>
constexpr X sqrt(X x) {
  return detail::function(opcode::sqrt, x);
}
template <Tile X>
constexpr X rsqrt(X x) {
  return detail::function(opcode::rsqrt, x);
}
template <Tile X>
constexpr X tanh(X x) {
  return detail::function(opcode::tanh, x);
}
template <Tile X>
constexpr X sigmoid(X x) {
  return detail::function(opcode::sigmoid, x);
}
template <Tile X>
constexpr X erf(X x) {
  return detail::function(opcode::erf, x);
}
template <Tile X>
constexpr X abs(X x) {
  return detail::unary(opcode::abs, x);
}
template <Tile X>
constexpr X floor(X x) {
  return detail::function(opcode::floor, x);
}

/// `a * b + c`, rounded once where the machine can.
template <Tile A, class B, class C>
constexpr auto fma(A a, B b, C c) {
  const auto lift = [&](auto v) {
    if constexpr (Number<decltype(v)>) {
      return detail::number<typename A::value_type>(a.program, v);
    } else {
      return v;
    }
  };
  detail::expect_floating<A>();
  const auto bt = lift(b);
  const auto ct = lift(c);
  detail::expect_meeting<A, decltype(bt)>();
  using AB = met<typename A::value_type, A, std::remove_const_t<decltype(bt)>>;
  detail::expect_meeting<AB, std::remove_const_t<decltype(ct)>>();
  using R = met<typename A::value_type, AB, std::remove_const_t<decltype(ct)>>;
  const value_id x = broadcast<R>(a).id;
  const value_id y = broadcast<R>(bt).id;
  const value_id z = broadcast<R>(ct).id;
  return R{a.program, a.program->fma(x, y, z)};
}

/// `condition ? yes : no`, element by element; both are evaluated. One of the two may be a number.
template <Tile M, class A, class B>
  requires detail::Operands<A, B>
constexpr auto select(M condition, A yes, B no) {
  static_assert(std::same_as<typename M::value_type, bool>,
                "ashlar::tile::select: the condition is a tile of bool");
  if constexpr (Number<A>) {
    return select(condition, detail::number<typename B::value_type>(condition.program, yes), no);
  } else if constexpr (Number<B>) {
    return select(condition, yes, detail::number<typename A::value_type>(condition.program, no));
  } else {
    detail::expect_meeting<A, B>();
    using V = typename A::value_type;
    using AB = met<V, A, B>;
    static_assert(detail::meet<typename M::extents, typename AB::extents>::ok,
                  "ashlar::tile::select: the extents of condition and choices do not meet");
    using R = met<V, M, AB>;
    const value_id m = broadcast<met<bool, M, AB>>(condition).id;
    const value_id x = broadcast<R>(yes).id;
    const value_id y = broadcast<R>(no).id;
    return R{condition.program, condition.program->select(m, x, y)};
  }
}

/// Another element type: to narrower floats by `how`, to integers towards zero and saturating.
template <Scalar To, class T, int... E>
constexpr tile<To, E...> cast(tile<T, E...> x, rounding how = rounding::nearest_even) {
  if constexpr (std::same_as<To, T>) {
    return x;
  } else {
    return {x.program, x.program->cast(x.id, dtype_of<To>, how)};
  }
}

/// The same bits as another type of the same size.
template <Scalar To, class T, int... E>
constexpr tile<To, E...> bitcast(tile<T, E...> x) {
  static_assert(sizeof(To) == sizeof(T), "ashlar::tile::bitcast: the size of an element stays");
  return {x.program,
          x.program->emit({.op = opcode::bitcast, .type = tile<To, E...>::type}, {x.id})};
}

// --- shape ---------------------------------------------------------------------------------------

/// Other extents for the same elements in row-major order.
template <int... To, class T, int... E>
constexpr tile<T, To...> reshape(tile<T, E...> x) {
  detail::expect_same_size<tile<T, E...>, tile<T, To...>>();
  return {x.program, x.program->reshape(x.id, tile<T, To...>::type)};
}

namespace detail {
template <int Rank, int... Axes>
inline constexpr bool is_permutation =
    sizeof...(Axes) == Rank && ((Axes >= 0 && Axes < Rank) && ...) &&
    ((1u << Axes) | ... | 0u) == (1u << Rank) - 1;
}  // namespace detail

/// Axes in the order `Axes`; without any, the last two change places.
template <int... Axes, class T, int... E>
constexpr auto transpose(tile<T, E...> x) {
  constexpr int r = sizeof...(E);
  if constexpr (sizeof...(Axes) == 0) {
    static_assert(r >= 2, "ashlar::tile::transpose: there are no two axes to change");
    return [&]<int... A>(std::integer_sequence<int, A...>) {
      return transpose<(A == r - 1 ? r - 2 : A == r - 2 ? r - 1 : A)...>(x);
    }(std::make_integer_sequence<int, r>{});
  } else {
    static_assert(detail::is_permutation<r, Axes...>,
                  "ashlar::tile::transpose: the axes are 0 to rank - 1; name each of them once");
    constexpr std::array<int, r> axes{Axes...};
    constexpr std::array<int, r> e{E...};
    return tile<T, e[static_cast<std::size_t>(Axes)]...>{x.program,
                                                         x.program->transpose(x.id, axes)};
  }
}

namespace detail {
template <class T, class E, int Numerator, int Denominator,
          class I = std::make_index_sequence<E::rank>>
struct last_scaled;
template <class T, class E, int Numerator, int Denominator, std::size_t... I>
struct last_scaled<T, E, Numerator, Denominator, std::index_sequence<I...>> {
  using type = tile<T, (I + 1 == E::rank ? E::value[I] * Numerator / Denominator : E::value[I])...>;
};
}  // namespace detail

/// The elements 0, 2, 4 ... and 1, 3, 5 ... of the last axis.
template <class T, int... E>
constexpr auto split(tile<T, E...> x) {
  detail::expect_halves<tile<T, E...>>();
  using half = typename detail::last_scaled<T, detail::extents<E...>, 1, 2>::type;
  const auto part = [&](int which) {
    return half{x.program,
                x.program->emit({.op = opcode::split, .index = which, .type = half::type}, {x.id})};
  };
  const half even = part(0);
  return std::pair{even, part(1)};
}

/// Two tiles interleaved along the last axis.
template <Tile Even, Tile Odd>
constexpr auto join(Even even, Odd odd) {
  detail::expect_pair<Even, Odd>();
  using whole =
      typename detail::last_scaled<typename Even::value_type, typename Even::extents, 2, 1>::type;
  return whole{even.program,
               even.program->emit({.op = opcode::join, .type = whole::type}, {even.id, odd.id})};
}

/// Two 4-bit numbers of each byte, the low half first, signed for int8.
template <class T, int... E>
constexpr auto unpack_nibbles(tile<T, E...> x) {
  detail::expect_bytes<tile<T, E...>>();
  using whole = typename detail::last_scaled<T, detail::extents<E...>, 2, 1>::type;
  return whole{x.program,
               x.program->emit({.op = opcode::unpack_nibbles, .type = whole::type}, {x.id})};
}

// --- matrices ------------------------------------------------------------------------------------

/// `c + a b` over the last two axes, sequential in K.
template <Tile A, Tile B, Tile C>
constexpr C dot(A a, B b, C c) {
  detail::expect_product<A, B, C>();
  return {c.program, c.program->emit({.op = opcode::dot, .type = C::type}, {a.id, b.id, c.id})};
}

/// `c + (a * scale_a) (b * scale_b)`: every 32 elements along K share a scale.
template <Tile A, Tile ScaleA, Tile B, Tile ScaleB, Tile C>
constexpr C dot_scaled(A a, ScaleA scale_a, B b, ScaleB scale_b, C c) {
  detail::expect_product<A, B, C>();
  detail::expect_scales<A, ScaleA, B, ScaleB, C>();
  return {c.program, c.program->emit({.op = opcode::dot_scaled, .type = C::type},
                                     {a.id, scale_a.id, b.id, scale_b.id, c.id})};
}

}  // namespace ashlar::tile
