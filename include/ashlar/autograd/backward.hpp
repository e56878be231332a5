// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/record.hpp"

namespace ashlar {

/// A tensor type whose calls the tape can record.
template <class X>
concept Recorded = FloatingTensor<X> && contains<typename X::keys, keys::autograd>;

namespace autograd {

/// The end of the tape: a leaf's gradient.
///
/// The first gradient is taken over if nobody else holds it, else copied; later ones are added in
/// place, so that reducers may hold on to the elements.
template <class Leaf>
class accumulate_grad final : public typed_node<Leaf> {
 public:
  Leaf gradient;

  explicit accumulate_grad(const Leaf& leaf) : typed_node<Leaf>("accumulate_grad", leaf.spec()) {
    this->sequence = ~std::uint64_t{0};
  }
  void apply(backward_pass&, tensor_handle& cotangent) override {
    const bool ours =
        cotangent.body()->references == 1 && !cotangent.body()->base && cotangent.contiguous();
    const Leaf g(std::move(cotangent));
    if (!gradient) {
      gradient = ours ? g : call<ops::cast<typename Leaf::value_type>>(g);
    } else if (grad_enabled()) {
      gradient = call<ops::add>(gradient, g);
    } else {
      op_function<ops::add>{}.in_place(gradient, g);
    }
    cotangent = gradient;
  }
  void destroy() noexcept override { this->destroy_as(this); }
};

template <Recorded X>
[[nodiscard]] node& node_of(const X& x, std::string_view who) {
  if (!x) {
    throw undefined_tensor(who);
  }
  if (!detail::wants_gradient(x)) {
    throw not_recordable(who,
                         "no gradient of this tensor is wanted; call require_grad on what it "
                         "is computed from");
  }
  return *x.template state<keys::autograd>().gradient;
}

}  // namespace autograd

/// Makes `leaf` a parameter: calls on it are recorded from now on.
template <Recorded Leaf>
const Leaf& require_grad(const Leaf& leaf) {
  if (!leaf) {
    throw undefined_tensor("require_grad");
  }
  auto& s = leaf.template state<keys::autograd>();
  if (!autograd::detail::wants_gradient(leaf)) {
    s.gradient = autograd::make_node<autograd::accumulate_grad<Leaf>>(leaf);
    s.epoch = leaf.body()->root().epoch;
  }
  return leaf;
}

/// Whether calls on `x` are recorded.
template <class X>
[[nodiscard]] bool requires_grad(const X& x) {
  return autograd::detail::wants_gradient(x);
}

/// The accumulated gradient of a leaf; an empty handle before the first backward pass.
/// Throws: `not_recordable` where `leaf` is none.
template <Recorded Leaf>
[[nodiscard]] Leaf& gradient(const Leaf& leaf) {
  autograd::node& n = autograd::node_of(leaf, "gradient");
  if (!n.is_leaf()) {
    throw not_recordable("gradient", "only leaves keep their gradient; use grad(root, x)");
  }
  return static_cast<autograd::accumulate_grad<Leaf>&>(n).gradient;
}

/// The same elements outside the tape: a tensor of the same type that wants no gradient.
template <Recorded X>
[[nodiscard]] X detach(const X& x) {
  return X(without<keys::autograd>(x));
}

struct backward_options {
  bool retain_graph = false;
  bool create_graph = false;  ///< record the pass itself: gradients of gradients
};

/// Accumulates the gradients of everything that `root` was computed from into its leaves.
///
/// Shapes:   `seed`, the gradient of `root`, has `root`'s shape.
/// Effects:  drops what the graph saved, unless `retain_graph` or `create_graph`.
/// Throws:   `shape_error`, `not_recordable`, `modified_in_place`.
template <Recorded Root>
void backward(const Root& root, const Root& seed, backward_options options = {}) {
  const ref<autograd::node> start =
      ref<autograd::node>::share(&autograd::node_of(root, "backward"));
  if (!same_shape(root.spec(), seed.spec())) {
    throw shape_error("backward", root.shape(), seed.shape(),
                      "the seed must have the root's shape");
  }
  const grad_mode mode(options.create_graph);
  autograd::backward_pass{}.run(*start, seed, options.retain_graph || options.create_graph, {});
}

namespace autograd::detail {
template <class Root>
[[nodiscard]] Root unit_seed(const Root& root) {
  if (root.size() != 1) {
    throw shape_error("backward", root.shape(), ashlar::shape{}.span(),
                      "without a seed the root must have one element");
  }
  [[maybe_unused]] const auto there = beside(root);
  Root seed = empty<Root>(ashlar::shape(root.shape()));
  const no_grad off;
  op_function<ops::fill>{}.in_place(seed, 1.0);
  return seed;
}
}  // namespace autograd::detail

/// From a root with one element, whose own gradient is 1.
template <Recorded Root>
void backward(const Root& root, backward_options options = {}) {
  static_cast<void>(autograd::node_of(root, "backward"));
  backward(root, autograd::detail::unit_seed(root), options);
}

/// The gradients of `root` with respect to `inputs`, leaves or not; no leaf accumulates.
///
/// Returns: a tuple; an empty handle for an input that `root` does not depend on.
/// Throws: as `backward`.
template <Recorded Root, Recorded... In>
[[nodiscard]] std::tuple<In...> grad(const Root& root, const Root& seed, backward_options options,
                                     const In&... inputs) {
  const ref<autograd::node> start = ref<autograd::node>::share(&autograd::node_of(root, "grad"));
  if (!same_shape(root.spec(), seed.spec())) {
    throw shape_error("grad", root.shape(), seed.shape(), "the seed must have the root's shape");
  }
  std::array<tensor_handle, sizeof...(In)> found;
  std::array<autograd::capture, sizeof...(In)> captures;
  std::size_t place = 0;
  ((captures[place] = {&autograd::node_of(inputs, "grad"), &found[place]}, ++place), ...);
  const grad_mode mode(options.create_graph);
  autograd::backward_pass{}.run(*start, seed, options.retain_graph || options.create_graph,
                                captures);
  for (std::size_t i = 0; i < captures.size(); ++i) {  // one tensor may be asked for twice
    for (std::size_t j = i + 1; j < captures.size() && !found[i]; ++j) {
      found[i] = captures[j].at == captures[i].at ? found[j] : tensor_handle{};
    }
  }
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple<In...>{In(std::move(found[I]))...};
  }(std::index_sequence_for<In...>{});
}
template <Recorded Root, Recorded... In>
[[nodiscard]] std::tuple<In...> grad(const Root& root, const In&... inputs) {
  return grad(root, autograd::detail::unit_seed(root), backward_options{}, inputs...);
}

}  // namespace ashlar
