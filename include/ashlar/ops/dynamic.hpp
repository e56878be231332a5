// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/dynamic.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/host_fallback.hpp"

/// Operators on a plug-in: every call in one boxed form, and the host for what the plug-in lacks.
namespace ashlar {

namespace detail {

template <class T>
ashlar_plugin_tensor boxed(const view<T>& v) {
  using element = std::remove_const_t<T>;
  return {.data = const_cast<element*>(v.data),
          .extent = v.spec->extent.data(),
          .stride = v.spec->stride.data(),
          .size = v.spec->size,
          .rank = v.spec->rank,
          .element = chip::detail::plugin_element(dtype_of<element>)};
}
template <std::integral T>
ashlar_plugin_attribute boxed(T value) {
  return {.kind = ashlar_plugin_integer,
          .length = 0,
          .integer = static_cast<std::int64_t>(value),
          .real = 0,
          .list = nullptr};
}
inline ashlar_plugin_attribute boxed(double value) {
  return {.kind = ashlar_plugin_real, .length = 0, .integer = 0, .real = value, .list = nullptr};
}
template <std::same_as<shape> S>  // a list that becomes a shape would end before the call
ashlar_plugin_attribute boxed(const S& list) {
  return {.kind = ashlar_plugin_list,
          .length = list.rank(),
          .integer = 0,
          .real = 0,
          .list = list.begin()};
}

/// Whether an argument goes into a plug-in's call.
template <class A>
concept Boxable = requires(const A& a) { boxed(a); };
template <class A>
concept BoxableTensor =
    Tensor<A> && chip::detail::plugin_element(element_type<A>) != chip::detail::plugin_none;
template <class A>
concept BoxableArgument = BoxableTensor<A> || Boxable<A>;

template <std::size_t Outputs, class... A>
std::int32_t call_boxed(std::int32_t (*f)(const ashlar_plugin_call*), const A&... args) {
  constexpr std::size_t tensors = (0 + ... + std::size_t{is_view<A>});
  std::array<ashlar_plugin_tensor, tensors + 1> views;  // one more, so that there is a first
  std::array<ashlar_plugin_attribute, sizeof...(A) - tensors + 1> attributes;
  std::size_t next_view = 0;
  std::size_t next_attribute = 0;
  const auto add = [&]<class X>(const X& a) {
    if constexpr (is_view<X>) {
      views[next_view++] = boxed(a);
    } else {
      attributes[next_attribute++] = boxed(a);
    }
  };
  (add(args), ...);
  const ashlar_plugin_call call{.outputs = Outputs == 0 ? nullptr : views.data(),
                                .inputs = views.data() + Outputs,
                                .attributes = attributes.data(),
                                .output_count = static_cast<std::int32_t>(Outputs),
                                .input_count = static_cast<std::int32_t>(tensors - Outputs),
                                .attribute_count = static_cast<std::int32_t>(next_attribute)};
  return f(&call);
}

/// The plug-in's kernel of an operator whose result has elements of `D`, in the place of one of our
/// own. Its name is looked up once.
template <int Slot, class Op, dtype D>
struct plugged_kernel {
  static const ashlar_plugin_kernel* found() {
    chip::plug_in<Slot>::table();  // before a plug-in is here nothing may be remembered
    static const ashlar_plugin_kernel* const entry = chip::plug_in<Slot>::find(Op::name, D);
    return entry;
  }
  template <class... A>
  static void impl(context<chip::plug_in<Slot>>&, const A&... args) {
    constexpr std::size_t outputs = (0 + ... + std::size_t{is_output<A>});
    if (const std::int32_t code = call_boxed<outputs>(found()->run, args...)) [[unlikely]] {
      throw chip::plugin_error(chip::plug_in<Slot>::table().name, std::string(Op::name) + ".run",
                               "returned the error " + std::to_string(code));
    }
  }
};

}  // namespace detail

/// What the plug-in has a kernel for that takes the call happens there, the rest on the host.
///
/// Throws: `chip::plugin_error` where there is no plug-in, or its kernel returns an error.
/// Cost: a kernel is one call through a pointer; what falls back, two copies per tensor.
template <int Slot>
struct fallback<keys::backend<chip::plug_in<Slot>>> {
  template <class Step, class... A>
  static auto impl(Step next, A&... args) -> typename Step::template result<A...> {
    using op = typename Step::op;
    if constexpr (Structured<op>) {
      if constexpr ((detail::BoxableArgument<A> && ...)) {
        using first = std::remove_reference_t<typename Step::template result<A...>>;
        using kernel = detail::plugged_kernel<Slot, op, type_of<first>()>;
        if (const ashlar_plugin_kernel* entry = kernel::found()) {
          if (takes<Step::kind>(*entry, args...)) {
            return detail::level<op, Step::kind, typename Step::keys,
                                 key_set<>>::template run<kernel, chip::plug_in<Slot>>(args...);
          }
        }
      }
    }
    return detail::on_other_chip<chip::plug_in<Slot>>::impl(next, args...);
  }

 private:
  template <class R>
  static constexpr dtype type_of() {
    if constexpr (Tensor<R>) {
      return dtype_of<typename R::value_type>;
    } else {
      return dtype_of<typename std::tuple_element_t<0, R>::value_type>;
    }
  }
  template <form F, class First, class... A>
  static bool takes(const ashlar_plugin_kernel& entry, const First& first, const A&... rest) {
    if (entry.takes == nullptr) {
      return true;
    }
    if constexpr (F == form::out) {
      return detail::call_boxed<0>(entry.takes, detail::view_of(rest)...) != 0;
    } else {
      return detail::call_boxed<0>(entry.takes, detail::view_of(first), detail::view_of(rest)...) !=
             0;
    }
  }
};

}  // namespace ashlar
