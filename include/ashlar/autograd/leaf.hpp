// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "ashlar/autograd/record.hpp"

/// Leaves: where gradients are added up.
namespace ashlar {

/// A tensor type whose calls the tape can record.
template <class X>
concept Recorded = FloatingTensor<X> && contains<typename X::keys, keys::autograd>;

namespace autograd {

namespace detail {

/// The layout of a leaf's gradient: the leaf's own where each element has one place and there are
/// no gaps, else row-major.
[[nodiscard]] inline tensor_spec gradient_layout(const tensor_spec& leaf) {
  if (leaf.contiguous || leaf.size == 0) {
    return contiguous_spec(leaf.type, leaf.shape());
  }
  tensor_spec own = leaf;
  own.offset = 0;
  std::int64_t step = 1;
  std::uint32_t left = 0;  // axes that no step has met yet
  for (int i = 0; i < leaf.rank; ++i) {
    left |= leaf[i] != 1 ? 1u << i : 0u;
  }
  while (left != 0) {
    int axis = 0;
    while (axis < leaf.rank && ((left >> axis & 1u) == 0 || leaf.stride_of(axis) != step)) {
      ++axis;
    }
    if (axis == leaf.rank) {
      return contiguous_spec(leaf.type, leaf.shape());
    }
    left &= ~(1u << axis);
    step *= leaf[axis];
  }
  return own;
}
[[nodiscard]] inline bool same_layout(const tensor_spec& a, const tensor_spec& b) {
  if (a.contiguous || b.contiguous) {
    return a.contiguous && b.contiguous;
  }
  for (std::size_t i = 0; i < a.rank; ++i) {
    if (a.extent[i] != 1 && a.stride[i] != b.stride[i]) {
      return false;
    }
  }
  return true;
}

/// Short turns: what is guarded is one addition.
class spin_lock {
 public:
  void lock() {
    while (busy_.test_and_set(std::memory_order_acquire)) {
      busy_.wait(true, std::memory_order_relaxed);
    }
  }
  void unlock() {
    busy_.clear(std::memory_order_release);
    busy_.notify_one();
  }

 private:
  std::atomic_flag busy_;
};

}  // namespace detail

/// The end of the tape: a leaf's gradient.
///
/// The first gradient is taken over if nobody else holds it and it has the layout of the leaf, else
/// copied into that layout. Later ones are added in place, so that reducers may hold on to the
/// elements; into a new tensor where the pass itself is recorded.
template <class Leaf>
class accumulate_grad final : public typed_node<Leaf> {
 public:
  Leaf gradient;

  explicit accumulate_grad(const Leaf& leaf)
      : typed_node<Leaf>("accumulate_grad", leaf.spec()),
        layout_(detail::gradient_layout(leaf.spec())) {
    this->sequence = ~std::uint64_t{0};
  }
  void apply(sender&, tensor_handle& cotangent) override {
    Leaf g(std::move(cotangent));
    busy_.lock();
    try {
      add(std::move(g));
    } catch (...) {
      busy_.unlock();
      throw;
    }
    cotangent = gradient;
    busy_.unlock();
  }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  void add(Leaf g) {
    if (gradient && grad_enabled()) {
      gradient = call<ops::add>(gradient, g);
    } else if (gradient) {
      detail::overwrite<ops::add>(gradient, g);
    } else if (grad_enabled()) {
      gradient = call<ops::cast<typename Leaf::value_type>>(g);
    } else if (detail::sole_owner(g) && detail::same_layout(g.spec(), layout_)) {
      g.template state<keys::autograd>().gradient = {};
      gradient = std::move(g);
    } else {
      gradient = detail::laid_out(g, layout_);
    }
  }

  tensor_spec layout_;
  detail::spin_lock busy_;
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

/// Whether calls on `x` are recorded.
template <class X>
[[nodiscard]] bool requires_grad(const X& x) {
  return autograd::detail::wants_gradient(x);
}

/// Whether `x` comes from no recorded call.
template <class X>
[[nodiscard]] bool is_leaf(const X& x) {
  if constexpr (Recorded<X>) {
    return !requires_grad(x) || autograd::node_of(x, "is_leaf").is_leaf();
  }
  return true;
}

/// Makes `leaf` a parameter: calls on it are recorded from now on; or, with `false`, no more.
///
/// Throws: `not_recordable` where `x` comes from a recorded call and is to want none.
template <Recorded Leaf>
const Leaf& require_grad(const Leaf& leaf, bool wanted = true) {
  if (!leaf) {
    throw undefined_tensor("require_grad");
  }
  if (wanted && !requires_grad(leaf)) {
    autograd::detail::set_gradient(leaf,
                                   autograd::make_node<autograd::accumulate_grad<Leaf>>(leaf));
  } else if (!wanted && requires_grad(leaf)) {
    if (!is_leaf(leaf)) {
      throw not_recordable("require_grad", "only leaves can do without; use detach");
    }
    autograd::detail::set_gradient(leaf, {});
  }
  return leaf;
}

/// The same elements outside the tape: a tensor of the same type that wants no gradient.
template <Recorded X>
[[nodiscard]] X detach(const X& x) {
  return X(without<keys::autograd>(x));
}

/// Keeps the gradient of a tensor that is no leaf: `gradient(x)` is that of the last pass.
///
/// It sees what hooks leave, and follows `x` through recorded in-place calls.
template <Recorded X>
void retain_grad(const X& x) {
  autograd::node& n = autograd::node_of(x, "retain_grad");
  if (n.is_leaf() || (n.hooked && n.hooked->retain)) {
    return;
  }
  auto kept = std::make_shared<X>();
  n.make_hooks().retained = kept;
  n.hooked->retain = [at = kept.get()](tensor_handle& g) { *at = X(g); };
}

/// The accumulated gradient of a leaf, or that of a tensor under `retain_grad`; an empty handle
/// before the first backward pass.
/// Throws: `not_recordable` where `x` is neither.
template <Recorded X>
[[nodiscard]] X& gradient(const X& x) {
  autograd::node& n = autograd::node_of(x, "gradient");
  if (n.is_leaf()) {
    return static_cast<autograd::accumulate_grad<X>&>(n).gradient;
  }
  if (!n.hooked || !n.hooked->retained) {
    throw not_recordable("gradient",
                         "only leaves keep their gradient; use grad(root, x) or retain_grad(x)");
  }
  return *static_cast<X*>(n.hooked->retained.get());
}

}  // namespace ashlar
