// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/dispatch/any_step.hpp"
#include "ashlar/dispatch/any_tensor.hpp"
#include "ashlar/dispatch/call.hpp"
#include "ashlar/dispatch/errors.hpp"

/// Calls with `any_tensor`: keys, chip and element type are looked at, then one jump goes to the
/// same kernels that calls by type reach.
namespace ashlar {
namespace detail {

/// Whether a chip's kernel, or that of the chip on which it falls back, takes these elements.
template <class Op, class Chip, class... A>
consteval bool runs_on() {
  constexpr found how = rule<Op, keys::backend<Chip>>();
  constexpr bool only_floating = requires { Op::floating; };
  if constexpr (how == found::missing || how == found::fallthrough ||
                (only_floating && !is_floating(joined_type<Op, A...>()))) {
    return false;
  } else if constexpr (how == found::fallback && requires { typename Chip::falls_back_to; }) {
    using other = typename Chip::falls_back_to;
    constexpr auto moved = []<class X>(std::type_identity<X>) {
      if constexpr (Tensor<X>) {
        return std::type_identity<tensor<typename X::value_type, key_set<keys::backend<other>>>>{};
      } else {
        return std::type_identity<X>{};
      }
    };
    return runs_on<Op, other, typename decltype(moved(std::type_identity<A>{}))::type...>();
  } else {
    return takes<Op, key_set<keys::backend<Chip>>, A...>();
  }
}

template <class... A>
struct first_stack;
template <class First, class... A>
struct first_stack<First, A...> : first_stack<A...> {};
template <class Stack, class... A>
struct first_stack<any_tensor<Stack>, A...> {
  using type = Stack;
};

/// The result of a call by type as one of a call at run time.
template <class Stack, class R>
struct any_result {
  using type = R;
};
template <class Stack, Tensor R>
struct any_result<Stack, R> {
  using type = any_tensor<Stack>;
};
template <class Stack, class... R>
struct any_result<Stack, std::tuple<R...>> {
  using type = std::tuple<typename any_result<Stack, R>::type...>;
};

/// One operator, form and kinds of arguments: a table over chips and element types.
template <class Op, form F, class... A>
struct any_call {
  using stack = typename first_stack<A...>::type;
  using lists = lists_of<stack>;
  using any = any_tensor<stack>;
  static_assert((... && !Tensor<A>),
                "ashlar::call: a typed tensor beside an any_tensor; make it one of the stack too");

  static constexpr std::size_t count = sizeof...(A);
  static constexpr std::array<bool, count> is_tensor{is_any<A>...};
  /// Arguments with an element type of their own, each a dimension of the table.
  static constexpr auto own_type = []<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<bool, count>{(is_tensor[I] && is_fixed<Op, I>())...};
  }(std::make_index_sequence<count>{});
  static constexpr bool any_joined = [] {
    for (std::size_t i = 0; i < count; ++i) {
      if (is_tensor[i] && !own_type[i]) {
        return true;
      }
    }
    return false;
  }();
  static constexpr std::size_t owned = [] {
    std::size_t n = 0;
    for (const bool own : own_type) {
      n += own ? 1 : 0;
    }
    return n;
  }();
  static constexpr std::size_t per_chip = [] {
    std::size_t n = any_joined ? lists::elements : 1;
    for (std::size_t i = 0; i < owned; ++i) {
      n *= lists::elements;
    }
    return n;
  }();

  /// The element type of argument `I` in place `At` of the table.
  template <std::size_t At, std::size_t I>
  static constexpr std::size_t element_at() {
    std::size_t rest = At % per_chip;
    for (std::size_t i = count; i-- > 0;) {
      if (own_type[i]) {
        if (i == I) {
          return rest % lists::elements;
        }
        rest /= lists::elements;
      }
    }
    return rest;
  }
  template <std::size_t At>
  using chip_at = typename lists::template chip<At / per_chip>;

  template <std::size_t At, class Set, std::size_t I, class X>
  static auto typed() {
    if constexpr (is_any<X>) {
      return std::type_identity<
          tensor<typename lists::template element<element_at<At, I>()>, Set>>{};
    } else {
      return std::type_identity<X>{};
    }
  }
  template <std::size_t At>
  using full = typename lists::template keys_on<chip_at<At>>;
  /// Argument `I` by type.
  template <std::size_t At, std::size_t I, class X, class Set = full<At>>
  using argument_type = typename decltype(typed<At, Set, I, X>())::type;

  /// Which places have kernels.
  static constexpr auto made = []<std::size_t... At>(std::index_sequence<At...>) {
    const auto one = []<std::size_t P, std::size_t... I>(std::integral_constant<std::size_t, P>,
                                                         std::index_sequence<I...>) {
      using set = key_set<keys::backend<chip_at<P>>>;
      if constexpr (FitsMeta<Op, argument_type<P, I, A, set>...>) {
        return runs_on<Op, chip_at<P>, argument_type<P, I, A, set>...>();
      }
      return false;
    };
    return std::array<bool, sizeof...(At)>{
        one(std::integral_constant<std::size_t, At>{}, std::make_index_sequence<count>{})...};
  }(std::make_index_sequence<lists::chips * per_chip>{});
  static constexpr std::size_t first_made = [] {
    std::size_t at = 0;
    while (at < made.size() && !made[at]) {
      ++at;
    }
    return at;
  }();
  static_assert(first_made < made.size(),
                "ashlar::call: no chip of the stack has a kernel of Op for these arguments; give "
                "all tensors of its schema, then the attributes");

  template <std::size_t At, std::size_t... I>
  static auto typed_result(std::index_sequence<I...>)
      -> result_by<Op, form::functional, full<At>, key_set<>, const argument_type<At, I, A>...>;
  template <std::size_t At>
  using typed_result_t =
      typename decltype(typed_result<At>(std::make_index_sequence<count>{}))::type;
  using result_type =
      std::conditional_t<F == form::functional,
                         typename any_result<stack, typed_result_t<first_made>>::type, void>;
  using output = std::conditional_t<F == form::functional, const any, any>;

  // ---- the table ----

  using function = result_type (*)(key_bits carried, key_bits set, output* to, const A&... args);

  template <std::size_t At, std::size_t... I>
  static result_type enter(key_bits carried, key_bits set, [[maybe_unused]] output* to,
                           const A&... args) {
    using chip = chip_at<At>;
    using step_type = any_step<Op, F, full<At>>;
    const step_type next{carried, set};
    return [&](const auto&... typed) -> result_type {
      const auto go = [&]() -> result_type {
        if constexpr (F == form::functional) {
          return wrapped(next(typed.get()...), carried);
        } else {
          using written = typed_result_t<At>;
          static_assert(Tensor<written>,
                        "ashlar::call: out= of several results takes typed tensors");
          using first = argument_type<At, 0, std::tuple_element_t<0, std::tuple<A...>>>;
          constexpr bool over_itself = F == form::out || std::is_same_v<first, written>;
          if (!over_itself || !fits<written>(*to)) [[unlikely]] {
            return write_cast(*to, args...);
          }
          lent<stack, written> out(*to, carried);
          if constexpr (F == form::out) {
            next(out.now, typed.get()...);
          } else if constexpr (over_itself) {
            [&](const auto&, const auto&... rest) { next(out.now, rest.get()...); }(typed...);
          }
        }
      };
      if constexpr (device_count<chip> > 1) {
        const on_device<chip> there(ordinal_of_call<chip>(name_of<Op>(), typed.get()...));
        return go();
      } else {
        return go();
      }
    }(held<argument_type<At, I, A>>(args)...);
  }
  template <std::size_t At, std::size_t... I>
  static constexpr function entry(std::index_sequence<I...>) {
    if constexpr (made[At]) {
      return &enter<At, I...>;
    } else {
      return nullptr;
    }
  }
  template <std::size_t... At>
  static constexpr std::array<function, sizeof...(At)> entries(std::index_sequence<At...>) {
    return {entry<At>(std::make_index_sequence<count>{})...};
  }

  // ---- the call ----

  static result_type run(const A&... args)
    requires(F == form::functional)
  {
    return look(nullptr, args...);
  }
  static void run(any& to, const A&... args)
    requires(F == form::out)
  {
    look(&to, args...);
  }
  template <class... Rest>
  static void run(any& self, const Rest&... rest)
    requires(F == form::in_place)
  {
    look(&self, self, rest...);
  }

  /// `x` itself, or its elements in the type in place `element` of the list.
  template <std::size_t E>
  static any cast_to(const any& x, std::size_t element) {
    if (x.tag().element() == element) {
      return x;
    }
    if constexpr (E + 1 < lists::elements) {
      if (E != element) {
        return cast_to<E + 1>(x, element);
      }
    }
    using target = ops::cast<typename lists::template element<E>>;
    return any_call<target, form::functional, any>::run(x);
  }

 private:
  ASHLAR_INLINE static result_type look(output* to, const A&... args) {
    std::uint32_t first = 0;         // the first tensor's tag
    std::uint32_t first_joined = 0;  // that of the first one without a type of its own
    std::uint32_t all = 0;
    std::uint32_t differ = 0;
    std::uint32_t differ_joined = 0;
    bool any_yet = false;
    bool any_joined_yet = false;
    const auto see = [&]<std::size_t I>(std::integral_constant<std::size_t, I>, const auto& a) {
      if constexpr (is_tensor[I]) {
        const std::uint32_t word = a.tag().word;
        first = any_yet ? first : word;
        any_yet = true;
        all |= word;
        differ |= word ^ first;
        if constexpr (!own_type[I]) {
          first_joined = any_joined_yet ? first_joined : word;
          any_joined_yet = true;
          differ_joined |= word ^ first_joined;
        }
      }
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (see(std::integral_constant<std::size_t, I>{}, args), ...);
    }(std::make_index_sequence<count>{});
    const std::size_t chip = any_tag{first}.chip();
    if (any_tag{differ}.chip() != 0 || chip >= lists::chips) [[unlikely]] {
      refuse(args...);
    }
    const key_bits carried = any_tag{all}.keys();
    const key_bits set = ((carried | lists::included()) & ~lists::excluded()) | backend;
    std::size_t element = any_joined ? any_tag{first_joined}.element() : 0;
    if (any_joined && (any_tag{differ_joined}.element() != 0 || has_rules ||
                       (moves && moved_by_operator[element]))) [[unlikely]] {
      const std::size_t joined = join(set, args...);
      if (any_tag{differ_joined}.element() != 0 || joined != element) {
        return cast_first(chip, joined, carried, set, to, args...);
      }
    }
    return jump(chip, element, carried, set, to, args...);
  }

  ASHLAR_INLINE static result_type jump(std::size_t chip, std::size_t element, key_bits carried,
                                        key_bits set, output* to, const A&... args) {
    std::size_t at = any_joined ? chip * lists::elements + element : chip;
    const auto add = [&]<std::size_t I>(std::integral_constant<std::size_t, I>, const auto& a) {
      if constexpr (own_type[I]) {
        at = at * lists::elements + a.tag().element();
      }
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (add(std::integral_constant<std::size_t, I>{}, args), ...);
    }(std::make_index_sequence<count>{});
    static constexpr auto table = entries(std::make_index_sequence<made.size()>{});
    const function kernel = table[at];
    if (kernel == nullptr) [[unlikely]] {
      no_kernel(chip, element, args...);
    }
    return kernel(carried, set, to, args...);
  }

  static constexpr key_bits backend = key_bits{1} << lists::key_count;
  static constexpr bool has_rules = lists::template has_element_rule<Op>;
  /// Element types that the operator does not compute in.
  static constexpr auto moved_by_operator = [] {
    std::array<bool, lists::elements> moved{};
    for (std::size_t e = 0; e < lists::elements; ++e) {
      moved[e] = computed_in<Op>(lists::types[e]) != lists::types[e];
    }
    return moved;
  }();
  static constexpr bool moves = [] {
    for (const bool one : moved_by_operator) {
      if (one) {
        return true;
      }
    }
    return false;
  }();

  /// Where the arguments meet: promotion, then what the operator and the keys say. Ranks are known
  /// here, so a tensor without dimensions counts as in PyTorch.
  [[gnu::noinline]] static std::size_t join(key_bits set, const A&... args) {
    met_types met;
    const auto see = [&]<std::size_t I>(std::integral_constant<std::size_t, I>, const auto& a) {
      if constexpr (is_tensor[I] && !own_type[I]) {
        met.meet(lists::types[a.tag().element()], a ? a.rank() : 0);
      }
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (see(std::integral_constant<std::size_t, I>{}, args), ...);
    }(std::make_index_sequence<count>{});
    const dtype d = lists::template by_rules<Op>(computed_in<Op>(met.type()), set);
    const std::size_t element = lists::place_of(d);
    if (element == lists::elements) {
      throw unlisted_element(name_of<Op>(), d);
    }
    return element;
  }
  [[gnu::noinline]] static result_type cast_first(std::size_t chip, std::size_t element,
                                                  key_bits carried, key_bits set, output* to,
                                                  const A&... args) {
    if constexpr (F == form::in_place) {
      if (to->tag().element() != element) {
        return write_cast(*to, args...);
      }
    } else if constexpr (F == form::out) {  // what is cast would hide that it shares elements
      const auto shares = [&]<class X>(const X& a) {
        if constexpr (is_any<X>) {
          return &a.body()->root() == &to->body()->root();
        }
        return false;
      };
      if (*to && (shares(args) || ...)) {
        return write_cast(*to, args...);
      }
    }
    const auto same = [&]<std::size_t I>(std::integral_constant<std::size_t, I>,
                                         const auto& a) -> decltype(auto) {
      if constexpr (is_tensor[I] && !own_type[I]) {
        return cast_to<0>(a, element);
      } else {
        return (a);
      }
    };
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return jump(chip, element, carried, set, to,
                  same(std::integral_constant<std::size_t, I>{}, args)...);
    }(std::make_index_sequence<count>{});
  }
  static auto wrapped(auto&& result, key_bits carried) {
    using R = std::remove_cvref_t<decltype(result)>;
    if constexpr (Tensor<R>) {
      return any(std::forward<decltype(result)>(result), carried);
    } else if constexpr (!std::is_same_v<typename any_result<stack, R>::type, R>) {
      return std::apply([&](auto&... each) { return std::tuple(any(std::move(each), carried)...); },
                        result);
    } else {
      return R(std::forward<decltype(result)>(result));
    }
  }
  /// Whether a result of type `X` can be written to `to` as it is.
  template <class X>
  static bool fits(const any& to) {
    constexpr any_tag needed = any::template tag_of<typename X::value_type, typename X::keys>(0);
    return !to || (to.tag().word ^ needed.word) >> 16 == 0;
  }
  /// Makes the result, then casts it to what is written to.
  [[gnu::noinline]] static void write_cast(any& to, const A&... args) {
    const any value = any_call<Op, form::functional, A...>::run(args...);
    if constexpr (F == form::out || Elementwise<Op>) {
      require_apart_from<Elementwise<Op>>(name_of<Op>(), to, value.spec(), args...);
    }
    write_at_run_time<F>(name_of<Op>(), to, value, args...);
  }

  /// The cold ends of a call.
  [[noreturn, gnu::noinline]] static void refuse(const A&... args) {
    const any* first = nullptr;
    const any* other = nullptr;
    const auto see = [&](const auto& a) {
      if constexpr (is_any<std::remove_cvref_t<decltype(a)>>) {
        if (!a) {
          throw undefined_tensor(name_of<Op>());
        }
        first = first == nullptr ? &a : first;
        other = a.tag().chip() != first->tag().chip() ? &a : other;
      }
    };
    (see(args), ...);
    throw device_error(name_of<Op>(), first->where(), other->where());
  }
  [[noreturn, gnu::noinline]] static void no_kernel(std::size_t chip, std::size_t element,
                                                    const A&... args) {
    std::string types;
    const auto see = [&]<std::size_t I>(std::integral_constant<std::size_t, I>, const auto& a) {
      if constexpr (is_tensor[I]) {
        const std::size_t e = own_type[I] ? a.tag().element() : element;
        types.append(types.empty() ? "" : ", ").append(name_of(lists::types[e]));
      }
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (see(std::integral_constant<std::size_t, I>{}, args), ...);
    }(std::make_index_sequence<count>{});
    constexpr auto has_rule = []<std::size_t... C>(std::index_sequence<C...>) {
      return std::array<bool, sizeof...(C)>{
          (rule<Op, keys::backend<typename lists::template chip<C>>>() < found::fallthrough)...};
    }(std::make_index_sequence<lists::chips>{});
    if (!has_rule[chip]) {
      throw missing_kernel(name_of<Op>(), lists::chip_names[chip]);
    }
    throw unsupported_elements(name_of<Op>(), lists::chip_names[chip], types);
  }
};

template <class Stack>
any_tensor<Stack> in_type_at_run_time(const any_tensor<Stack>& x, dtype to) {
  const std::size_t element = lists_of<Stack>::place_of(to);
  if (element == lists_of<Stack>::elements) {
    throw unlisted_element("cast", to);
  }
  return any_call<ops::clone, form::functional, any_tensor<Stack>>::template cast_to<0>(x, element);
}

template <class Stack>
void require_may_go_to(std::string_view op, const any_tensor<Stack>& to,
                       const any_tensor<Stack>& value) {
  if (!to) {
    return;
  }
  if (value.tag().chip() != to.tag().chip()) {
    throw device_error(op, to.where(), value.where());
  }
  if (!can_cast(value.type(), to.type())) {
    throw any_type_error(std::string(name_of(to.type())),
                         std::string(name_of(value.type())) + ", the result of " + std::string(op));
  }
}
template <form F, class Stack, class... A>
void write_at_run_time(std::string_view op, any_tensor<Stack>& to, const any_tensor<Stack>& value,
                       const A&... args) {
  using any = any_tensor<Stack>;
  require_may_go_to(op, to, value);
  const bool anew = is_missing<F>(op, to, value.spec(), args...);
  const any cast = to ? in_type_at_run_time(value, to.type()) : value;
  if constexpr (F == form::out) {
    any made = anew ? any() : to;
    any_call<ops::clone, F, any>::run(made, cast);
    if (anew) {
      say_resized(op, to, value.spec());
    }
    to = std::move(made);
  } else {
    any_call<ops::copy, F, any, any>::run(to, cast);
  }
}

}  // namespace detail
}  // namespace ashlar
