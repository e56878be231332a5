// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <string_view>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/dispatch/call.hpp"

/// Functions whose callers write less, or other things, than the schema of an operator says.
namespace ashlar {

namespace detail {

/// Where a spelling sends its arguments: one type for each form of a call.
struct to_result {
  template <class Op, class... A>
  ASHLAR_INLINE constexpr auto operator()(op_function<Op> f, const A&... args) const {
    return f.unlocated(args...);
  }
  template <class X>
  X value(std::string_view, X x) const {
    return x;
  }
};

template <class Out>
struct to_output {
  Out& out;
  template <class Op, class... A>
  ASHLAR_INLINE void operator()(op_function<Op> f, const A&... args) const {
    f.to_output(out, args...);
  }
  template <class X>
  void value(std::string_view op, const X& x) const {
    constexpr bool at_run_time = is_any<X> && is_any<Out>;
    static_assert(at_run_time || may_go_to<X, Out>,
                  "ashlar::call: the output has another type than the result; give a tensor of its "
                  "element type or of one that it can be cast to, or the tuple that the function "
                  "returns");
    if constexpr (at_run_time) {
      write_at_run_time<form::out>(op, out, x);
    } else if constexpr (goes_to<X, Out>) {
      put<form::out>(op, out, x);
    } else if constexpr (may_go_to<X, Out>) {
      put_cast<form::out, false>(op, out, x);
    }
  }
};

template <class Self>
struct to_first {
  Self& self;
  template <class Op, class First, class... A>
  ASHLAR_INLINE void operator()(op_function<Op> f, const First& first, const A&... args) const {
    if constexpr (is_any<Self>) {
      if (first.body() == self.body()) {
        f.over_first(self, args...);
      } else {
        write_at_run_time<form::in_place>(Op::name, self, f.unlocated(first, args...));
      }
    } else if constexpr (element_type<First> == element_type<Self>) {
      f.over_first(self, args...);
    } else {
      value(Op::name, f.unlocated(first, args...));
    }
  }
  template <AnyOrTensor X>
  void value(std::string_view op, const X& x) const {
    constexpr bool at_run_time = is_any<X> && is_any<Self>;
    static_assert(at_run_time || may_go_to<X, Self>,
                  "ashlar::call: the result cannot be cast to the element type of what is changed "
                  "in place, which is of a narrower category; use the functional form");
    if constexpr (at_run_time) {
      write_at_run_time<form::in_place>(op, self, x);
    } else if constexpr (goes_to<X, Self>) {
      put<form::in_place>(op, self, x);
    } else if constexpr (may_go_to<X, Self>) {
      put_cast<form::in_place, false>(op, self, x);
    }
  }
};

/// Whether `D` spells a call that goes where `To` says.
template <class D, class To, class... A>
concept SpelledBy = requires(const To& to, const A&... args) { D::spell(to, args...); };

}  // namespace detail

/// A function and its forms from one spelling: `Derived::spell(to, args...)`, which ends in
/// `to(op_function<Op>{}, full_arguments...)`, or in `to.value(name, x)` where no operator's result
/// is the function's as it stands; `x` may be a tuple of tensors. Its declaration gives the
/// defaults and conversions of all forms.
///
/// A list in braces after the first tensor is a shape.
/// Requires: the first argument that `spell` hands on is the first that it got, or one of another
///           type.
template <class Derived>
struct spelled_function : detail::writing_forms<Derived> {
  // As in `op_function`. What is no place is turned away before anybody asks `spell`.
  using where = std::source_location;
  template <class A, class Where = where>
    requires std::same_as<Where, where> && detail::SpelledBy<Derived, detail::to_result, A>
  ASHLAR_INLINE constexpr auto operator()(const A& a, Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A> here(at);
    return Derived::spell(detail::to_result{}, a);
  }
  template <class A, class B, class Where = where>
    requires std::same_as<Where, where> && detail::SpelledBy<Derived, detail::to_result, A, B>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B> here(at);
    return Derived::spell(detail::to_result{}, a, b);
  }
  template <class A, class B, class C, class Where = where>
    requires std::same_as<Where, where> && detail::SpelledBy<Derived, detail::to_result, A, B, C>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C> here(at);
    return Derived::spell(detail::to_result{}, a, b, c);
  }
  template <class A, class B, class C, class D, class Where = where>
    requires std::same_as<Where, where> && detail::SpelledBy<Derived, detail::to_result, A, B, C, D>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c, const D& d,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D> here(at);
    return Derived::spell(detail::to_result{}, a, b, c, d);
  }
  template <class A, class B, class C, class D, class E, class Where = where>
    requires std::same_as<Where, where> &&
             detail::SpelledBy<Derived, detail::to_result, A, B, C, D, E>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c, const D& d,
                                          const E& e, Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E> here(at);
    return Derived::spell(detail::to_result{}, a, b, c, d, e);
  }
  template <class A, class B, class C, class D, class E, class F, class Where = where>
    requires std::same_as<Where, where> &&
             detail::SpelledBy<Derived, detail::to_result, A, B, C, D, E, F>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c, const D& d,
                                          const E& e, const F& f,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F> here(at);
    return Derived::spell(detail::to_result{}, a, b, c, d, e, f);
  }
  template <class A, class B, class C, class D, class E, class F, class G, class Where = where>
    requires std::same_as<Where, where> &&
             detail::SpelledBy<Derived, detail::to_result, A, B, C, D, E, F, G>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c, const D& d,
                                          const E& e, const F& f, const G& g,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F, G> here(at);
    return Derived::spell(detail::to_result{}, a, b, c, d, e, f, g);
  }
  template <class A, class B, class C, class D, class E, class F, class G, class H,
            class Where = where>
    requires std::same_as<Where, where> &&
             detail::SpelledBy<Derived, detail::to_result, A, B, C, D, E, F, G, H>
  ASHLAR_INLINE constexpr auto operator()(const A& a, const B& b, const C& c, const D& d,
                                          const E& e, const F& f, const G& g, const H& h,
                                          Where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F, G, H> here(at);
    return Derived::spell(detail::to_result{}, a, b, c, d, e, f, g, h);
  }
  template <class... A>
    requires(sizeof...(A) > 8) && detail::SpelledBy<Derived, detail::to_result, A...>
  ASHLAR_INLINE constexpr auto operator()(const A&... args) const {
    return Derived::spell(detail::to_result{}, args...);
  }
  template <detail::AnyOrTensor X, class Where = where>
    requires std::same_as<Where, where>
  constexpr auto operator()(const X& x, std::initializer_list<std::int64_t> list,
                            Where at = where::current()) const {
    return (*this)(x, shape(list), at);
  }
  template <detail::AnyOrTensor X, class A, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<A, where>)
  constexpr auto operator()(const X& x, std::initializer_list<std::int64_t> list, const A& rest,
                            Where at = where::current()) const {
    return (*this)(x, shape(list), rest, at);
  }
  template <detail::AnyOrTensor X, class A, class B, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<B, where>)
  constexpr auto operator()(const X& x, std::initializer_list<std::int64_t> list, const A& a,
                            const B& b, Where at = where::current()) const {
    return (*this)(x, shape(list), a, b, at);
  }

  using detail::writing_forms<Derived>::out;
  template <class Out, detail::AnyOrTensor X, class Where = where>
    requires std::same_as<Where, where>
  Out& out(Out& output, const X& x, std::initializer_list<std::int64_t> list,
           Where at = where::current()) const {
    return out(output, x, shape(list), at);
  }
  template <class Out, detail::AnyOrTensor X, class A, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<A, where>)
  Out& out(Out& output, const X& x, std::initializer_list<std::int64_t> list, const A& rest,
           Where at = where::current()) const {
    return out(output, x, shape(list), rest, at);
  }
  template <class Out, detail::AnyOrTensor X, class A, class B, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<B, where>)
  Out& out(Out& output, const X& x, std::initializer_list<std::int64_t> list, const A& a,
           const B& b, Where at = where::current()) const {
    return out(output, x, shape(list), a, b, at);
  }
  using detail::writing_forms<Derived>::in_place;
  template <detail::AnyOrTensor Self, class Where = where>
    requires std::same_as<Where, where>
  Self& in_place(Self& self, std::initializer_list<std::int64_t> list,
                 Where at = where::current()) const {
    return in_place(self, shape(list), at);
  }
  template <detail::AnyOrTensor Self, class A, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<A, where>)
  Self& in_place(Self& self, std::initializer_list<std::int64_t> list, const A& rest,
                 Where at = where::current()) const {
    return in_place(self, shape(list), rest, at);
  }
  template <detail::AnyOrTensor Self, class A, class B, class Where = where>
    requires(std::same_as<Where, where> && !std::same_as<B, where>)
  Self& in_place(Self& self, std::initializer_list<std::int64_t> list, const A& a, const B& b,
                 Where at = where::current()) const {
    return in_place(self, shape(list), a, b, at);
  }

  // The forms that write, as parts of a call that knows where it stands.
  template <class Out, class... A>
    requires detail::SpelledBy<Derived, detail::to_output<Out>, A...>
  Out& to_output(Out& output, const A&... args) const {
    Derived::spell(detail::to_output<Out>{output}, args...);
    return output;
  }
  template <detail::AnyOrTensor Self, class... A>
    requires detail::SpelledBy<Derived, detail::to_first<Self>, Self, A...>
  Self& over_first(Self& self, const A&... args) const {
    Derived::spell(detail::to_first<Self>{self}, std::as_const(self), args...);
    return self;
  }
};

}  // namespace ashlar
