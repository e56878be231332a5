// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/core/overlap.hpp"
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/dispatch/device.hpp"
#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/fwd.hpp"

/// One level of a call: the types that it works on, and what happens at the key whose turn it is.
namespace ashlar {

template <class Op, form F, class Full, class Remaining = Full>
struct step;

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

/// What an operator makes of the type in which its arguments meet; a composite's parts decide.
template <class Op>
constexpr dtype computed_in(dtype d) {
  if constexpr (requires { Op::floating; } && !Composite<Op>) {
    return is_floating(d) ? d : default_floating;
  } else {
    return d;
  }
}

/// The element type in which the arguments of a call meet.
template <class Op, class... A>
consteval dtype joined_type() {
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
  return d;
}

/// The element type that a call happens in: promotion of the arguments, then what the operator and
/// the keys say.
template <class Op, class... A, class... K>
consteval dtype call_type(key_set<K...>) {
  dtype d = computed_in<Op>(joined_type<Op, A...>());
  ((d = chosen<Op, K>(d)), ...);
  return d;
}

/// Whether these are the arguments of `Op`.
template <class Op, class... A>
concept FitsMeta =
    !Structured<Op> || Composite<Op> || requires(const A&... args) { Op::meta(spec_of(args)...); };

/// What `meta` returns for these arguments: one spec, or an array of them.
template <class Op, class... A>
using meta_type = decltype(Op::meta(spec_of(std::declval<const A&>())...));

template <class Op, class Full, class Rules, class Meta, class... A>
struct functional_result {
  static constexpr dtype element = [] {
    if constexpr (requires { Op::result_type; }) {
      return Op::result_type;
    } else {
      return call_type<Op, A...>(Rules{});
    }
  }();
  using type = tensor<scalar_of<element>, Full>;
};
template <class Op, class Full, class Rules, std::size_t N, class... A>
struct functional_result<Op, Full, Rules, std::array<tensor_spec, N>, A...> {
  using one = typename functional_result<Op, Full, Rules, tensor_spec, A...>::type;
  using type = decltype([]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<std::conditional_t<I + 1 != 0, one, void>...>{};
  }(std::make_index_sequence<N>{}));
};

/// The type of a call's result; of `Rules` come the element rules.
template <class Op, form F, class Full, class Rules, class... A>
struct result_by {
  using type = std::tuple_element_t<0, std::tuple<A...>>&;  // out= and in place
};
template <class Op, class Full, class Rules, class... A>
struct result_by<Op, form::functional, Full, Rules, A...> {
  using type = typename decltype([] {
    if constexpr (!Structured<Op>) {
      return std::type_identity<typename Op::result>{};
    } else if constexpr (Composite<Op>) {
      return std::type_identity<decltype(typename Op::composite{}(std::declval<A&>()...))>{};
    } else if constexpr (!FitsMeta<Op, A...>) {
      return std::type_identity<void>{};  // `op_function` says so
    } else {
      return functional_result<Op, Full, Rules, meta_type<Op, A...>, A...>{};
    }
  }())::type;
};
template <class Op, form F, class Full, class... A>
using result = result_by<Op, F, Full, Full, A...>;

/// What a key does with an operator in which it interposes.
template <class Op, class Key, class Set, found How>
using interposed_kernel = std::conditional_t<
    How == found::fallback, fallback<Key>,
    std::conditional_t<exists<kernel_on<Op, Key, typename backend_of<Set>::key>>,
                       kernel_on<Op, Key, typename backend_of<Set>::key>, kernel<Op, Key>>>;

/// A decomposition in the place of a kernel. Defined in `decomposed.hpp`.
template <class Op>
struct decomposed;
/// A kernel that gets what `precompute` says in place of the attributes. Defined in
/// `precomputed.hpp`.
template <class Op, class Run>
class precomputed;
/// What computes an operator on a chip.
template <class Op, class Key, found How>
using written_kernel =
    std::conditional_t<How == found::tile, tile_kernel<Op, typename Key::chip>, kernel<Op, Key>>;
template <class Op, class Key, found How>
using backend_kernel = std::conditional_t<
    How == found::decomposition, decomposed<Op>,
    std::conditional_t<Precomputes<Op>, precomputed<Op, written_kernel<Op, Key, How>>,
                       written_kernel<Op, Key, How>>>;

/// Whether the kernel `Run` says which outputs it can write to.
template <class Run>
inline constexpr bool takes_some_outputs = false;
template <class Run>
  requires requires { Run::outputs; }
inline constexpr bool takes_some_outputs<Run> = Run::outputs != output_kind::raw_strided;

/// Whether the kernel `Run` of a chip has an `impl` that writes an `Out`, a tensor or a tuple of
/// them.
template <class Run, class Chip, class Out, class... A>
inline constexpr bool impl_takes = requires(context<Chip>& ctx, Out& out, const A&... args) {
  Run::impl(ctx, out.view(), view_of(args)...);
};
template <class Run, class Chip, class... Out, class... A>
inline constexpr bool impl_takes<Run, Chip, std::tuple<Out...>, A...> =
    requires(context<Chip>& ctx, Out&... out, const A&... args) {
      Run::impl(ctx, out.view()..., view_of(args)...);
    };

/// Whether `Run` can write to an output that lies like `out`, where `meta` is what it would choose.
template <class Run>
[[nodiscard]] bool takes_output(const tensor_spec& out, const tensor_spec& meta) {
  if constexpr (Run::outputs == output_kind::contiguous) {
    return out.contiguous;
  } else {
    for (int i = 0; i < out.rank; ++i) {
      if (out[i] > 1 && out.stride_of(i) != meta.stride_of(i)) {
        return false;
      }
    }
    return true;
  }
}

/// `f(tensor, meta)` for the one result of a call, or for each of several.
template <class Out, class Meta, class F>
ASHLAR_INLINE void each_result(Out& out, const Meta& meta, const F& f) {
  if constexpr (Tensor<Out>) {
    f(out, meta);
  } else {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::get<I>(out), std::get<I>(meta)), ...);
    }(std::make_index_sequence<std::tuple_size_v<Out>>{});
  }
}

/// Takes the result of what has no kernel of its own, and read `args`, to where it should go.
/// Defined in `call.hpp`.
template <form F, class Out, class X, class... A>
Out& put(std::string_view op, Out& to, const X& value, const A&... args);

inline void require_no_overlap(std::string_view op, const tensor_handle& out,
                               const tensor_handle& in, std::string_view in_name,
                               bool same_place_is_fine) {
  if (&out.body()->root() == &in.body()->root() &&
      !(same_place_is_fine && out.spec() == in.spec()) &&
      geometry::may_overlap(out.spec(), in.spec())) [[unlikely]] {
    throw overlap_error(op, in_name);
  }
}

/// Several outputs share nothing.
template <class Outs>
void require_apart(std::string_view op, const Outs& outs) {
  const auto check = [&](const auto&... each) {
    const std::array<const tensor_handle*, sizeof...(each)> all{&each...};
    for (std::size_t j = 1; j < all.size(); ++j) {
      for (std::size_t i = 0; i < j; ++i) {
        if (*all[i] && *all[j]) {
          require_no_overlap(op, *all[i], *all[j], "another output", false);
        }
      }
    }
  };
  std::apply(check, outs);
}

/// Whether a call that reads `args` makes the output anew: there is none, or one of another shape.
/// Refuses one that does not fit.
template <form F, class... A>
[[nodiscard]] ASHLAR_INLINE bool is_missing(std::string_view op, const tensor_handle& out,
                                            const tensor_spec& meta, const A&... args) {
  if (!out) {
    return true;
  }
  if (!same_shape(meta, out.spec())) {
    [[maybe_unused]] const auto reads = [&]<class X>(const X& a) {
      if constexpr (std::is_base_of_v<tensor_handle, X>) {
        return &a.body()->root() == &out.body()->root() && a.spec() == out.spec();
      }
      return false;
    };
    if (F == form::in_place || (reads(args) || ...)) {
      throw output_error(op, meta.shape(), out.shape());
    }
    return true;
  }
  if (geometry::repeats_elements(out.spec())) {
    throw overlap_error(op, "itself");
  }
  return false;
}

/// Says that an output is made anew, if it had elements.
inline void say_resized(std::string_view op, const tensor_handle& out, const tensor_spec& meta) {
  if (out && out.size() != 0) [[unlikely]] {
    if (const auto hear = on_resize.load()) {
      hear({op, shape(meta.shape()), shape(out.shape())});
    }
  }
}

// ---- the call -----------------------------------------------------------------------------------

/// What happens to a call of `Op` at one key, however the key was found. `Full` is the set that the
/// call began with; results carry it, so no level has to convert.
template <class Op, form F, class Full, class Rules = Full>
struct level {
  template <class... A>
  using result = typename detail::result_by<Op, F, Full, Rules, A...>::type;

  /// By the rule `How` of `Key`; `next` goes on below it.
  template <class Key, found How, class Next, class... A>
  ASHLAR_INLINE static result<A...> answer(const Next& next, A&... args) {
    if constexpr (How == found::composite || How == found::view) {
      return without_kernel<How>(args...);
    } else if constexpr (!BackendKey<Key> || How == found::fallback) {
      return interposed_kernel<Op, Key, Full, How>::impl(next, args...);
    } else if constexpr (Composite<Op> && Structured<Op> &&
                         !fits<backend_kernel<Op, Key, How>, typename Key::chip, A...>()) {
      return without_kernel<found::composite>(args...);
    } else {
      return run<backend_kernel<Op, Key, How>, typename Key::chip>(args...);
    }
  }
  /// By a kernel that computes on a chip: meta and allocation are done here.
  template <class Run, class Chip, class... A>
  ASHLAR_INLINE static result<A...> run(A&... args) {
    auto& ctx = context<Chip>::current();
    [[maybe_unused]] const detail::launching<Chip> here_now(ctx, Op::name);
    if constexpr (!Structured<Op>) {
      detail::will_write(ctx, args...);  // nobody says which
      return Run::impl(ctx, args...);
    } else if constexpr (F == form::functional) {
      return make<Run, result<A...>>(ctx, args...);
    } else if constexpr (F == form::in_place) {
      return write<Run>(ctx, first(args...), args...);
    } else {
      return [&](auto& out, auto&... in) -> auto& { return write<Run>(ctx, out, in...); }(args...);
    }
  }
  /// A view or a composite: the result is made without a kernel, then taken where it should go.
  template <found How, class... A>
  ASHLAR_INLINE static result<A...> without_kernel(A&... args) {
    if constexpr (F == form::functional) {
      return value<How>(args...);
    } else if constexpr (F == form::in_place) {
      return detail::put<F>(Op::name, first(args...), value<How>(args...));
    } else {
      return [](auto& out, auto&... in) -> auto& {
        return detail::put<F>(Op::name, out, value<How>(in...), in...);
      }(args...);
    }
  }

 private:
  template <class First>
  static First& first(First& x, auto&...) {
    return x;
  }
  /// Whether a composite's kernel is for these element types; for others there are the parts.
  template <class Run, class Chip, class... A>
  static consteval bool fits() {
    if constexpr (F == form::functional) {
      return impl_takes<Run, Chip, result<A...>, A...>;
    } else if constexpr (F == form::in_place) {
      return impl_takes<Run, Chip, std::tuple_element_t<0, std::tuple<A...>>, A...>;
    } else {
      return []<class Out, class... In>(std::type_identity<std::tuple<Out, In...>>) {
        return impl_takes<Run, Chip, Out, In...>;
      }(std::type_identity<std::tuple<A...>>{});
    }
  }
  template <found How, class... A>
  ASHLAR_INLINE static decltype(auto) value(A&... args) {
    if constexpr (How == found::composite) {
      return typename Op::composite{}(args...);
    } else {
      return alias<typename detail::result_by<Op, form::functional, Full, Rules, A...>::type>(
          args...);
    }
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
      detail::will_read(ctx, args...);
      Run::impl(ctx, out.view(), detail::view_of(args)...);
      return out;
    } else {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        Result out{allocate_tensor<std::tuple_element_t<I, Result>>(ctx, meta[I])...};
        detail::will_read(ctx, args...);
        Run::impl(ctx, std::get<I>(out).view()..., detail::view_of(args)...);
        return out;
      }(std::make_index_sequence<std::tuple_size_v<Result>>{});
    }
  }
  template <class Run, class Out, class... A>
  static Out& write(auto& ctx, Out& out, const A&... args) {
    const auto meta = Op::meta(detail::spec_of(args)...);
    const auto prepare = [&](auto& one, const tensor_spec& m) __attribute__((always_inline)) {
      if (detail::is_missing<F>(Op::name, one, m, args...)) {
        detail::say_resized(Op::name, one, m);
        one = allocate_tensor<std::remove_reference_t<decltype(one)>>(ctx, m);
      }
    };
    detail::each_result(out, meta, prepare);
    if constexpr (F == form::in_place && !Elementwise<Op>) {
      // The kernel may read an element after it wrote its neighbour.
      write_beside<Run>(ctx, out, args...);
    } else {
      detail::each_result(out, meta, [&](auto& one, const auto&) { separate(one, args...); });
      if constexpr (!Tensor<Out>) {
        detail::require_apart(Op::name, out);
      }
      if constexpr (detail::takes_some_outputs<Run>) {
        bool fits = true;
        detail::each_result(out, meta, [&](const auto& one, const auto& m) {
          fits = fits && detail::takes_output<Run>(one.spec(), m);
        });
        if (!fits) {
          write_beside<Run>(ctx, out, args...);
          return out;
        }
      }
      detail::each_result(out, meta, [&](auto& one, const auto&) { detail::will_write(ctx, one); });
      detail::will_read(ctx, args...);
      if constexpr (Tensor<Out>) {
        Run::impl(ctx, out.view(), detail::view_of(args)...);
      } else {
        std::apply([&](auto&... each) { Run::impl(ctx, each.view()..., detail::view_of(args)...); },
                   out);
      }
      detail::each_result(out, meta, [](auto& one, const auto&) { ++one.body()->root().version; });
    }
    return out;
  }
  /// Computes a result of its own, then copies it.
  template <class Run, class Out, class... A>
  static void write_beside(auto& ctx, Out& out, const A&... args) {
    const Out proxy = make<Run, Out>(ctx, args...);
    detail::each_result(out, proxy, [](auto& one, const auto& from) {
      step<ops::copy, form::in_place, Full, key_set<typename backend_of<Full>::key>>{}(one, from);
    });
  }
  template <class Out, class... A>
  ASHLAR_INLINE static void separate(const Out& out, const A&... args) {
    std::size_t place = 0;
    const auto check = [&]<class X>(const X& a) {
      if constexpr (Tensor<X>) {
        detail::require_no_overlap(Op::name, out, a, Op::arguments[place].name, Elementwise<Op>);
      }
      ++place;
    };
    (check(args), ...);
  }
};

}  // namespace detail

/// The rest of a call: the keys in `Remaining` have not had their turn.
template <class Op, form F, class Full, class Remaining>
struct step {
  using op = Op;
  using keys = Full;
  static constexpr form kind = F;
  template <class... A>
  using result = typename detail::result<Op, F, Full, A...>::type;

  template <class... A>
  ASHLAR_INLINE result<A...> operator()(A&... args) const {
    if constexpr (std::is_same_v<Full, Remaining> && detail::has_devices<Full>) {
      using chip = chip_of<Full>;
      const on_device<chip> there(detail::ordinal_of_call<chip>(detail::name_of<Op>(), args...));
      return run(args...);
    } else {
      return run(args...);
    }
  }
  /// The operator's composite in the place of what is below: the parts are calls of their own.
  template <class... A>
  result<A...> composed(A&... args) const {
    return detail::level<Op, F, Full>::template without_kernel<found::composite>(args...);
  }

 private:
  template <class... A>
  ASHLAR_INLINE result<A...> run(A&... args) const {
    using here = resolution<Op, Remaining>;
    using key = typename here::key;
    constexpr step<Op, F, Full, typename here::below> next;
    if constexpr (Excludable<key>) {
      if (detail::excluded<key>) {
        return next(args...);
      }
    }
    return detail::level<Op, F, Full>::template answer<key, here::how>(next, args...);
  }
};

}  // namespace ashlar
