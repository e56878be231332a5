// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/leaf.hpp"

/// Functions with a gradient of their own, written by the user.
namespace ashlar {

/// What a user's function keeps between its forward and its backward.
class function_context {
 public:
  /// Keeps a tensor, an argument, a result or another one, until the gradient has been computed.
  template <Tensor X>
  void save(const X& x) {
    saved_.emplace_back(x);
  }
  /// The tensor of the `i`-th call of `save`, counted from 0.
  /// Throws: `modified_in_place` where it has been changed since; `not_recordable` where a backward
  /// pass has released it; `argument_error` where there is none.
  template <Tensor X>
  [[nodiscard]] X saved(std::size_t i) const;
  /// Whether a gradient of the `i`-th argument that is `Recorded` is wanted: others may be left
  /// empty.
  [[nodiscard]] bool needs_gradient(std::size_t i) const {
    return i < wanted_.size() && wanted_[i];
  }
  /// Result `k`, counted from 0, wants no gradient, whatever the arguments.
  void mark_non_differentiable(std::size_t k = 0) { fixed_ |= 1u << k; }

 private:
  template <class F, class Result, class Wanting>
  friend class autograd_function_node;
  template <class F, class... A>
  friend auto apply_function(F f, const A&... args);

  struct entry : autograd::detail::saved_tensor<tensor_handle> {
    using saved_tensor::saved_tensor;
    bool is_result = false;
    std::size_t result = 0;  ///< which one
  };
  std::string_view name_;
  std::vector<entry> saved_;
  std::vector<bool> wanted_;
  std::size_t outputs_ = 1;
  unsigned fixed_ = 0;
  bool released_ = false;
  autograd::node* node_ = nullptr;
};

namespace autograd::detail {

/// The results of a function as a tuple, also where there is one.
template <class Result>
struct results_of {
  using type = Result;
  static auto& in(Result& r) { return r; }
};
template <Tensor Result>
struct results_of<Result> {
  using type = std::tuple<Result>;
  static auto in(Result& r) { return std::tie(r); }
};

template <class X>
[[nodiscard]] ref<node> output_node(const ref<node>& self, const X& x, std::size_t k,
                                    std::size_t outputs) {
  return outputs == 1 ? self : ref<node>(make_node<port_node<X>>(x.spec(), self, k, outputs));
}

}  // namespace autograd::detail

template <Tensor X>
X function_context::saved(std::size_t i) const {
  if (released_) {
    throw not_recordable(name_, "a backward pass released what this node saved; pass retain_graph");
  }
  if (i >= saved_.size()) {
    throw argument_error("ashlar::function_context",
                         "there is no saved tensor " + std::to_string(i) + " among " +
                             std::to_string(saved_.size()) + "; save it in forward");
  }
  const entry& e = saved_[i];
  const X x(e.checked(name_, "tensor " + std::to_string(i)));
  if (e.is_result && grad_enabled()) {  // it comes from this function
    return autograd::detail::with_gradient(
        x, autograd::detail::output_node(ref<autograd::node>::share(node_), x, e.result, outputs_));
  }
  return x;
}

/// The record of a call of `F`; `Wanting` is the tuple of its arguments that can want a gradient.
template <class F, class Result, class Wanting>
class autograd_function_node final
    : public autograd::typed_node<
          std::tuple_element_t<0, typename autograd::detail::results_of<Result>::type>> {
  using results = typename autograd::detail::results_of<Result>::type;
  static constexpr std::size_t outputs = std::tuple_size_v<results>;
  using first = std::tuple_element_t<0, results>;
  static constexpr std::size_t count = std::tuple_size_v<Wanting>;
  using edges = std::array<ref<autograd::node>, count>;

 public:
  autograd_function_node(const F& f, const function_context& c, const edges& to,
                         const std::array<tensor_spec, outputs>& specs)
      : autograd::typed_node<first>(c.name_, specs[0]),
        function_(f),
        context_(c),
        edges_(to),
        specs_(specs) {
    this->next = std::span(edges_);
    this->sequence = autograd::detail::next_sequence(this->next);
    context_.node_ = this;
  }

  void apply(autograd::sender& to, tensor_handle& cotangent) override {
    for (std::size_t i = 0; i < count; ++i) {
      context_.wanted_[i] = to.wanted(i);
    }
    if constexpr (outputs == 1) {
      hand_on(to, function_.backward(context_, first(std::move(cotangent))));
    } else {
      auto parts = to.take_parts();
      [&]<std::size_t... K>(std::index_sequence<K...>) {
        hand_on(to, function_.backward(context_, whole<K>(parts[K])...));
      }(std::make_index_sequence<outputs>{});
    }
  }
  void release() noexcept override {
    context_.saved_.clear();
    context_.released_ = saves_;
  }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  template <std::size_t I, class Tuple>
  using element = typename std::tuple_element_t<I, Tuple>::value_type;

  template <class G>
  void hand_on(autograd::sender& to, G gradients) {
    using all_types = typename autograd::detail::results_of<G>::type;
    constexpr bool fits = std::tuple_size_v<all_types> == count;
    static_assert(fits,
                  "ashlar::apply_function: `backward` must return one gradient per argument that "
                  "can want one; return an empty handle where there is none");
    if constexpr (fits) {
      auto&& all = autograd::detail::results_of<G>::in(gradients);
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        static_assert((std::is_same_v<element<I, all_types>, element<I, Wanting>> && ...),
                      "ashlar::apply_function: a gradient must have the element type of its "
                      "argument; cast it in `backward`");
        ((to.wanted(I) ? to.send(I, std::move(std::get<I>(all))) : void()), ...);
      }(std::make_index_sequence<count>{});
    }
  }
  template <std::size_t K>
  auto whole(tensor_handle& part) const {
    return autograd::detail::or_zeros<std::tuple_element_t<K, results>>(std::move(part), specs_[K]);
  }

  F function_;
  function_context context_;
  edges edges_;
  std::array<tensor_spec, outputs> specs_;
  bool saves_ = !context_.saved_.empty();
};

/// Calls `f.forward(context, args...)` outside the tape and records it as one operation, whose
/// gradient is what `f.backward(context, gradients...)` says.
///
/// `forward` returns a tensor or a tuple of tensors; it keeps what it needs in the context or in
/// members of `f`, a copy of which lives as long as the graph. `backward` gets one gradient per
/// result, zeros where none came, and returns one per argument that is `Recorded`, as a tuple where
/// there are several; an empty handle stands for zeros. Where `backward` is written in recorded
/// operators, gradients of gradients come by themselves. `F::name` names it in messages.
template <class F, class... A>
auto apply_function(F f, const A&... args) {
  function_context context;
  if constexpr (requires { F::name; }) {
    context.name_ = F::name;
  } else {
    context.name_ = "function";
  }
  auto made = [&] {
    const no_grad off;
    return f.forward(context, args...);
  }();
  using result_type = decltype(made);
  using how = autograd::detail::results_of<result_type>;
  if (!grad_enabled() || !(autograd::detail::wants_gradient(args) || ...)) {
    return made;
  }
  using wanting = decltype(std::tuple_cat(
      std::declval<std::conditional_t<Recorded<A>, std::tuple<A>, std::tuple<>>>()...));
  constexpr std::size_t n = std::tuple_size_v<wanting>;
  std::array<ref<autograd::node>, n> edges;
  std::size_t place = 0;
  const auto add_edge = [&]<class X>(const X& x) {
    if constexpr (Recorded<X>) {
      edges[place++] = autograd::detail::edge_of(x);
    }
  };
  (add_edge(args), ...);
  context.wanted_.assign(n, true);

  auto&& outs = how::in(made);
  std::apply(
      [&](auto&... out) {
        constexpr std::size_t outputs = sizeof...(out);
        context.outputs_ = outputs;
        std::size_t k = 0;
        // A result that is kept, or is an argument as it stands, goes on in a body of its own.
        const auto part = [&]<class X>(X& x) {
          const auto is_x = [&]<class Y>(const Y& y) {
            if constexpr (Tensor<Y>) {
              return y.body() == x.body();
            }
            return false;
          };
          bool shared = (is_x(args) || ...);
          for (auto& e : context.saved_) {
            if (!shared && e.value.body() == x.body()) {
              e.is_result = true;
              e.result = k;
            }
          }
          if constexpr (Recorded<X>) {
            const bool kept =
                std::any_of(context.saved_.begin(), context.saved_.end(),
                            [&](const auto& e) { return e.is_result && e.result == k; });
            if (kept) {
              autograd::detail::give_alias(x);
            } else if (shared) {
              x = autograd::detail::with_gradient(x, {});
            }
          }
          ++k;
        };
        (part(out), ...);
        using node = autograd_function_node<F, result_type, wanting>;
        const ref<autograd::node> whole = autograd::make_node<node>(
            f, context, edges, std::array<tensor_spec, outputs>{out.spec()...});
        autograd::detail::locate(*whole);
        k = 0;
        const auto connect = [&]<class X>(X& x) {
          if constexpr (Recorded<X>) {
            const bool fixed = (context.fixed_ >> k & 1u) != 0;
            autograd::detail::set_gradient(
                x, fixed ? ref<autograd::node>{}
                         : autograd::detail::output_node(whole, x, k, outputs));
          }
          ++k;
        };
        (connect(out), ...);
      },
      outs);
  return made;
}

}  // namespace ashlar
