// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <source_location>

#include "ashlar/config.hpp"
#include "ashlar/dispatch/where.hpp"

/// Forms of a call that write: `f.out(result, x...)` and `f.in_place(self, x...)`.
namespace ashlar::detail {

// What is no place is turned away before anybody asks the function.
template <class Where>
concept Place = std::same_as<Where, std::source_location>;
template <class F, class Out, class... A>
concept WritesTo = requires(const F& f, Out& to, const A&... args) { f.to_output(to, args...); };
template <class F, class Self, class... A>
concept WritesOver =
    requires(const F& f, Self& self, const A&... args) { f.over_first(self, args...); };

/// Mixin of a function with `to_output(result, x...)` and `over_first(self, x...)`: the same, and
/// the call knows where it stands in the user's code.
///
/// A default argument cannot follow a pack, hence one overload per number of arguments; calls with
/// more than eight have no place: the library has none.
template <class Derived>
struct writing_forms {
  /// Writes to `output`, which keeps its elements' place. One of another shape gets elements of its
  /// own, and `on_resize` hears of it if it had any: other handles keep what was there. A result of
  /// another element type is cast. For an operator with several results it is the tuple that the
  /// functional form returns. What has no kernel (a view, a composite) is copied there.
  /// Throws: `output_error` for an argument of another shape, `overlap_error` where it shares
  /// elements.
  template <class Out, class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out>)
  ASHLAR_INLINE Out& out(Out& output, Where at = std::source_location::current()) const {
    const located_output<Out> here(at);
    return function().to_output(output);
  }
  template <class Out, class A, class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A>)
  ASHLAR_INLINE Out& out(Out& output, const A& a,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A> here(at);
    return function().to_output(output, a);
  }
  template <class Out, class A, class B, class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A, B> here(at);
    return function().to_output(output, a, b);
  }
  template <class Out, class A, class B, class C, class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C> here(at);
    return function().to_output(output, a, b, c);
  }
  template <class Out, class A, class B, class C, class D, class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C, D>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c, const D& d,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C, D> here(at);
    return function().to_output(output, a, b, c, d);
  }
  template <class Out, class A, class B, class C, class D, class E,
            class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C, D, E>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c, const D& d, const E& e,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C, D, E> here(at);
    return function().to_output(output, a, b, c, d, e);
  }
  template <class Out, class A, class B, class C, class D, class E, class F,
            class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C, D, E, F>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c, const D& d, const E& e,
                         const F& f, Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C, D, E, F> here(at);
    return function().to_output(output, a, b, c, d, e, f);
  }
  template <class Out, class A, class B, class C, class D, class E, class F, class G,
            class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C, D, E, F, G>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c, const D& d, const E& e,
                         const F& f, const G& g, Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C, D, E, F, G> here(at);
    return function().to_output(output, a, b, c, d, e, f, g);
  }
  template <class Out, class A, class B, class C, class D, class E, class F, class G, class H,
            class Where = std::source_location>
    requires(Place<Where> && WritesTo<Derived, Out, A, B, C, D, E, F, G, H>)
  ASHLAR_INLINE Out& out(Out& output, const A& a, const B& b, const C& c, const D& d, const E& e,
                         const F& f, const G& g, const H& h,
                         Where at = std::source_location::current()) const {
    const located_output<Out, A, B, C, D, E, F, G, H> here(at);
    return function().to_output(output, a, b, c, d, e, f, g, h);
  }
  template <class Out, class... A>
    requires(sizeof...(A) > 8 && WritesTo<Derived, Out, A...>)
  ASHLAR_INLINE Out& out(Out& output, const A&... args) const {
    return function().to_output(output, args...);
  }

  /// Writes to the first argument, which keeps its shape and element type.
  /// Throws: `output_error` for another shape, `overlap_error` where it shares elements.
  template <class Self, class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self>)
  ASHLAR_INLINE Self& in_place(Self& self, Where at = std::source_location::current()) const {
    return placed<Self>(at, [&]() -> Self& { return function().over_first(self); });
  }
  template <class Self, class A, class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a,
                               Where at = std::source_location::current()) const {
    return placed<Self, A>(at, [&]() -> Self& { return function().over_first(self, a); });
  }
  template <class Self, class A, class B, class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b,
                               Where at = std::source_location::current()) const {
    return placed<Self, A, B>(at, [&]() -> Self& { return function().over_first(self, a, b); });
  }
  template <class Self, class A, class B, class C, class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B, C>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b, const C& c,
                               Where at = std::source_location::current()) const {
    return placed<Self, A, B, C>(at,
                                 [&]() -> Self& { return function().over_first(self, a, b, c); });
  }
  template <class Self, class A, class B, class C, class D, class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B, C, D>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b, const C& c, const D& d,
                               Where at = std::source_location::current()) const {
    return placed<Self, A, B, C, D>(
        at, [&]() -> Self& { return function().over_first(self, a, b, c, d); });
  }
  template <class Self, class A, class B, class C, class D, class E,
            class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B, C, D, E>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b, const C& c, const D& d,
                               const E& e, Where at = std::source_location::current()) const {
    return placed<Self, A, B, C, D, E>(
        at, [&]() -> Self& { return function().over_first(self, a, b, c, d, e); });
  }
  template <class Self, class A, class B, class C, class D, class E, class F,
            class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B, C, D, E, F>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b, const C& c, const D& d,
                               const E& e, const F& f,
                               Where at = std::source_location::current()) const {
    return placed<Self, A, B, C, D, E, F>(
        at, [&]() -> Self& { return function().over_first(self, a, b, c, d, e, f); });
  }
  template <class Self, class A, class B, class C, class D, class E, class F, class G,
            class Where = std::source_location>
    requires(Place<Where> && WritesOver<Derived, Self, A, B, C, D, E, F, G>)
  ASHLAR_INLINE Self& in_place(Self& self, const A& a, const B& b, const C& c, const D& d,
                               const E& e, const F& f, const G& g,
                               Where at = std::source_location::current()) const {
    return placed<Self, A, B, C, D, E, F, G>(
        at, [&]() -> Self& { return function().over_first(self, a, b, c, d, e, f, g); });
  }
  template <class Self, class... A>
    requires(sizeof...(A) > 7 && WritesOver<Derived, Self, A...>)
  ASHLAR_INLINE Self& in_place(Self& self, const A&... args) const {
    return function().over_first(self, args...);
  }

 private:
  [[nodiscard]] constexpr const Derived& function() const {
    return static_cast<const Derived&>(*this);
  }
};

}  // namespace ashlar::detail
