// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/dispatch.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/recorder.hpp"
#include "ashlar/graph/typed_operation.hpp"

/// Capture: a function runs once on tensors without elements, and what it calls becomes a graph.
namespace ashlar {

namespace graph {

namespace detail {

/// What a call gives to the recorder: tensors as values, all else as attributes.
struct noted {
  std::vector<value_id> in;
  std::vector<attribute> attributes;

  template <class... A>
  explicit noted(recorder& to, const A&... args) {
    const auto add = [&]<class X>(const X& a) {
      if constexpr (Tensor<X>) {
        in.push_back(to.value_of(a));
      } else {
        attributes.emplace_back(a);
      }
    };
    (add(args), ...);
  }
};

/// Composites that graphs hold as their parts, which passes know.
template <class Op>
concept CapturedInParts = Composite<Op> && requires { Op::captured_in_parts; };

/// A call that a graph can say: the operator has a meta, or only writes to its arguments.
template <class Step, class... A>
auto write_down(recorder& to, A&... args) -> typename Step::template result<A...> {
  using op = typename Step::op;
  noted now(to, args...);
  const std::vector<value_id> made =
      to.record(refer_to(typed_operation<Step, std::remove_const_t<A>...>::instance),
                std::move(now.in), std::move(now.attributes));
  if constexpr (Structured<op> && Step::kind == form::functional) {
    using R = typename Step::template result<A...>;
    if constexpr (View<op>) {
      return [&](const auto& self, const auto&...) {
        R x(body_of<typename R::keys>::alias(to.target().spec(made[0]), *self.body(),
                                             sizeof(typename R::value_type)));
        x.body()->data = nullptr;  // of a parameter, too: what was written down comes first
        to.mark(x, made[0]);
        return x;
      }(args...);
    } else if constexpr (Tensor<R>) {
      return to.template stand_in<R>(made[0]);
    } else {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return R{to.template stand_in<std::tuple_element_t<I, R>>(made[I])...};
      }(std::make_index_sequence<std::tuple_size_v<R>>{});
    }
  } else if constexpr (Structured<op>) {
    return [](auto& self, auto&...) -> auto& {
      ++self.body()->root().version;
      return self;
    }(args...);
  }
}

template <class Step, class... A>
auto record(recorder& to, Step next, A&... args) -> typename Step::template result<A...> {
  using op = typename Step::op;
  if constexpr (CapturedInParts<op> || (Structured<op> && !SaysMeta<op, Step::kind, A...>)) {
    return next.composed(args...);
  } else {
    if constexpr (!Structured<op>) {
      static_assert(std::is_void_v<typename op::result>,
                    "ashlar::graph::capture: an operator without schema that returns something "
                    "cannot be written down; give it a schema and a meta");
    } else if constexpr (Step::kind != form::functional) {
      static_assert((Tensor<std::remove_const_t<std::tuple_element_t<0, std::tuple<A...>>>>),
                    "ashlar::graph::capture: out= of several results cannot be written down; use "
                    "the functional form");
      [](const auto& self, const auto&...) {
        if (!self) {
          throw capture_error(op::name, "out= needs a tensor to write to; use the functional form",
                              ashlar::detail::site.at);
        }
      }(args...);
    }
    return write_down<Step>(to, args...);
  }
}

}  // namespace detail

}  // namespace graph

template <>
struct fallback<keys::capture> {
  template <class Step, class... A>
  static auto impl(Step next, A&... args) -> typename Step::template result<A...> {
    graph::recorder* const to = graph::recorder::current();
    if (to == nullptr) [[likely]] {
      return next(args...);
    }
    return graph::detail::record(*to, next, args...);
  }
};

namespace graph {

namespace detail {

template <class A>
decltype(auto) example(recorder& to, graph& g, const A& a, std::size_t& count) {
  if constexpr (Tensor<A>) {
    tensor_spec s = a.spec();
    s.offset = 0;
    const std::int32_t place = g.add(
        {.kind = node_kind::placeholder, .name = std::string("x").append(std::to_string(count++))},
        std::array{s});
    return to.stand_in<capturable<A>>(g.nodes[static_cast<std::size_t>(place)].out[0]);
  } else {
    return (a);
  }
}

/// The tensors of a result, one after the other: a tensor, a tuple, a range of tensors.
template <class R, class F>
void each_tensor(const R& r, const F& f) {
  if constexpr (Tensor<R>) {
    f(r);
  } else if constexpr (requires { std::tuple_size<R>::value; }) {
    std::apply([&](const auto&... x) { (each_tensor(x, f), ...); }, r);
  } else {
    for (const auto& x : r) {
      each_tensor(x, f);
    }
  }
}

}  // namespace detail

/// Tensors and what to call them in the graph.
using named_tensors = std::vector<std::pair<std::string, tensor_handle>>;

/// Runs `f` once on tensors like `examples` but without elements. Nothing is computed, and nothing
/// is allocated but what stands for values.
///
/// Arguments that are no tensors go in as they are: the graph is specialised on them. Tensors with
/// elements that `f` reads are the graph's parameters, called by `names` or by number.
/// Requires: `f` takes tensors with `keys::capture`, as functions with `auto` parameters do.
/// Returns:  the graph; its outputs are the tensors of `f`'s result in order.
/// Throws:   `capture_error`; what `f` and the operators' `meta` throw.
/// Cost:     about a microsecond per call.
/// Source:   Reed et al., "torch.fx" (2022); here a dispatch key in place of proxies.
template <class F, class... A>
[[nodiscard]] graph capture(const F& f, const named_tensors& names, const A&... examples) {
  graph g;
  recorder to(g);
  for (const auto& [name, x] : names) {
    to.name(name, x);
  }
  std::size_t count = 0;
  // Braces: placeholders in the order of arguments.
  const std::tuple<decltype(detail::example(to, g, examples, count))...> arguments{
      detail::example(to, g, examples, count)...};
  const auto result = std::apply(f, arguments);
  detail::each_tensor(result, [&](const auto& x) { g.outputs.push_back(to.value_of(x)); });
  return g;
}
template <class F, class... A>
  requires(!std::is_same_v<std::remove_cvref_t<A>, named_tensors> && ...)
[[nodiscard]] graph capture(const F& f, const A&... examples) {
  return capture(f, named_tensors{}, examples...);
}

}  // namespace graph

}  // namespace ashlar
