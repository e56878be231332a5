// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <source_location>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/step.hpp"
#include "ashlar/dispatch/where.hpp"
#include "ashlar/dispatch/writing_forms.hpp"
#include "ashlar/fwd.hpp"

/// A call picks its kernel at compile time, and from one definition of an operator follow its
/// functional, `out=` and in-place forms. In one header, as these are made of each other: results
/// go to an output by calls, and calls end in outputs.
namespace ashlar {

/// For messages: they name what a reader needs.
template <class Op, class Key>
inline constexpr bool has_kernel = false;
template <class Op>
inline constexpr bool has_kernel<Op, void> = true;
template <class Set>
inline constexpr bool on_one_chip = backend_of<Set>::is_one;

namespace detail {

/// Whether the chip's kernel can be called with these element types as they are.
template <class Op, class Set, class... A>
consteval bool kernel_takes() {
  using key = typename backend_of<Set>::key;
  constexpr found how = rule<Op, key>();
  if constexpr (computed_in<Op>(joined_type<Op, A...>()) != joined_type<Op, A...>()) {
    return false;
  } else if constexpr (Structured<Op> && (how == found::direct || how == found::tile)) {
    return impl_takes<backend_kernel<Op, key, how>, typename key::chip,
                      typename result<Op, form::functional, Set, A...>::type, A...>;
  }
  return true;
}
/// Whether argument `A` in place `I` has elements that the schema allows.
template <class Op, std::size_t I, class A>
consteval bool may_be() {
  if constexpr (Structured<Op> && Tensor<A>) {
    return I >= Op::arguments.size() || !Op::arguments[I].whole || is_integral(element_type<A>);
  } else {
    return true;
  }
}
/// Whether a call can be; a composite has its parts where its kernel is not for these types.
template <class Op, class Set, class... A>
consteval bool takes() {
  if constexpr (Composite<Op>) {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return (may_be<Op, I, A>() && ...);
    }(std::index_sequence_for<A...>{});
  } else {
    return kernel_takes<Op, Set, A...>();
  }
}

/// Whether argument `A` in place `I` has to be cast for a call in element type `D`.
template <class Op, dtype D, std::size_t I, class A>
consteval bool promotes() {
  if constexpr (Structured<Op> && Tensor<A>) {
    return !is_fixed<Op, I>() && element_type<A> != D && !requires { Op::keeps_types; };
  } else {
    return false;
  }
}

/// The one place that refuses a call. The rest of the library calls only what passed here, so one
/// mistake is one error, two frames below the user's line.
template <class Op, class Set, class... A>
consteval bool answered() {
  constexpr bool placed = on_one_chip<Set> || (std::is_same_v<Set, key_set<>> && Composite<Op>);
  static_assert(
      placed || on_one_chip<Set>,
      "ashlar::call: the tensors of a call must be on one chip; move one with to<Chip>(x)");
  static_assert(FitsMeta<Op, A...>,
                "ashlar::call: these are not the arguments of Op; give the tensors that "
                "Op::arguments names, then the attributes that Op::meta takes");
  if constexpr (placed && FitsMeta<Op, A...>) {
    using key = typename unanswered<Op, Set>::key;
    static_assert(
        has_kernel<Op, key>,
        "ashlar::call: no kernel<Op, Key>; list one in the chip, or give Op a tile program or "
        "a composite, or define fallback<Key>");
    if constexpr (has_kernel<Op, key>) {
      constexpr bool as_it_is = []<std::size_t... I>(std::index_sequence<I...>) {
        return !(promotes<Op, call_type<Op, A...>(Set{}), I, A>() || ...);
      }(std::index_sequence_for<A...>{});
      if constexpr (Structured<Op> && on_one_chip<Set> && as_it_is) {
        static_assert(takes<Op, Set, A...>(),
                      "ashlar::call: this kernel<Op, Key> has no `impl` for these element types; "
                      "add an overload or cast<T>(x) first");
        return takes<Op, Set, A...>();
      }
      return true;
    }
  }
  return false;
}

template <class T>
T unreachable();

/// Whether a call has an argument whose type is a value.
template <class... A>
concept CallsAny = (is_any<A> || ...);
/// Whether a call has an argument that answers calls on its own: `A::answers::call<Op>(args...)`.
/// It need not be a tensor with a body; graphs that are constants are written so.
template <class... A>
concept AnsweredElsewhere = (requires { typename A::answers; } || ...);
template <class... A>
struct who_answers;
template <class First, class... A>
struct who_answers<First, A...> : who_answers<A...> {};
template <class First, class... A>
  requires requires { typename First::answers; }
struct who_answers<First, A...> {
  using type = typename First::answers;
};
/// A call whose kernel is picked at run time. Defined in `any.hpp`.
template <class Op, form F, class... A>
struct any_call;

/// `x` in another element type of its stack. Defined in `any.hpp`.
/// Throws: `unlisted_element`.
template <class Stack>
any_tensor<Stack> in_type_at_run_time(const any_tensor<Stack>& x, dtype to);

/// Writes the result of a call with `args` to `to`, cast to its element type. Defined in `any.hpp`.
/// Throws: `any_type_error` where it cannot be cast, `device_error`, `output_error`.
template <form F, class Stack, class... A>
void write_at_run_time(std::string_view op, any_tensor<Stack>& to, const any_tensor<Stack>& value,
                       const A&... args);
/// Throws what that would throw for the types of a result. Defined there.
template <class Stack>
void require_may_go_to(std::string_view op, const any_tensor<Stack>& to,
                       const any_tensor<Stack>& value);

/// A tensor, be its type a value.
template <class X>
concept AnyOrTensor = Tensor<X> || is_any<X>;

/// Whether a result of type `From` is written to a `To` as it is: tensors differ at most in their
/// keys.
template <class From, class To>
inline constexpr bool goes_to = std::is_same_v<From, To>;
template <Tensor From, Tensor To>
inline constexpr bool goes_to<From, To> = element_type<From> == element_type<To>;
/// Whether it may be written there at all, be it cast.
template <class From, class To>
inline constexpr bool may_go_to = goes_to<From, To>;
template <Tensor From, Tensor To>
inline constexpr bool may_go_to<From, To> = can_cast(element_type<From>, element_type<To>);

template <class A>
[[nodiscard]] bool is_defined(const A& a) {
  if constexpr (Tensor<A>) {
    return static_cast<bool>(a);
  } else {
    return true;
  }
}

template <class Op, bool ByOthers, class... A>
struct called {
  using type = typename step<Op, form::functional, call_keys<A...>>::template result<const A...>;
};
template <class Op, class... A>
  requires CallsAny<A...>
struct called<Op, true, A...> {
  using type = typename any_call<Op, form::functional, A...>::result_type;
};
template <class Op, class... A>
  requires AnsweredElsewhere<A...>
struct called<Op, true, A...> {
  using type = decltype(who_answers<A...>::type::template call<Op>(std::declval<const A&>()...));
};
}  // namespace detail

template <class Op, class... A>
using call_result =
    typename detail::called<Op, detail::CallsAny<A...> || detail::AnsweredElsewhere<A...>,
                            A...>::type;

template <class Op>
struct op_function;

namespace detail {
/// Throws: `overlap_error` where an output that is kept shares elements with one of `args`.
template <bool SamePlace, class Out, class... A>
void require_apart_from(std::string_view op, const Out& to, const tensor_spec& made,
                        const A&... args) {
  if (to && same_shape(to.spec(), made)) {
    [[maybe_unused]] const auto check = [&]<class Y>(const Y& a) {
      if constexpr (std::is_base_of_v<tensor_handle, Y>) {
        require_no_overlap(op, to, a, "an argument", SamePlace);
      }
    };
    (check(args), ...);
  }
}
/// Takes a result of another element type, made of `args`, to where it should go. `SamePlace`:
/// whether that may be one of them.
template <form F, bool SamePlace, class Out, class X, class... A>
Out& put_cast(std::string_view op, Out& to, const X& value, const A&... args);
}  // namespace detail

/// Calls `Op` under the union of the arguments' keys.
template <class Op, class... A>
ASHLAR_INLINE auto call(const A&... args) {
  return op_function<Op>{}.unlocated(args...);
}

namespace detail {
template <class Op, dtype D, std::size_t I, class A>
ASHLAR_INLINE decltype(auto) promoted(A& a) {
  if constexpr (promotes<Op, D, I, std::remove_const_t<A>>()) {
    return call<ops::cast<scalar_of<D>>>(a);
  } else {
    return (a);
  }
}

/// Whether the element type of a call is `Key`'s decision, and scopes may switch `Key` off.
template <class Op, class Set, class Key, class... A>
consteval bool decides() {
  if constexpr (Excludable<Key> && requires { Key::template element<Op>(dtype::float32); }) {
    return call_type<Op, A...>(Set{}) != call_type<Op, A...>(exclude<Set, Key>{});
  } else {
    return false;
  }
}
template <class Op, class Set, class... A>
struct deciding_key;
template <class Op, class... K, class... A>
struct deciding_key<Op, key_set<K...>, A...> {
  using found = set_union<key_set<>, std::conditional_t<decides<Op, key_set<K...>, K, A...>(),
                                                        key_set<K>, key_set<>>...>;
};

/// A result as the type that was promised: another element type is cast, missing keys are added.
template <class Result, class Y>
Result as_promised(const Y& y) {
  if constexpr (!Tensor<Result>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return Result(as_promised<std::tuple_element_t<I, Result>>(std::get<I>(y))...);
    }(std::make_index_sequence<std::tuple_size_v<Result>>{});
  } else if constexpr (element_type<Result> == element_type<Y>) {
    return Result(y);
  } else {
    return Result(call<ops::cast<typename Result::value_type>>(y));
  }
}

/// The call as without the first key of a set, if a scope has switched that off.
template <class Result, class Op, class Key, class... K, class... A>
[[gnu::noinline]] Result undecided(key_set<Key, K...>, const A&... args) {
  return as_promised<Result>(call<Op>(without_key<Key>(args)...));
}
template <class Key, class... K>
[[nodiscard]] bool first_is_off(key_set<Key, K...>) {
  return excluded<Key>;
}

}  // namespace detail

/// One out-of-line function per operator and argument types: meta, allocation, kernel.
///
/// The seam where compiled kernels attach:
/// `extern template tensor<...> invoke<ops::add, tensor<...>>(const tensor<...>&, ...);`
template <class Op, class Result, class... A>
Result invoke(const A&... args) {
  using set = call_keys<A...>;
  if (!(detail::is_defined(args) && ...)) [[unlikely]] {
    throw undefined_tensor(Op::name);
  }
  using deciding = typename detail::deciding_key<Op, set, A...>::found;
  if constexpr (!std::is_same_v<deciding, key_set<>>) {
    if (detail::first_is_off(deciding{})) [[unlikely]] {
      return detail::undecided<Result, Op>(deciding{}, args...);
    }
  }
  constexpr dtype element = detail::call_type<Op, A...>(set{});
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    if constexpr ((detail::promotes<Op, element, I, A>() || ...)) {
      // Above every key: kernels see one element type, and gradients are cast back on their own.
      return [](const auto&... same) {
        return step<Op, form::functional, set>{}(same...);
      }(detail::promoted<Op, element, I>(args)...);
    } else {
      return step<Op, form::functional, set>{}(args...);
    }
  }(std::index_sequence_for<A...>{});
}

/// The functions of one operator: `f(x...)`, `f.out(result, x...)`, `f.in_place(self, x...)`.
template <class Op>
struct op_function : detail::writing_forms<op_function<Op>> {
  /// The functional form, as a part of a call that knows where it stands.
  template <class... A>
  ASHLAR_INLINE constexpr call_result<Op, A...> unlocated(const A&... args) const {
    if constexpr (detail::AnsweredElsewhere<A...>) {
      return detail::who_answers<A...>::type::template call<Op>(args...);
    } else if constexpr (detail::CallsAny<A...>) {
      return detail::any_call<Op, form::functional, A...>::run(args...);
    } else if constexpr (!detail::answered<Op, call_keys<A...>, A...>()) {
      return detail::unreachable<call_result<Op, A...>>();
    } else if constexpr (Structured<Op> && !Composite<Op>) {
      return invoke<Op, call_result<Op, A...>>(args...);
    } else {
      return step<Op, form::functional, call_keys<A...>>{}(args...);
    }
  }

  // A default argument cannot follow a pack, hence one overload per number of arguments.
  using where = std::source_location;
  template <class A>
  ASHLAR_INLINE constexpr call_result<Op, A> operator()(const A& a,
                                                        where at = where::current()) const {
    [[maybe_unused]] const detail::located<A> here(at);
    return unlocated(a);
  }
  template <class A, class B>
  ASHLAR_INLINE constexpr call_result<Op, A, B> operator()(const A& a, const B& b,
                                                           where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B> here(at);
    return unlocated(a, b);
  }
  template <class A, class B, class C>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C> operator()(const A& a, const B& b, const C& c,
                                                              where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C> here(at);
    return unlocated(a, b, c);
  }
  template <class A, class B, class C, class D>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C, D> operator()(
      const A& a, const B& b, const C& c, const D& d, where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D> here(at);
    return unlocated(a, b, c, d);
  }
  template <class A, class B, class C, class D, class E>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C, D, E> operator()(
      const A& a, const B& b, const C& c, const D& d, const E& e,
      where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E> here(at);
    return unlocated(a, b, c, d, e);
  }
  template <class A, class B, class C, class D, class E, class F>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C, D, E, F> operator()(
      const A& a, const B& b, const C& c, const D& d, const E& e, const F& f,
      where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F> here(at);
    return unlocated(a, b, c, d, e, f);
  }
  template <class A, class B, class C, class D, class E, class F, class G>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C, D, E, F, G> operator()(
      const A& a, const B& b, const C& c, const D& d, const E& e, const F& f, const G& g,
      where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F, G> here(at);
    return unlocated(a, b, c, d, e, f, g);
  }
  template <class A, class B, class C, class D, class E, class F, class G, class H>
  ASHLAR_INLINE constexpr call_result<Op, A, B, C, D, E, F, G, H> operator()(
      const A& a, const B& b, const C& c, const D& d, const E& e, const F& f, const G& g,
      const H& h, where at = where::current()) const {
    [[maybe_unused]] const detail::located<A, B, C, D, E, F, G, H> here(at);
    return unlocated(a, b, c, d, e, f, g, h);
  }
  template <class... A>
    requires(sizeof...(A) > 8)
  ASHLAR_INLINE constexpr call_result<Op, A...> operator()(const A&... args) const {
    return unlocated(args...);
  }

  // The forms that write, as parts of a call that knows where it stands.
  template <class Stack, class... A>
  any_tensor<Stack>& to_output(any_tensor<Stack>& output, const A&... args) const {
    detail::any_call<Op, form::out, A...>::run(output, args...);
    return output;
  }
  template <class... Stack, class... A>
    requires(sizeof...(Stack) > 1)
  std::tuple<any_tensor<Stack>...>& to_output(std::tuple<any_tensor<Stack>...>& output,
                                              const A&... args) const {
    const auto value = unlocated(args...);
    if constexpr (!Composite<Op>) {  // a kernel by type would read what it wrote
      detail::each_result(output, value, [&](const auto& one, const auto& from) {
        detail::require_apart_from<false>(Op::name, one, from.spec(), args...);
      });
    }
    return detail::put<form::out>(Op::name, output, value, args...);
  }
  template <class Stack, class... A>
  any_tensor<Stack>& over_first(any_tensor<Stack>& self, const A&... args) const {
    detail::any_call<Op, form::in_place, any_tensor<Stack>, A...>::run(self, args...);
    return self;
  }
  template <class Out, class... A>
  Out& to_output(Out& output, const A&... args) const {
    using set = call_keys<Out, A...>;
    constexpr bool has_forms = Structured<Op>;
    static_assert(has_forms,
                  "ashlar::call: this operator writes to its arguments and has no out= form; call "
                  "the function");
    constexpr bool writable = !std::is_const_v<Out>;
    static_assert(writable, "ashlar::call: the output is const; give a handle that is not");
    static_assert(std::is_same_v<call_keys<Out>, set>,
                  "ashlar::call: the output must carry the keys of the arguments; make it a tensor "
                  "of the same stack");
    if constexpr (has_forms && writable && detail::answered<Op, set, A...>()) {
      if (!(detail::is_defined(args) && ...)) [[unlikely]] {
        throw undefined_tensor(Op::name);
      }
      using made = result_of<set, A...>;
      static_assert(detail::may_go_to<made, Out>,
                    "ashlar::call: the result cannot be cast to the element type of the output, "
                    "which is of a narrower category; give another output");
      if constexpr (detail::goes_to<made, Out>) {
        forward<form::out, detail::call_type<Op, A...>(set{}), 0>(std::index_sequence_for<A...>{},
                                                                  output, args...);
      } else if constexpr (detail::may_go_to<made, Out>) {
        detail::put_cast<form::out, Elementwise<Op>>(Op::name, output, unlocated(args...), args...);
      }
    }
    return output;
  }
  template <Tensor Self, class... A>
  Self& over_first(Self& self, const A&... args) const {
    using set = call_keys<Self, A...>;
    constexpr bool has_forms = Structured<Op> && !View<Op>;
    static_assert(has_forms,
                  "ashlar::call: a view, or what writes to its arguments anyway, has no in-place "
                  "form; call the function");
    constexpr bool writable = !std::is_const_v<Self>;
    static_assert(writable,
                  "ashlar::call: what is changed in place is const; give a handle that is not");
    static_assert(std::is_same_v<call_keys<Self>, set>,
                  "ashlar::call: what is changed in place must carry the keys of the arguments");
    if constexpr (has_forms && writable && detail::answered<Op, set, Self, A...>()) {
      if (!(detail::is_defined(args) && ...) || !self) [[unlikely]] {
        throw undefined_tensor(Op::name);
      }
      using made = result_of<set, Self, A...>;
      static_assert(detail::may_go_to<made, Self>,
                    "ashlar::call: the result cannot be cast to the element type of what is "
                    "changed in place, which is of a narrower category; use the functional form");
      if constexpr (detail::goes_to<made, Self>) {
        forward<form::in_place, detail::call_type<Op, Self, A...>(set{}), 1>(
            std::index_sequence_for<A...>{}, self, args...);
      } else if constexpr (detail::may_go_to<made, Self>) {
        detail::put_cast<form::in_place, Elementwise<Op>>(Op::name, self, unlocated(self, args...),
                                                          args...);
      }
    }
    return self;
  }

 private:
  template <class Set, class... A>
  using result_of = typename step<Op, form::functional, Set>::template result<const A...>;
  template <form F, dtype D, std::size_t From, std::size_t... I, class Out, class... A>
  static void forward(std::index_sequence<I...>, Out& out, const A&... args) {
    [&out](const auto&... same) {
      step<Op, F, call_keys<Out, A...>>{}(out, same...);
    }(detail::promoted<Op, D, I + From>(args)...);
  }
};

namespace detail {
/// Throws what keys throw that refuse to have `x` written or written to, by
/// `Key::require_unrecorded(op, x)`.
template <class X>
void require_unrecorded(std::string_view op, const X& x) {
  if constexpr (is_any<X>) {
    if (x) {
      x.visit([&](const auto& typed) { require_unrecorded(op, typed); });
    }
  } else {
    [&]<class... K>(key_set<K...>) {
      const auto ask = [&]<class Key>(std::type_identity<Key>) {
        if constexpr (requires { Key::require_unrecorded(op, x); }) {
          Key::require_unrecorded(op, x);
        }
      };
      (ask(std::type_identity<K>{}), ...);
    }(typename X::keys{});
  }
}
template <form F, class Out, class X, class... A>
Out& put(std::string_view op, Out& to, const X& value, const A&... args) {
  if constexpr (is_any<Out>) {
    write_at_run_time<F>(op, to, value);
    return to;
  } else if constexpr (!Tensor<Out>) {  // all are looked at before one is written
    each_result(to, value, [&]<class Y>(const Y& one, const auto& from) {
      if constexpr (is_any<Y>) {
        require_may_go_to(op, one, from);
      }
      require_unrecorded(op, from);
      if (!is_missing<F>(op, one, from.spec(), args...)) {
        require_unrecorded(op, one);
        std::apply(
            [&](const auto&... each) {
              (require_no_overlap(op, one, each, "an argument", false), ...);
            },
            value);
      }
    });
    require_apart(op, to);
    each_result(to, value, [&](auto& one, const auto& from) { put<F>(op, one, from); });
    return to;
  } else if constexpr (F == form::out) {
    if (!is_missing<F>(op, to, value.spec(), args...)) {
      require_no_overlap(op, to, value, "an argument", true);
      return op_function<ops::clone>{}.out(to, value);
    }
    Out made;
    op_function<ops::clone>{}.out(made, value);
    say_resized(op, to, value.spec());
    return to = std::move(made);
  } else {
    static_cast<void>(is_missing<F>(op, to, value.spec()));
    if (&to.body()->root() != &value.body()->root()) {
      return op_function<ops::copy>{}.in_place(to, value);
    }
    if (to.spec() != value.spec()) {  // other places of the same elements: nothing may be lost
      op_function<ops::copy>{}.in_place(to, call<ops::clone>(value));
    }
    return to;
  }
}
template <form F, bool SamePlace, class Out, class X, class... A>
Out& put_cast(std::string_view op, Out& to, const X& value, const A&... args) {
  if constexpr (F == form::out || SamePlace) {
    require_apart_from<SamePlace>(op, to, value.spec(), args...);
  }
  return put<F>(op, to, call<ops::cast<typename Out::value_type>>(value), args...);
}
}  // namespace detail

}  // namespace ashlar
