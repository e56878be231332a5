// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/autograd/function.hpp"
#include "ashlar/autograd/leaf.hpp"
#include "ashlar/autograd/saved.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/dead_code.hpp"
#include "ashlar/graph/passes/functionalise.hpp"
#include "ashlar/graph/passes/split_joint.hpp"
#include "ashlar/ops/creation.hpp"

/// Compiled functions through which gradients flow.
namespace ashlar::graph {

namespace detail {

/// A forward graph, the backward graph of the same capture, and whose gradients that makes.
struct two_graphs {
  using callable = std::function<std::vector<tensor_handle>(std::span<const tensor_handle>)>;

  guards must_hold;
  std::vector<bool> wanted;  ///< which tensor arguments want a gradient
  callable forward{};        ///< the result, then what is kept
  callable backward{};       ///< of what was kept and the result's gradient; null: there is none
  std::vector<tensor_handle> parameters{};  ///< leaves from outside that want gradients
};

/// One call, as the tape has it. The first argument is there so that calls are recorded of which
/// only parameters want gradients.
template <class Y, class... A>
struct compiled_call {
  using gradients = decltype(std::tuple_cat(
      std::declval<std::tuple<Y>>(),
      std::declval<std::conditional_t<Recorded<A>, std::tuple<A>, std::tuple<>>>()...));
  using kept_tensor = autograd::detail::saved_tensor<tensor_handle>;
  static constexpr std::string_view name = "compiled function";

  std::shared_ptr<const two_graphs> graphs;
  std::vector<tensor_handle> arguments;
  std::vector<kept_tensor> kept{}, parameters{};

  Y forward(function_context&, const Y&, const A&...) {
    std::vector<tensor_handle> made = graphs->forward(arguments);
    arguments.clear();
    for (std::size_t i = 1; i < made.size(); ++i) {
      kept.emplace_back(std::move(made[i]));
    }
    for (const tensor_handle& p : graphs->parameters) {
      parameters.emplace_back(p);
    }
    return Y(std::move(made[0]));
  }
  gradients backward(function_context&, const Y& seed) {
    if (grad_enabled()) {
      throw capture_error("differentiable",
                          "the backward pass of a compiled function is not recorded; call the "
                          "function itself where gradients of gradients are wanted");
    }
    for (const kept_tensor& p : parameters) {
      static_cast<void>(p.checked(name, "a parameter"));
    }
    std::vector<tensor_handle> given;
    for (const kept_tensor& x : kept) {
      given.push_back(x.checked(name, "a saved tensor"));
    }
    given.push_back(seed);
    std::vector<tensor_handle> made = graphs->backward(given);
    gradients all;
    std::size_t next = 0;
    std::size_t tensor = 0;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto take = [&]<class X, std::size_t At>(std::type_identity<X>,
                                                     std::integral_constant<std::size_t, At>) {
        if constexpr (Tensor<X>) {
          const bool wants = graphs->wanted[tensor++];
          if constexpr (Recorded<X>) {
            if (wants) {
              std::get<1 + recorded_before<At>()>(all) = X(std::move(made[next++]));
            }
          }
        }
      };
      (take(std::type_identity<A>{}, std::integral_constant<std::size_t, I>{}), ...);
    }(std::index_sequence_for<A...>{});
    for (const tensor_handle& p : graphs->parameters) {
      ashlar::backward(Y(p), Y(std::move(made[next++])));
    }
    return all;
  }

 private:
  template <std::size_t At>
  static constexpr std::size_t recorded_before() {
    constexpr bool recorded[] = {Recorded<A>..., false};
    std::size_t n = 0;
    for (std::size_t i = 0; i < At; ++i) {
      n += recorded[i] ? 1 : 0;
    }
    return n;
  }
};

}  // namespace detail

/// A function of tensors that returns one, captured with its backward pass and compiled as two
/// graphs: the first makes the result and what is kept for the second (`split_joint`). On the tape
/// a call is one operation.
///
/// Gradients flow into arguments, and into leaves that `f` reads from outside, as modules do. A
/// graph is for the types, shapes and strides of `compiled`, and for which arguments want
/// gradients. Requires: a stack with `through<keys::capture>`; parameters of the result's type;
/// what `f` writes
///           to is its own.
/// Throws:   as `capture`; in the backward pass `modified_in_place`, and `capture_error` where that
///           would have to be recorded.
template <class F, class B = eager>
class differentiable {
 public:
  explicit differentiable(F f, B backend = {}, std::size_t entries = 8)
      : f_(std::move(f)), backend_(std::move(backend)), most_(std::max<std::size_t>(entries, 1)) {}

  template <class... A>
  auto operator()(const A&... args) -> std::invoke_result_t<const F&, const A&...> {
    using Y = std::invoke_result_t<const F&, const A&...>;
    static_assert(Recorded<Y> && contains<typename Y::keys, keys::capture>,
                  "ashlar::graph::differentiable: the function returns one tensor of a stack with "
                  "`differentiate` and `through<keys::capture>`");
    detail::call_seen now{
        &detail::signature_id<A...>, detail::switched_off(call_keys<A...>{}), {}, {}};
    std::vector<bool> wanted;
    const auto look = [&]<class X>(const X& x) {
      if constexpr (Tensor<X>) {
        wanted.push_back(grad_enabled() && requires_grad(x));
        now.tensors.push_back(x);
      } else {
        now.others.emplace_back(x);
      }
    };
    (look(args), ...);
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& e) {
      bool good = e->wanted == wanted;
      e->must_hold.check(now, [&](const auto&) {
        good = false;
        return true;
      });
      return good;
    });
    if (found == entries_.end()) {
      ++compiled_;
      entries_.push_front(make<Y>(now, wanted, args...));
      if (entries_.size() > most_) {
        entries_.pop_back();
      }
    } else {
      entries_.splice(entries_.begin(), entries_, found);
    }
    const auto& graphs = entries_.front();
    if (!graphs->backward) {
      return Y(graphs->forward(now.tensors)[0]);
    }
    const Y anchor = zeros<Y>({});
    require_grad(anchor);
    return apply_function(detail::compiled_call<Y, A...>{graphs, now.tensors}, anchor, args...);
  }

  /// How often a graph was captured.
  [[nodiscard]] std::size_t compiled() const { return compiled_; }

 private:
  using entry = std::shared_ptr<const detail::two_graphs>;

  template <class Y, class... A>
  entry make(const detail::call_seen& now, const std::vector<bool>& wanted, const A&... args) {
    auto made = std::make_shared<detail::two_graphs>(detail::guards(now), wanted);
    const graph plain = [&] {
      const no_grad off;
      return capture(f_, args...);
    }();
    std::vector<Y> parameters;
    for (const node& n : plain.nodes) {
      if (grad_enabled() && n.kind == node_kind::parameter &&
          n.data.body()->type == &body_of<typename Y::keys>::runtime_type &&
          n.data.spec().type == element_type<Y>) {
        const Y p(n.data);
        if (requires_grad(p) && is_leaf(p)) {
          parameters.push_back(p);
          made->parameters.push_back(p);
        }
      }
    }
    if (parameters.empty() && std::find(wanted.begin(), wanted.end(), true) == wanted.end()) {
      made->forward = shared(backend_.compile(plain));
      return made;
    }
    const Y seed = empty<Y>(shape(plain.spec(plain.outputs[0]).shape()));
    std::vector<Y> before;
    for (const Y& p : parameters) {
      before.push_back(std::exchange(gradient(p), {}));
    }
    graph joint;
    try {
      joint = capture(
          [&](const auto&... all) { return both_ways<Y>(parameters, wanted, std::tie(all...)); },
          args..., seed);
    } catch (...) {
      restore(parameters, before);
      throw;
    }
    restore(parameters, before);
    const split two = split_joint(dead_code(functionalise(joint)), 1, 1);
    made->forward = shared(backend_.compile(two.forward));
    made->backward = shared(backend_.compile(two.backward));
    return made;
  }
  template <class Y>
  static void restore(const std::vector<Y>& parameters, const std::vector<Y>& before) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      gradient(parameters[i]) = before[i];
    }
  }
  /// The result, then the gradients of arguments and parameters. The last of `all` is the result's.
  template <class Y, class... X>
  std::vector<Y> both_ways(const std::vector<Y>& parameters, const std::vector<bool>& wanted,
                           const std::tuple<X...>& all) const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      std::size_t tensor = 0;
      const auto want = [&](const auto& x) {
        using T = std::remove_cvref_t<decltype(x)>;
        if constexpr (Tensor<T>) {
          if constexpr (Recorded<T>) {
            if (wanted[tensor]) {
              require_grad(x);
            }
          }
          ++tensor;
        }
      };
      (want(std::get<I>(all)), ...);
      const Y y = f_(std::get<I>(all)...);
      backward(y, Y(std::get<sizeof...(I)>(all)));
      std::vector<Y> out{detach(y)};
      tensor = 0;
      const auto take = [&](const auto& x) {
        using T = std::remove_cvref_t<decltype(x)>;
        if constexpr (Tensor<T>) {
          if constexpr (Recorded<T>) {
            if (wanted[tensor]) {
              out.push_back(defined(Y(gradient(x)), x.shape()));
            }
          }
          ++tensor;
        }
      };
      (take(std::get<I>(all)), ...);
      for (const Y& p : parameters) {
        out.push_back(defined(gradient(p), p.shape()));
      }
      return out;
    }(std::make_index_sequence<sizeof...(X) - 1>{});
  }
  /// Zeros where nothing depends on an argument.
  template <class Y>
  static Y defined(const Y& g, std::span<const std::int64_t> extents) {
    return g ? g : zeros<Y>(shape(extents));
  }
  template <class Callable>
  static auto shared(Callable made) {
    return [held = std::make_shared<Callable>(std::move(made))](std::span<const tensor_handle> x) {
      return (*held)(x);
    };
  }

  F f_;
  B backend_;
  std::size_t most_;
  std::size_t compiled_ = 0;
  std::list<entry> entries_;  ///< the latest first
};

}  // namespace ashlar::graph
