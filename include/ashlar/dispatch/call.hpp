// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/fwd.hpp"

/// A call picks its kernel at compile time, and from one definition of an operator follow its
/// functional, `out=` and in-place forms.
namespace ashlar {

// ---- types of a call ----------------------------------------------------------------------------

template <class... A>
using call_keys = set_union<typename detail::argument_traits<std::remove_cv_t<A>>::keys...>;
template <class A>
inline constexpr dtype element_type = dtype_of<typename std::remove_cv_t<A>::value_type>;

namespace detail {

/// A spec as `meta` sees it, an attribute as it is.
template <class A>
[[nodiscard]] constexpr decltype(auto) spec_of(const A& a) {
  if constexpr (Tensor<A>) {
    return a.spec();
  } else {
    return (a);
  }
}
template <class A>
[[nodiscard]] decltype(auto) view_of(const A& a) {
  if constexpr (Tensor<A>) {
    return view<const typename A::value_type>{a.data(), &a.spec()};
  } else {
    return (a);
  }
}

/// Whether the argument in place `I` of the schema keeps its own element type.
template <class Op, std::size_t I>
consteval bool is_fixed() {
  if constexpr (Structured<Op>) {
    return I < Op::arguments.size() && Op::arguments[I].fixed;
  }
  return false;
}

template <class Op, class Key>
constexpr dtype chosen(dtype d) {
  if constexpr (requires { Key::template element<Op>(d); }) {
    return Key::template element<Op>(d);  // mixed precision is a promotion rule, not a kernel
  } else {
    return d;
  }
}

/// The element type that a call happens in: promotion of the arguments, then what the keys say.
template <class Op, class... A, class... K>
consteval dtype call_type(key_set<K...>) {
  dtype d = dtype::boolean;
  bool any = false;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    const auto join = [&]<class X, std::size_t J>(std::type_identity<X>,
                                                  std::integral_constant<std::size_t, J>) {
      if constexpr (Tensor<X>) {
        if constexpr (!is_fixed<Op, J>()) {
          d = any ? promote(d, element_type<X>) : element_type<X>;
          any = true;
        }
      }
    };
    (join(std::type_identity<A>{}, std::integral_constant<std::size_t, I>{}), ...);
  }(std::index_sequence_for<A...>{});
  ((d = chosen<Op, K>(d)), ...);
  return d;
}

/// What `meta` returns for these arguments: one spec, or an array of them.
template <class Op, class... A>
using meta_type = decltype(Op::meta(spec_of(std::declval<const A&>())...));

template <class Op, class Full, class Meta, class... A>
struct functional_result {
  static constexpr dtype element = [] {
    if constexpr (requires { Op::result_type; }) {
      return Op::result_type;
    } else {
      return call_type<Op, A...>(Full{});
    }
  }();
  using type = tensor<scalar_of<element>, Full>;
};
template <class Op, class Full, std::size_t N, class... A>
struct functional_result<Op, Full, std::array<tensor_spec, N>, A...> {
  using one = typename functional_result<Op, Full, tensor_spec, A...>::type;
  using type = decltype([]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<std::conditional_t<I + 1 != 0, one, void>...>{};
  }(std::make_index_sequence<N>{}));
};

template <class Op, form F, class Full, class... A>
struct result {
  using type = std::tuple_element_t<0, std::tuple<A...>>&;  // out= and in place
};
template <class Op, class Full, class... A>
struct result<Op, form::functional, Full, A...> {
  using type = typename decltype([] {
    if constexpr (!Structured<Op>) {
      return std::type_identity<typename Op::result>{};
    } else if constexpr (Composite<Op>) {
      return std::type_identity<decltype(typename Op::composite{}(std::declval<A&>()...))>{};
    } else {
      return functional_result<Op, Full, meta_type<Op, A...>, A...>{};
    }
  }())::type;
};

inline void require_no_overlap(std::string_view op, const tensor_handle& out,
                               const tensor_handle& in, std::string_view in_name,
                               bool same_place_is_fine) {
  if (&out.body()->root() == &in.body()->root() &&
      !(same_place_is_fine && out.spec() == in.spec()) &&
      geometry::may_overlap(out.spec(), in.spec())) [[unlikely]] {
    throw overlap_error(op, in_name);
  }
}

}  // namespace detail

// ---- the call -----------------------------------------------------------------------------------

/// The rest of a call: the keys in `Remaining` have not had their turn.
///
/// `Full` is the set that the call began with; results carry it, so no level has to convert.
template <class Op, form F, class Full, class Remaining = Full>
struct step {
  using op = Op;
  using keys = Full;
  static constexpr form kind = F;
  template <class... A>
  using result = typename detail::result<Op, F, Full, A...>::type;

  template <class... A>
  ASHLAR_INLINE result<A...> operator()(A&... args) const {
    using here = resolution<Op, Remaining>;
    using key = typename here::key;
    if constexpr (here::how == found::composite) {
      return typename Op::composite{}(args...);
    } else if constexpr (here::how == found::view) {
      static_assert(F == form::functional,
                    "ashlar::call: a view has no out= and no in-place form; call the function");
      return alias<result<A...>>(args...);
    } else if constexpr (!BackendKey<key> || here::how == found::fallback) {
      using run = std::conditional_t<here::how == found::direct, kernel<Op, key>, fallback<key>>;
      return run::impl(step<Op, F, Full, typename here::below>{}, args...);
    } else {
      using chip = typename key::chip;
      using run =
          std::conditional_t<here::how == found::direct, kernel<Op, key>, tile_kernel<Op, chip>>;
      auto& ctx = context<chip>::current();
      if constexpr (!Structured<Op>) {
        return run::impl(ctx, args...);
      } else if constexpr (F == form::functional) {
        return make<run, result<A...>>(ctx, args...);
      } else if constexpr (F == form::in_place) {
        return write<run>(ctx, first(args...), args...);
      } else {
        return
            [&](auto& out, auto&... in) -> auto& { return write<run>(ctx, out, in...); }(args...);
      }
    }
  }

 private:
  template <class First>
  static First& first(First& x, auto&...) {
    return x;
  }
  template <class Result, class First, class... A>
  static Result alias(const First& x, const A&... args) {
    return Result(body_of<Full>::alias(Op::meta(x.spec(), detail::spec_of(args)...), *x.body(),
                                       sizeof(typename First::value_type)));
  }
  template <class Run, class Result, class... A>
  ASHLAR_INLINE static Result make(auto& ctx, const A&... args) {
    const auto meta = Op::meta(detail::spec_of(args)...);
    if constexpr (Tensor<Result>) {
      Result out = allocate_tensor<Result>(ctx, meta);
      Run::impl(ctx, out.view(), detail::view_of(args)...);
      return out;
    } else {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        Result out{allocate_tensor<std::tuple_element_t<I, Result>>(ctx, meta[I])...};
        Run::impl(ctx, std::get<I>(out).view()..., detail::view_of(args)...);
        return out;
      }(std::make_index_sequence<std::tuple_size_v<Result>>{});
    }
  }
  template <class Run, class Out, class... A>
  static Out& write(auto& ctx, Out& out, const A&... args) {
    const tensor_spec meta = Op::meta(detail::spec_of(args)...);
    if (!out || (F == form::out && out.size() == 0 && !same_shape(meta, out.spec()))) {
      out = allocate_tensor<Out>(ctx, meta);
    }
    if (!same_shape(meta, out.spec())) {
      throw output_error(Op::name, meta.shape(), out.shape());
    }
    if (geometry::repeats_elements(out.spec())) {
      throw overlap_error(Op::name, "itself");
    }
    if constexpr (F == form::in_place && !Elementwise<Op>) {
      // The kernel may read an element after it wrote its neighbour: compute beside, then copy.
      const Out beside = make<Run, Out>(ctx, args...);
      step<ops::copy, form::in_place, Full, key_set<typename backend_of<Full>::key>>{}(out, beside);
      return out;
    } else {
      std::size_t place = 0;
      const auto check = [&]<class X>(const X& a) {
        if constexpr (Tensor<X>) {
          detail::require_no_overlap(Op::name, out, a, Op::arguments[place].name, Elementwise<Op>);
        }
        ++place;
      };
      (check(args), ...);
      Run::impl(ctx, out.view(), detail::view_of(args)...);
      ++out.body()->root().version;
      return out;
    }
  }
};

/// For messages: they name what a reader needs.
template <class Op, class Key>
inline constexpr bool has_kernel = false;
template <class Op>
inline constexpr bool has_kernel<Op, void> = true;
template <class Set>
inline constexpr bool on_one_chip = backend_of<Set>::is_one;

namespace detail {

/// Whether the chip's kernel can be called with these element types.
template <class Op, class Set, class... A>
consteval bool takes() {
  using key = typename backend_of<Set>::key;
  constexpr found how = rule<Op, key>();
  if constexpr (Structured<Op> && (how == found::direct || how == found::tile)) {
    using run = std::conditional_t<how == found::direct, kernel<Op, key>,
                                   tile_kernel<Op, typename key::chip>>;
    using out = typename result<Op, form::functional, Set, A...>::type;
    if constexpr (Tensor<out>) {
      return requires(context<typename key::chip>& ctx, const out& x, const A&... args) {
        run::impl(ctx, x.view(), view_of(args)...);
      };
    }
  }
  return true;
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
  static_assert(
      on_one_chip<Set>,
      "ashlar::call: the tensors of a call must be on one chip; move one with to<Chip>(x)");
  if constexpr (on_one_chip<Set>) {
    using key = typename unanswered<Op, Set>::key;
    static_assert(
        has_kernel<Op, key>,
        "ashlar::call: no kernel<Op, Key>; list one in the chip, or give Op a tile program or "
        "a composite, or define fallback<Key>");
    if constexpr (has_kernel<Op, key>) {
      constexpr bool as_it_is = []<std::size_t... I>(std::index_sequence<I...>) {
        return !(promotes<Op, call_type<Op, A...>(Set{}), I, A>() || ...);
      }(std::index_sequence_for<A...>{});
      if constexpr (Structured<Op> && as_it_is) {
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

template <class A>
[[nodiscard]] bool is_defined(const A& a) {
  if constexpr (Tensor<A>) {
    return static_cast<bool>(a);
  } else {
    return true;
  }
}

}  // namespace detail

template <class Op, class... A>
using call_result =
    typename step<Op, form::functional, call_keys<A...>>::template result<const A...>;

template <class Op>
struct op_function;

/// Calls `Op` under the union of the arguments' keys.
template <class Op, class... A>
ASHLAR_INLINE auto call(const A&... args) {
  return op_function<Op>{}(args...);
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
struct op_function {
  template <class... A>
  ASHLAR_INLINE call_result<Op, A...> operator()(const A&... args) const {
    if constexpr (!detail::answered<Op, call_keys<A...>, A...>()) {
      return detail::unreachable<call_result<Op, A...>>();
    } else if constexpr (Structured<Op> && !Composite<Op>) {
      return invoke<Op, call_result<Op, A...>>(args...);
    } else {
      return step<Op, form::functional, call_keys<A...>>{}(args...);
    }
  }

  /// Writes to `result`, which keeps its elements' place; an empty one is made.
  /// Throws: `output_error` for another shape, `overlap_error` where it shares elements.
  template <class Out, class... A>
  Out& out(Out& result, const A&... args) const {
    using set = call_keys<Out, A...>;
    static_assert(std::is_same_v<typename Out::keys, set>,
                  "ashlar::call: the output must carry the keys of the arguments; make it a tensor "
                  "of the same stack");
    if constexpr (detail::answered<Op, set, A...>()) {
      if (!(detail::is_defined(args) && ...)) [[unlikely]] {
        throw undefined_tensor(Op::name);
      }
      using needed = typename detail::functional_result<Op, set, tensor_spec, A...>::type;
      constexpr bool fits = element_type<Out> == element_type<needed>;
      static_assert(fits,
                    "ashlar::call: the output has another element type than the result; cast it");
      if constexpr (fits) {
        forward<form::out, detail::call_type<Op, A...>(set{}), 0>(std::index_sequence_for<A...>{},
                                                                  result, args...);
      }
    }
    return result;
  }

  /// Writes to the first argument.
  /// Throws: as `out`.
  template <class Self, class... A>
  Self& in_place(Self& self, const A&... args) const {
    using set = call_keys<Self, A...>;
    static_assert(std::is_same_v<typename Self::keys, set>,
                  "ashlar::call: what is changed in place must carry the keys of the arguments");
    if constexpr (detail::answered<Op, set, Self, A...>()) {
      if (!(detail::is_defined(args) && ...) || !self) [[unlikely]] {
        throw undefined_tensor(Op::name);
      }
      using needed = typename detail::functional_result<Op, set, tensor_spec, Self, A...>::type;
      constexpr bool fits = element_type<Self> == element_type<needed>;
      static_assert(fits,
                    "ashlar::call: the result has another element type than what is changed in "
                    "place; use the functional form");
      if constexpr (fits) {
        forward<form::in_place, detail::call_type<Op, Self, A...>(set{}), 1>(
            std::index_sequence_for<A...>{}, self, args...);
      }
    }
    return self;
  }

 private:
  template <form F, dtype D, std::size_t From, std::size_t... I, class Out, class... A>
  static void forward(std::index_sequence<I...>, Out& out, const A&... args) {
    [&out](const auto&... same) {
      step<Op, F, call_keys<Out, A...>>{}(out, same...);
    }(detail::promoted<Op, D, I + From>(args)...);
  }
};

}  // namespace ashlar
