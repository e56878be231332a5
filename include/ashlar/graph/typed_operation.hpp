// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/dispatch.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/recorder.hpp"
#include "ashlar/graph/tile_form.hpp"
#include "ashlar/ops/decompositions.hpp"

/// Operations that come from calls by type: the same kernels, behind forgotten types.
namespace ashlar::graph::detail {

using ashlar::detail::spec_of;

/// Whether a form's arguments fit the operator's `meta`; of `out=` the first is the output.
template <class Op, form F, class... A>
inline constexpr bool says_meta = requires(const A&... args) { Op::meta(spec_of(args)...); };
template <class Op, class Out, class... A>
inline constexpr bool says_meta<Op, form::out, Out, A...> =
    requires(const A&... args) { Op::meta(spec_of(args)...); };
template <class Op, form F, class... A>
concept SaysMeta = says_meta<Op, F, A...>;

template <class... A>
inline constexpr std::size_t tensors_of = (std::size_t{0} + ... + std::size_t{Tensor<A>});

/// The element types of the tensors among `A`, in order.
template <class... A>
constexpr auto types_of() {
  std::array<dtype, tensors_of<A...>> types{};
  std::size_t i = 0;
  const auto add = [&]<class X>(std::type_identity<X>) {
    if constexpr (Tensor<X>) {
      types[i++] = element_type<X>;
    }
  };
  (add(std::type_identity<A>{}), ...);
  return types;
}
template <class T>
consteval attribute::kind kind_of_attribute() {
  if constexpr (std::is_same_v<T, bool>) {
    return attribute::kind::boolean;
  } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    return attribute::kind::integer;
  } else if constexpr (std::is_floating_point_v<T>) {
    return attribute::kind::real;
  } else if constexpr (std::is_same_v<T, shape>) {
    return attribute::kind::extents;
  } else {
    return attribute::kind::own;
  }
}
template <class... A>
constexpr auto kinds_of() {
  std::array<attribute::kind, sizeof...(A) - tensors_of<A...>> kinds{};
  std::size_t i = 0;
  const auto add = [&]<class X>(std::type_identity<X>) {
    if constexpr (!Tensor<X>) {
      kinds[i++] = kind_of_attribute<X>();
    }
  };
  (add(std::type_identity<A>{}), ...);
  return kinds;
}

template <class R>
struct results {
  static constexpr std::array<dtype, 0> types{};
};
template <Tensor R>
struct results<R> {
  static constexpr std::array types{element_type<R>};
};
template <class... R>
struct results<std::tuple<R...>> {
  static constexpr std::array types{element_type<R>...};
};

/// Other calls at the same place in the keys as `Step`.
template <class Step>
struct beside_step;
template <class Op, form F, class Full, class Remaining>
struct beside_step<step<Op, F, Full, Remaining>> {
  using functional = step<Op, ashlar::form::functional, Full, Remaining>;
  template <class Other, form G, class X>
  using other = step<Other, G, typename X::keys, Remaining>;
};
/// Whether the chip can copy tensors of type `X`.
template <class X>
inline constexpr bool copies =
    rule<ops::clone, typename backend_of<typename X::keys>::key>() != found::missing &&
    rule<ops::copy, typename backend_of<typename X::keys>::key>() != found::missing &&
    ashlar::detail::takes<ops::clone, typename X::keys, X>() &&
    ashlar::detail::takes<ops::copy, typename X::keys, X, X>();

/// The first result that is a tensor, else the first argument that is one, else void.
template <class R, class... A>
struct first_tensor {
  using type = void;
};
template <class R, class First, class... A>
struct first_tensor<R, First, A...> {
  using type = typename decltype([] {
    if constexpr (Tensor<R>) {
      return std::type_identity<R>{};
    } else if constexpr (requires { std::tuple_size<R>::value; }) {
      return std::type_identity<std::tuple_element_t<0, R>>{};
    } else if constexpr (Tensor<First>) {
      return std::type_identity<First>{};
    } else {
      return first_tensor<void, A...>{};
    }
  }())::type;
};

/// The kernel that a step comes to without a key in between, if it can be called on its own; void.
template <class Step>
struct kernel_below {
  using type = void;
};
template <class Op, form F, class Full, class Rest>
  requires(Structured<Op> && (F == form::functional || (F == form::in_place && Elementwise<Op>)))
struct kernel_below<step<Op, F, Full, Rest>> {
  using here = resolution<Op, Rest>;
  using type = typename decltype([] {
    if constexpr (BackendKey<typename here::key> &&
                  (here::how == found::direct || here::how == found::tile ||
                   here::how == found::decomposition)) {
      using run = ashlar::detail::backend_kernel<Op, typename here::key, here::how>;
      // In place, one that cannot take every output may need a proxy.
      if constexpr (F == form::functional || !ashlar::detail::takes_some_outputs<run>) {
        return std::type_identity<run>{};
      } else {
        return std::type_identity<void>{};
      }
    } else {
      return std::type_identity<void>{};
    }
  }())::type;
};

/// What is left of a call at the key that captures: `Step` goes on below it. `A` are the arguments,
/// without const.
template <class Step, class... A>
class typed_operation final : public operation {
  using op = typename Step::op;
  static constexpr ashlar::form kind = Step::kind;
  static constexpr auto arguments = types_of<A...>();
  static constexpr auto kinds = kinds_of<A...>();
  using result =
      std::conditional_t<kind == form::functional, typename Step::template result<A...>, void>;
  static constexpr auto result_types_of = results<result>::types;

 public:
  static const typed_operation instance;

  constexpr typed_operation() {
    name = ashlar::detail::name_of<op>();
    id = &op_id<op>;
    form = kind;
    if constexpr (backend_of<typename Step::keys>::is_one) {
      chip = chip_of<typename Step::keys>::description.name;
    }
    argument_types = arguments;
    result_types = result_types_of;
    attribute_kinds = kinds;
    view = View<op>;
    elementwise = Elementwise<op>;
    launches = can_launch;
    if constexpr (!Structured<op>) {
      writes = (1u << arguments.size()) - 1u;  // nobody says which
    } else {
      writes = kind == form::functional ? 0u : 1u;
    }
  }

  void run(std::span<const tensor_handle> in, std::span<const attribute> attributes,
           std::span<tensor_handle> out) const override {
    std::tuple<A...> all = typed(in, attributes);
    std::apply(
        [&](auto&... args) {
          if constexpr (ashlar::detail::has_devices<typename Step::keys>) {
            using where = chip_of<typename Step::keys>;
            const on_device<where> there(ashlar::detail::ordinal_of_call<where>(name, args...));
            go(out, args...);
          } else {
            go(out, args...);
          }
        },
        all);
  }

  [[nodiscard]] std::vector<tensor_spec> meta(
      std::span<const tensor_spec> in, std::span<const attribute> attributes) const override {
    std::vector<tensor_spec> specs;
    if constexpr (!std::is_void_v<result>) {
      const auto made = call_meta(in, attributes, std::index_sequence_for<A...>{});
      if constexpr (Tensor<result>) {
        specs.push_back(made);
      } else {
        specs.assign(made.begin(), made.end());
      }
      for (std::size_t i = 0; i < specs.size(); ++i) {
        specs[i].type = result_types[i];
      }
    }
    return specs;
  }

  [[nodiscard]] tensor_handle place(std::size_t r, const tensor_spec& s,
                                    std::byte* at) const override {
    tensor_handle made;
    if constexpr (can_launch && kind == ashlar::form::functional) {
      const auto one = [&]<class R>(std::type_identity<R>) {
        auto& ctx = context<chip_of<typename R::keys>>::current();
        if (at == nullptr) {
          made = allocate_tensor<R>(ctx, s);
          return;
        }
        auto* const body = body_of<typename R::keys>::make(s);
        made = R(body);
        body->data = at;
        body->bytes = static_cast<std::size_t>(ashlar::detail::reach(s)) * size_of(s.type);
        ashlar::detail::place(ctx, *body);
      };
      if constexpr (Tensor<result>) {
        static_cast<void>(r);
        one(std::type_identity<result>{});
      } else {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
          ((I == r ? one(std::type_identity<std::tuple_element_t<I, result>>{}) : void()), ...);
        }(std::make_index_sequence<std::tuple_size_v<result>>{});
      }
    }
    return made;
  }
  void launch([[maybe_unused]] std::span<const tensor_handle> in,
              [[maybe_unused]] std::span<const attribute> attributes,
              [[maybe_unused]] std::span<const tensor_handle> out) const override {
    if constexpr (can_launch) {
      using chip = chip_of<typename Step::keys>;
      [[maybe_unused]] const tensor_handle& to = out.empty() ? in[0] : out[0];
      if constexpr (ashlar::detail::has_devices<typename Step::keys>) {
        const on_device<chip> there(to.ordinal());
        launch_on(context<chip>::current(), in, attributes, out);
      } else {
        launch_on(context<chip>::current(), in, attributes, out);
      }
    }
  }

  [[nodiscard]] bool has_parts() const override { return parts; }
  [[nodiscard]] std::vector<value_id> take_apart(
      recorder& to, std::span<const value_id> in,
      std::span<const attribute> attributes) const override {
    std::vector<value_id> made;
    if constexpr (parts) {
      std::size_t tensors = 0;
      std::size_t others = 0;
      const auto take = [&]<class X>(std::type_identity<X>) {
        if constexpr (Tensor<X>) {
          return to.template stand_in<capturable<X>>(in[tensors++]);
        } else {
          return attributes[others++].template as<X>();
        }
      };
      const std::tuple all{take(std::type_identity<A>{})...};  // braces: from left to right
      const auto keep = [&](const auto& r) {
        if constexpr (Tensor<std::remove_cvref_t<decltype(r)>>) {
          made.push_back(to.value_of(r));
        } else {
          std::apply([&](const auto&... each) { (made.push_back(to.value_of(each)), ...); }, r);
        }
      };
      if constexpr (exists<decomposition<op>>) {
        keep(std::apply(decomposition<op>{}, all));
      } else {
        keep(std::apply(typename op::composite{}, all));
      }
    }
    return made;
  }

  [[nodiscard]] tile_part part(std::span<const tensor_spec> in,
                               std::span<const attribute> attributes) const override {
    if constexpr (in_tiles) {
      return tile_form<op>::part(in, attributes);
    } else {
      return {};
    }
  }
  [[nodiscard]] traced emit(std::span<const traced> in,
                            std::span<const attribute> attributes) const override {
    if constexpr (in_tiles) {
      constexpr dtype type = ashlar::detail::call_type<op, A...>(key_set<>{});
      return emit_call<op, type, fixed_arguments<op, arguments.size()>, result_types_of[0],
                       kinds.size()>(in, attributes);
    } else {
      return in[0];
    }
  }
  [[nodiscard]] operation_ref functional() const override {
    if constexpr (Structured<op> && kind == ashlar::form::in_place) {
      return refer_to(typed_operation<typename beside_step<Step>::functional, A...>::instance);
    } else if constexpr (Structured<op> && kind == ashlar::form::out) {
      return []<class Out, class... In>(std::type_identity<std::tuple<Out, In...>>) {
        return refer_to(typed_operation<typename beside_step<Step>::functional, In...>::instance);
      }(std::type_identity<std::tuple<A...>>{});
    } else {
      return {};
    }
  }
  [[nodiscard]] operation_ref cloning() const override {
    if constexpr (!std::is_void_v<like>) {
      if constexpr (copies<like>) {
        return refer_to(typed_operation<typename beside_step<Step>::template other<
                                            ops::clone, ashlar::form::functional, like>,
                                        like>::instance);
      }
    }
    return {};
  }
  [[nodiscard]] operation_ref copying() const override {
    if constexpr (!std::is_void_v<like> && kind != ashlar::form::functional) {
      if constexpr (copies<like>) {
        return refer_to(
            typed_operation<
                typename beside_step<Step>::template other<ops::copy, ashlar::form::in_place, like>,
                like, like>::instance);
      }
    }
    return {};
  }

 private:
  using like = typename first_tensor<result, A...>::type;
  static constexpr bool in_tiles = kind == form::functional && tile_form<op>::exists;
  static constexpr bool parts =
      Structured<op> && kind == form::functional && (exists<decomposition<op>> || Composite<op>);
  using kernel = typename kernel_below<Step>::type;
  static constexpr bool can_launch = !std::is_void_v<kernel>;

  template <class T>
  static ashlar::view<T> look(const tensor_handle& x) {
    return {reinterpret_cast<T*>(x.bytes()), &x.spec()};
  }
  template <class C>
  static void launch_on(context<C>& ctx, std::span<const tensor_handle> in,
                        std::span<const attribute> attributes, std::span<const tensor_handle> out) {
    const ashlar::detail::launching<C> here(ctx, op::name);
    if constexpr (HasQueues<C>) {
      for (const tensor_handle& x : kind == ashlar::form::functional ? out : in.first(1)) {
        ashlar::detail::order_use<true>(ctx, x);
      }
      for (const tensor_handle& x : in) {
        ashlar::detail::order_use<false>(ctx, x);
      }
    }
    std::size_t tensors = 0;
    std::size_t others = 0;
    const auto take = [&]<class X>(std::type_identity<X>) {
      if constexpr (Tensor<X>) {
        return look<const typename X::value_type>(in[tensors++]);
      } else {
        return attributes[others++].template as<X>();
      }
    };
    const std::tuple all{take(std::type_identity<A>{})...};  // braces: from left to right
    std::apply(
        [&](const auto&... args) {
          if constexpr (kind == ashlar::form::in_place) {
            using self = std::tuple_element_t<0, std::tuple<A...>>;
            kernel::impl(ctx, look<typename self::value_type>(in[0]), args...);
            ++in[0].body()->root().version;
          } else if constexpr (Tensor<result>) {
            kernel::impl(ctx, look<typename result::value_type>(out[0]), args...);
          } else {
            [&]<std::size_t... I>(std::index_sequence<I...>) {
              kernel::impl(ctx,
                           look<typename std::tuple_element_t<I, result>::value_type>(out[I])...,
                           args...);
            }(std::make_index_sequence<std::tuple_size_v<result>>{});
          }
        },
        all);
  }

  static std::tuple<A...> typed(std::span<const tensor_handle> in,
                                std::span<const attribute> attributes) {
    std::size_t tensors = 0;
    std::size_t others = 0;
    const auto take = [&]<class X>(std::type_identity<X>) {
      if constexpr (Tensor<X>) {
        return X(in[tensors++]);
      } else {
        return attributes[others++].template as<X>();
      }
    };
    return std::tuple<A...>{take(std::type_identity<A>{})...};  // braces: from left to right
  }
  static void go(std::span<tensor_handle> out, auto&... args) {
    constexpr Step next;
    if constexpr (std::is_void_v<result>) {
      next(args...);
    } else if constexpr (Tensor<result>) {
      out[0] = next(std::as_const(args)...);
    } else {
      [&]<std::size_t... I>(auto&& made, std::index_sequence<I...>) {
        ((out[I] = std::get<I>(made)), ...);
      }(next(std::as_const(args)...), std::make_index_sequence<std::tuple_size_v<result>>{});
    }
  }
  template <std::size_t... I>
  static auto call_meta(std::span<const tensor_spec> in, std::span<const attribute> attributes,
                        std::index_sequence<I...>) {
    std::size_t tensors = 0;
    std::size_t others = 0;
    const auto take = [&]<class X>(std::type_identity<X>) {
      if constexpr (Tensor<X>) {
        return in[tensors++];
      } else {
        return attributes[others++].template as<X>();
      }
    };
    const auto all = std::tuple{take(std::type_identity<A>{})...};
    return op::meta(std::get<I>(all)...);
  }
};
template <class Step, class... A>
constinit const typed_operation<Step, A...> typed_operation<Step, A...>::instance{};

}  // namespace ashlar::graph::detail
