// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/language.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"

/// What a kernel reads, writes and repeats, and how it becomes a program.
namespace ashlar::tile {

namespace detail {

/// A view among the kernel's parameters.
template <Scalar T, int Rank>
struct memory_view {
  static_assert(Rank >= 0 && Rank <= max_rank, "ashlar::tile: a view has 0 to 4 axes");
  using value_type = T;
  static constexpr int rank = Rank;

  builder* program;
  int number;             ///< among the parameters
  std::int64_t fill = 0;  ///< bits that an element outside the view reads as

  /// Elements along an axis.
  [[nodiscard]] constexpr index extent(int axis) const {
    return {
        program,
        program->emit({.op = opcode::extent, .index = number, .value = axis, .type = index_type})};
  }
};

}  // namespace detail

/// A parameter that the kernel reads: bounded memory, so that masks follow from its extents.
template <Scalar T, int Rank>
struct in : detail::memory_view<T, Rank> {
  static constexpr parameter declaration{dtype_of<T>, Rank, false};

  /// The same view, reading as `value` outside its bounds. Without, it reads as 0.
  [[nodiscard]] constexpr in outside(double value) const {
    in copy = *this;
    copy.fill = is_floating(dtype_of<T>) ? constant_bits(value)
                                         : constant_bits(static_cast<std::int64_t>(value));
    return copy;
  }
};

/// A parameter that the kernel may read and write; what it writes outside the bounds is dropped.
template <Scalar T, int Rank>
struct out : detail::memory_view<T, Rank> {
  static constexpr parameter declaration{dtype_of<T>, Rank, true};
};

/// A scalar parameter.
template <Scalar T>
using arg = scalar<T>;

namespace detail {

template <class V>
concept Memory = requires(V v) { []<class T, int R>(const memory_view<T, R>&) {}(v); };
template <class V>
concept Place = Number<V> || Tile<V>;

template <Place P>
constexpr value_id place(builder* b, P p) {
  if constexpr (Number<P>) {
    return b->index(static_cast<std::int64_t>(p));
  } else {
    static_assert(std::same_as<typename P::value_type, std::int64_t>,
                  "ashlar::tile: places in memory are int64; cast");
    return p.id;
  }
}

template <Memory V, class... P>
constexpr void expect_places() {
  static_assert(sizeof...(P) == V::rank, "ashlar::tile: one place for each axis of the view");
}

/// Places of the elements of `X`: one scalar per axis, or, element by element, tiles of them.
template <class X, opcode Op, class P>
constexpr void expect_place() {
  if constexpr (Tile<P>) {
    if constexpr (Op == opcode::load || Op == opcode::store) {
      expect_offset<X, P>();
    } else {
      expect_index<X, P>();
    }
  }
}

template <class R, opcode Op, Memory V, class... P>
constexpr R read(const V& from, P... places) {
  expect_places<V, P...>();
  (expect_place<R, Op, P>(), ...);
  // Braces, since the order in which arguments are evaluated is otherwise the compiler's choice.
  const std::array<value_id, sizeof...(P) + 1> ids{place(from.program, places)..., value_id{-1}};
  return {from.program,
          from.program->emit({.op = Op, .index = from.number, .value = from.fill, .type = R::type},
                             std::span(ids).template first<sizeof...(P)>())};
}

template <opcode Op, Memory V, Tile X, class... P>
constexpr void write(const V& to, X x, P... places) {
  expect_places<V, P...>();
  (expect_place<X, Op, P>(), ...);
  expect_elements<V, X>();
  static_assert(V::declaration.written,
                "ashlar::tile: the view is only for reading; take an `out`");
  const std::array<value_id, sizeof...(P) + 1> ids{x.id, place(to.program, places)...};
  to.program->emit({.op = Op, .index = to.number}, ids);
}

}  // namespace detail

/// The tile of extents `E` whose first element is at `places`, along the view's last axes.
///
/// Elements outside the view read as `from.outside(value)` says.
template <int... E, detail::Memory V, detail::Place... P>
constexpr tile<typename V::value_type, E...> load(const V& from, P... places) {
  using R = tile<typename V::value_type, E...>;
  detail::expect_block<V, R>();
  return detail::read<R, opcode::load>(from, places...);
}

/// Writes a tile where `load` would read it; elements outside the view are dropped.
template <detail::Memory V, Tile X, detail::Place... P>
constexpr void store(const V& to, X x, P... places) {
  detail::expect_block<V, X>();
  detail::write<opcode::store>(to, x, places...);
}

/// Element by element: one index per axis, each a scalar or a tile of extents `E`.
template <int... E, detail::Memory V, detail::Place... P>
constexpr tile<typename V::value_type, E...> gather(const V& from, P... indices) {
  return detail::read<tile<typename V::value_type, E...>, opcode::gather>(from, indices...);
}
/// The reverse of `gather`; of equal places the last in row-major order wins.
template <detail::Memory V, Tile X, detail::Place... P>
constexpr void scatter(const V& to, X x, P... indices) {
  detail::write<opcode::scatter>(to, x, indices...);
}
template <detail::Memory V, Tile X, detail::Place... P>
constexpr void atomic_add(const V& to, X x, P... indices) {
  detail::write<opcode::atomic_add>(to, x, indices...);
}
template <detail::Memory V, Tile X, detail::Place... P>
constexpr void atomic_max(const V& to, X x, P... indices) {
  detail::write<opcode::atomic_max>(to, x, indices...);
}
template <detail::Memory V, Tile X, detail::Place... P>
constexpr void atomic_min(const V& to, X x, P... indices) {
  detail::write<opcode::atomic_min>(to, x, indices...);
}

namespace detail {

/// One tile as itself, several as a tuple: what regions give.
template <class First, class... Rest>
constexpr auto one_or_all(const std::tuple<First, Rest...>& all) {
  if constexpr (sizeof...(Rest) == 0) {
    return std::get<0>(all);
  } else {
    return all;
  }
}
template <class X>
constexpr auto as_tuple(const X& x) {
  if constexpr (Tile<X>) {
    return std::tuple<X>(x);
  } else {
    return x;
  }
}

template <class... X>
constexpr void yield(builder* b, const std::tuple<X...>& results) {
  const std::array<value_id, sizeof...(X) + 1> ids = std::apply(
      [](const auto&... x) {
        return std::array<value_id, sizeof...(X) + 1>{x.id..., value_id{-1}};
      },
      results);
  b->yield(std::span(ids).template first<sizeof...(X)>());
}

/// Handles of `X...` for values that stand one after the other.
template <class... X>
constexpr std::tuple<X...> from_first(builder* b, value_id first) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<X...>{X{b, static_cast<value_id>(first + static_cast<value_id>(I))}...};
  }(std::index_sequence_for<X...>{});
}

template <class... X>
constexpr auto results(builder* b, value_id owner) {
  int n = 0;
  return one_or_all(std::tuple<X...>{X{b, b->result(owner, n++, X::type)}...});
}

template <int Axis, opcode Op, class F, class... X>
constexpr auto fold(std::int64_t attribute, const F& combine, X... x) {
  using first = std::tuple_element_t<0, std::tuple<X...>>;
  static_assert((std::same_as<typename X::extents, typename first::extents> && ...),
                "ashlar::tile::reduce, scan: all tiles have the same extents");
  static_assert(Axis >= 0 && Axis < first::rank, "ashlar::tile::reduce, scan: no such axis");
  builder* b = std::get<0>(std::tuple(x...)).program;
  const value_id owner = b->emit({.op = Op, .index = Axis, .value = attribute}, {x.id...});
  constexpr std::size_t n = sizeof...(X);
  const std::array<tile_type, 2 * n> inputs{scalar<typename X::value_type>::type...,
                                            scalar<typename X::value_type>::type...};
  const value_id begin = b->begin_region(inputs);
  const auto left = from_first<scalar<typename X::value_type>...>(b, begin);
  const auto right = from_first<scalar<typename X::value_type>...>(
      b, static_cast<value_id>(begin + static_cast<value_id>(n)));
  const auto combined = as_tuple(combine(one_or_all(left), one_or_all(right)));
  expect_carried<decltype(combined), std::tuple<scalar<typename X::value_type>...>>();
  yield(b, combined);
  if constexpr (Op == opcode::reduce) {
    return results<typename without<typename X::value_type, typename X::extents, Axis>::type...>(
        b, owner);
  } else {
    return results<X...>(b, owner);
  }
}

}  // namespace detail

/// Combines the elements along an axis, which goes away, in the IR's order (see `opcode::reduce`).
///
/// `combine` is associative and takes two scalars, or, for several tiles, two tuples of scalars.
template <int Axis, class F, Tile... X>
constexpr auto reduce(const F& combine, X... x) {
  return detail::fold<Axis, opcode::reduce>(0, combine, x...);
}
/// Every prefix (or suffix) along an axis, each including its own element.
template <int Axis, bool FromEnd = false, class F, Tile... X>
constexpr auto scan(const F& combine, X... x) {
  return detail::fold<Axis, opcode::scan>(FromEnd ? 1 : 0, combine, x...);
}

template <int Axis, Tile X>
constexpr auto sum(X x) {
  return reduce<Axis>([](auto a, auto b) { return a + b; }, x);
}
template <int Axis, Tile X>
constexpr auto max(X x) {
  return reduce<Axis>([](auto a, auto b) { return max(a, b); }, x);
}
template <int Axis, Tile X>
constexpr auto min(X x) {
  return reduce<Axis>([](auto a, auto b) { return min(a, b); }, x);
}

/// An axis of extent 1 put in at `Axis`, as `reduce` took it away.
template <int Axis, class T, int... E>
constexpr auto expand(tile<T, E...> x) {
  static_assert(Axis >= 0 && Axis <= static_cast<int>(sizeof...(E)),
                "ashlar::tile::expand: no place for such an axis");
  constexpr std::array<int, sizeof...(E) + 1> e{E..., 1};
  return [&]<int... A>(std::integer_sequence<int, A...>) {
    return reshape<(A < Axis    ? e[static_cast<std::size_t>(A)]
                    : A == Axis ? 1
                                : e[static_cast<std::size_t>(A - 1)])...>(x);
  }(std::make_integer_sequence<int, static_cast<int>(sizeof...(E)) + 1>{});
}

/// The program that a kernel is being written into, and what belongs to no tile.
class scope {
 public:
  constexpr explicit scope(builder& b) : b_(&b) {}

  /// Which program of the grid this is, along axis 0, 1 or 2.
  [[nodiscard]] constexpr index program_id(int axis) const {
    return {b_, b_->emit({.op = opcode::program_id, .index = axis, .type = index_type})};
  }
  [[nodiscard]] constexpr index grid_size(int axis) const {
    return {b_, b_->emit({.op = opcode::grid_size, .index = axis, .type = index_type})};
  }

  template <Scalar T, Number N>
  [[nodiscard]] constexpr scalar<T> constant(N value) const {
    return detail::number<T>(b_, value);
  }
  /// A tile of one value.
  template <Scalar T, int... E, Number N>
  [[nodiscard]] constexpr tile<T, E...> full(N value) const {
    return broadcast<tile<T, E...>>(constant<T>(value));
  }
  template <Scalar T, int... E>
  [[nodiscard]] constexpr tile<T, E...> zeros() const {
    return full<T, E...>(0);
  }
  /// 0, 1, 2 ... along an axis.
  template <Scalar T, int Axis, int... E>
  [[nodiscard]] constexpr tile<T, E...> iota() const {
    return {b_, b_->emit({.op = opcode::iota, .index = Axis, .type = tile<T, E...>::type})};
  }

  /// Repeats `body(i, carried...)` for i = first, first + step, ... below `end`; what it returns is
  /// carried to the next round.
  /// Requires: step > 0.
  /// Returns:  what is carried after the last round: a tile, or a tuple where there are several.
  template <class First, class End, class Step, class Body, Tile... X>
  constexpr auto loop(First first, End end, Step step, const Body& body, X... carried) const {
    const std::array<value_id, 3 + sizeof...(X)> operands{
        detail::place(b_, first), detail::place(b_, end), detail::place(b_, step), carried.id...};
    const value_id owner = b_->emit({.op = opcode::loop}, operands);
    const std::array<tile_type, 1 + sizeof...(X)> inputs{index_type, X::type...};
    const value_id begin = b_->begin_region(inputs);
    const auto given = std::apply(body, detail::from_first<index, X...>(b_, begin));
    const auto next = detail::as_tuple(given);
    detail::expect_carried<decltype(next), std::tuple<X...>>();
    detail::yield(b_, next);
    return detail::results<X...>(b_, owner);
  }
  /// The same for its effects only.
  template <class First, class End, class Step, class Body>
  constexpr void loop(First first, End end, Step step, const Body& body) const {
    const std::array<value_id, 3> operands{detail::place(b_, first), detail::place(b_, end),
                                           detail::place(b_, step)};
    b_->emit({.op = opcode::loop}, operands);
    const std::array<tile_type, 1> inputs{index_type};
    body(index{b_, b_->begin_region(inputs)});
    b_->yield({});
  }

  /// Repeats `body(carried...)` as long as `condition(carried...)`, a scalar bool, holds.
  template <class Condition, class Body, Tile... X>
  constexpr auto repeat(const Condition& condition, const Body& body, X... carried) const {
    const value_id owner = b_->emit({.op = opcode::repeat}, {carried.id...});
    const std::array<tile_type, sizeof...(X)> inputs{X::type...};
    const auto asked = detail::from_first<X...>(b_, b_->begin_region(inputs));
    detail::yield(b_, std::tuple<scalar<bool>>(std::apply(condition, asked)));
    const auto entered = detail::from_first<X...>(b_, b_->begin_region(inputs));
    const auto next = detail::as_tuple(std::apply(body, entered));
    detail::expect_carried<decltype(next), std::tuple<X...>>();
    detail::yield(b_, next);
    return detail::results<X...>(b_, owner);
  }

  /// One of two regions; both return tiles of the same types, or nothing.
  template <class Yes, class No>
  constexpr auto branch(scalar<bool> condition, const Yes& yes, const No& no) const {
    const value_id owner = b_->emit({.op = opcode::branch}, {condition.id});
    if constexpr (std::is_void_v<decltype(yes())>) {
      yes();
      b_->yield({});
      no();
      b_->yield({});
    } else {
      const auto first = detail::as_tuple(yes());
      detail::yield(b_, first);
      const auto second = detail::as_tuple(no());
      detail::expect_carried<decltype(second), std::remove_const_t<decltype(first)>>();
      detail::yield(b_, second);
      return [&]<class... X>(const std::tuple<X...>&) {
        return detail::results<X...>(b_, owner);
      }(first);
    }
  }
  /// A region for its effects, where the condition holds.
  template <class Yes>
  constexpr void branch(scalar<bool> condition, const Yes& yes) const {
    branch(condition, yes, [] {});
  }

  /// Random bits: word 0 of the Philox block of each counter.
  template <class T, int... E>
  [[nodiscard]] constexpr tile<std::int32_t, E...> random_bits(index seed,
                                                               tile<T, E...> counters) const {
    static_assert(std::same_as<T, std::int64_t>,
                  "ashlar::tile::scope::random_bits: counters are int64; cast them");
    return {b_, b_->emit({.op = opcode::random_bits, .type = tile<std::int32_t, E...>::type},
                         {seed.id, counters.id})};
  }

  /// Shows a tile where the chip can; `number` says which print it was.
  template <Tile X>
  constexpr void print(int number, X x) const {
    b_->emit({.op = opcode::print, .index = number}, {x.id});
  }
  /// Stops the kernel where an element is false.
  template <Tile X>
  constexpr void require(int number, X holds) const {
    static_assert(std::same_as<typename X::value_type, bool>,
                  "ashlar::tile::scope::require: what must hold is a tile of bool; compare");
    b_->emit({.op = opcode::require, .index = number}, {holds.id});
  }

 private:
  builder* b_;
};

namespace detail {

template <class P>
constexpr P bind(builder& b) {
  if constexpr (Tile<P>) {
    static_assert(P::rank == 0,
                  "ashlar::tile: a kernel takes views and scalars; it loads tiles itself");
    const dtype element = P::type.element;
    const int number = b.add_parameter({element, -1, false});
    return {&b, b.emit({.op = opcode::argument, .index = number, .type = scalar_type(element)})};
  } else {
    return {{&b, b.add_parameter(P::declaration)}};
  }
}

template <class F>
struct call_of;
template <class K, class... P>
struct call_of<void (K::*)(scope&, P...) const> {
  using parameters = std::tuple<std::remove_cvref_t<P>...>;
};

template <class K>
constexpr std::string_view name_of_kernel() {
  if constexpr (requires { K::name; }) {
    return K::name;
  } else {
    return "kernel";
  }
}

}  // namespace detail

/// A kernel: an object with `void operator()(scope&, parameters...) const`, each parameter an `in`,
/// `out` or `arg`. Its block sizes are template parameters of its own.
template <class K>
concept Kernel = requires { typename detail::call_of<decltype(&K::operator())>::parameters; };

/// Writes the program of a kernel whose parameters are `P...`; for generic lambdas.
///
/// Throws: `program_error`; in a constant expression the compiler shows the rule.
template <class... P, class F>
constexpr program trace_as(std::string_view name, const F& kernel) {
  builder b(name);
  scope s(b);
  // Braces: parameters are bound from left to right.
  std::tuple<P...> bound{detail::bind<P>(b)...};
  std::apply([&](auto&... p) { kernel(s, p...); }, bound);
  program p = b.finish();
  expect_valid(p);
  return p;
}

template <Kernel K>
constexpr program trace(const K& kernel = {}) {
  return [&]<class... P>(std::type_identity<std::tuple<P...>>) {
    return trace_as<P...>(detail::name_of_kernel<K>(), kernel);
  }(std::type_identity<typename detail::call_of<decltype(&K::operator())>::parameters>{});
}

/// The program of a kernel, made once, by the compiler.
///
/// The arguments of a call are evaluated from left to right here. While a program runs a compiler
/// may take another order, so that `trace` writes the same program but for the order of
/// instructions that do not depend on each other.
template <Kernel K>
inline constexpr program program_of = trace(K{});

}  // namespace ashlar::tile
