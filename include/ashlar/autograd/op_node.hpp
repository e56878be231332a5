// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/engine.hpp"
#include "ashlar/dispatch/derivative.hpp"

namespace ashlar::autograd {

namespace detail {

/// Numbers nodes so that each comes after those that it leads to, also across threads.
inline std::uint64_t next_sequence(std::uint64_t after) {
  static constinit thread_local std::uint64_t clock = 0;
  return clock = std::max(clock, after) + 1;
}

struct unsaved {};
template <class Tensor>
struct saved_tensor {
  Tensor value;
  std::uint32_t version = 0;
};

template <class Op>
inline constexpr unsigned all_needs = [] {
  unsigned all = 0;
  for (const unsigned n : Op::derivative::needs) {
    all |= n;
  }
  return all;
}();
template <class Op, unsigned Bit>
inline constexpr bool ever_needed = (all_needs<Op> & Bit) != 0;

/// Another body over the same elements.
template <class T, class K>
[[nodiscard]] tensor<T, K> alias_of(const tensor<T, K>& x) {
  return tensor<T, K>(body_of<K>::alias(x.spec(), *x.body(), sizeof(T)));
}

/// What a node keeps of an argument: a tensor if some gradient needs it, an attribute as it is.
template <class Op, class A, unsigned Bit>
struct slot {
  using type = A;
};
template <class Op, Tensor A, unsigned Bit>
struct slot<Op, A, Bit> {
  using type = std::conditional_t<ever_needed<Op, Bit>, saved_tensor<A>, unsaved>;
};

/// Tensor arguments are kept with the call's full key set, so that one node type serves all
/// mixtures.
template <class A, class Full>
struct recorded {
  using type = std::remove_cv_t<A>;
};
template <Tensor A, class Full>
struct recorded<A, Full> {
  using type = tensor<typename A::value_type, Full>;
};

/// Whether a gradient of `x` is wanted. Other looks at a base that was written in place look again.
template <class A>
[[nodiscard]] bool wants_gradient(const A& x) {
  if constexpr (FloatingTensor<A> && requires { x.template state<keys::autograd>(); }) {
    if (!x) {
      return false;  // an output that is still to be made
    }
    auto& s = x.template state<keys::autograd>();
    tensor_body& root = x.body()->root();
    if (root.epoch != s.epoch) [[unlikely]] {
      if (x.body() != &root) {
        throw not_recordable("view",
                             "the base of this view was changed in place by a recorded call; take "
                             "the view again");
      }
      s.gradient = ref<node>::share(static_cast<node*>(root.history.get()));
      s.epoch = root.epoch;
    }
    return static_cast<bool>(s.gradient);
  } else {
    return false;
  }
}
/// Of several outputs: whether one of them does.
template <class... X>
[[nodiscard]] bool wants_gradient(const std::tuple<X...>& outs) {
  return std::apply([](const auto&... x) { return (wants_gradient(x) || ...); }, outs);
}

}  // namespace detail

/// The record of one call: edges to where its arguments came from, and what their gradients need.
template <class Op, class Result, class Indices, class... A>
class op_node;
template <class Op, class Result, std::size_t... I, class... A>
class op_node<Op, Result, std::index_sequence<I...>, A...> final : public typed_node<Result> {
  static constexpr std::size_t tensors = (0 + ... + std::size_t{Tensor<A>});
  static constexpr auto needs = [] {
    // Variadic operators say once what each of their tensors needs.
    std::array<unsigned, tensors> each{};
    for (std::size_t i = 0; i < tensors; ++i) {
      each[i] = Op::derivative::needs[std::min(i, Op::derivative::needs.size() - 1)];
    }
    return each;
  }();

 public:
  template <std::size_t J>
  using argument = std::tuple_element_t<J, std::tuple<A...>>;
  static constexpr std::size_t tensor_count = tensors;

  template <class... Args>
  explicit op_node(const tensor_spec& output, const Args&... args)
      : typed_node<Result>(Op::name, output), edges_{edge_of(args)...} {
    std::uint64_t after = 0;
    for (std::size_t i = 0; i < tensors; ++i) {
      if (const node* n = edges_[i].get()) {
        needs_ |= needs[i];
        after = std::max(after, n->is_leaf() ? 0 : n->sequence);
      }
    }
    this->sequence = detail::next_sequence(after);
    this->next = std::span(edges_).template first<tensors>();
    (keep<I>(args), ...);
  }

  [[nodiscard]] bool needs_result() const { return (needs_ & result_tag::bit) != 0; }
  /// Requires: `x` wants no gradient, else the node would own itself.
  void keep_result(const Result& x) {
    if constexpr (detail::ever_needed<Op, result_tag::bit>) {
      result_ = {x, x.body()->root().version};
    }
  }

  void apply(backward_pass& pass, tensor_handle& cotangent) override {
    if (released_) {
      throw not_recordable(Op::name,
                           "a backward pass released what this node saved; pass retain_graph");
    }
    const Result g(std::move(cotangent));
    if constexpr (requires(const op_node& saved, const std::array<bool, tensors>& wanted) {
                    Op::derivative::vjp_all(g, saved, wanted);
                  }) {
      send_all(pass, g);
    } else {
      (send<I>(pass, g), ...);
    }
  }
  void release() noexcept override {
    saved_ = {};
    result_ = {};
    released_ = true;
  }
  void destroy() noexcept override { this->destroy_as(this); }

  // ---- what a derivative sees ----

  template <int J>
  [[nodiscard]] const auto& operator()(argument_tag<J>) const {
    constexpr auto at = static_cast<std::size_t>(J);
    if constexpr (Tensor<argument<at>>) {
      return checked(std::get<at>(saved_), name_of_argument(at));
    } else {
      return std::get<at>(saved_);
    }
  }
  [[nodiscard]] Result operator()(result_tag) const {
    const Result& x = checked(result_, "result");
    if (!grad_enabled()) {
      return x;
    }
    const Result y = detail::alias_of(x);
    y.template state<keys::autograd>().gradient = ref<node>::share(const_cast<op_node*>(this));
    return y;
  }
  template <int J>
  [[nodiscard]] ashlar::shape shape(argument_tag<J>) const {
    constexpr auto at = static_cast<std::size_t>(J);
    if constexpr (detail::ever_needed<Op, argument_tag<J>::bit>) {
      if (std::get<at>(saved_).value) {
        return ashlar::shape(std::get<at>(saved_).value.shape());
      }
    }
    return ashlar::shape(edges_[at]->shape());
  }

 private:
  static constexpr std::string_view name_of_argument(std::size_t at) {
    return Op::arguments[std::min(at, Op::arguments.size() - 1)].name;
  }
  static ref<node> edge_of(const auto& x) {
    if constexpr (FloatingTensor<std::remove_cvref_t<decltype(x)>> &&
                  requires { x.template state<keys::autograd>(); }) {
      return x.template state<keys::autograd>().gradient;
    } else {
      return {};
    }
  }
  template <std::size_t J>
  void keep(const auto& x) {
    if constexpr (J >= tensors) {
      std::get<J>(saved_) = x;
    } else if constexpr (detail::ever_needed<Op, 1u << J>) {
      if ((needs_ & (1u << J)) != 0) {
        std::get<J>(saved_) = {argument<J>(x), x.body()->root().version};
      }
    }
  }
  template <class T>
  const T& checked(const detail::saved_tensor<T>& s, std::string_view which) const {
    const std::uint32_t now = s.value.body()->root().version;
    if (s.version != now) {
      throw modified_in_place(Op::name, which, s.version, now);
    }
    return s.value;
  }
  template <std::size_t J>
  void send(backward_pass& pass, const Result& g) {
    if constexpr (J < tensors && FloatingTensor<argument<J>>) {
      if (backward_pass::wanted(edges_[J])) {
        pass.deliver(*edges_[J], Op::derivative::template vjp<static_cast<int>(J)>(g, *this));
      }
    }
  }
  void send_all(backward_pass& pass, const Result& g) {
    std::array<bool, tensors> wanted{};
    for (std::size_t i = 0; i < tensors; ++i) {
      wanted[i] = backward_pass::wanted(edges_[i]);
    }
    auto all = Op::derivative::vjp_all(g, std::as_const(*this), wanted);
    [&]<std::size_t... J>(std::index_sequence<J...>) {
      ((J < tensors && wanted[J] ? pass.deliver(*edges_[J], std::get<J>(std::move(all))) : void()),
       ...);
    }(std::make_index_sequence<std::tuple_size_v<decltype(all)>>{});
  }

  std::array<ref<node>, sizeof...(A)> edges_;
  std::tuple<typename detail::slot<Op, A, 1u << I>::type...> saved_;
  typename detail::slot<Op, Result, result_tag::bit>::type result_;
  unsigned needs_ = 0;
  bool released_ = false;
};

/// The end of a path through an operator that has no derivative: fine, until a gradient comes by.
template <class Op, class Result>
class blocked_node final : public typed_node<Result> {
 public:
  explicit blocked_node(const tensor_spec& output) : typed_node<Result>(Op::name, output) {
    this->sequence = detail::next_sequence(0);
  }
  void apply(backward_pass&, tensor_handle&) override {
    throw not_recordable(Op::name, "has no derivative; leave it out of the loss or use no_grad");
  }
  void destroy() noexcept override { this->destroy_as(this); }
};

}  // namespace ashlar::autograd
