// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/backward.hpp"

namespace ashlar {

/// Takes its hook away when told to; dropping it leaves the hook in place.
class hook_handle {
 public:
  hook_handle() = default;
  using list = autograd::hook_list<autograd::node::hook> autograd::node::hooks::*;
  hook_handle(ref<autograd::node> at, list of, std::uint64_t id)
      : at_(std::move(at)), list_(of), id_(id) {}

  void remove() {
    if (at_ && at_->hooked) {
      ((*at_->hooked).*list_).remove(id_);
    }
    at_ = {};
  }

 private:
  ref<autograd::node> at_;
  list list_ = nullptr;
  std::uint64_t id_ = 0;
};

namespace autograd::detail {
template <class X>
hook_handle add_hook(const X& x, hook_handle::list list, node::hook f) {
  node& n = node_of(x, "hook");
  if (!n.hooked) {
    n.hooked = std::make_unique<node::hooks>();
  }
  const std::uint64_t id = ((*n.hooked).*list).add(std::move(f));
  return {ref<node>::share(&n), list, id};
}
}  // namespace autograd::detail

/// Calls `f` with the gradient of `x` when a backward pass has all of it, before it goes on.
///
/// `f(const X&)` looks; `X f(const X&)` replaces it by one of the same shape, or leaves it by
/// returning an empty handle. With another shape the pass throws `shape_error`.
/// Hooks run in the order of registration.
template <Recorded X, class F>
hook_handle register_hook(const X& x, F f) {
  return autograd::detail::add_hook(x, &autograd::node::hooks::tensor,
                                    [f = std::move(f)](tensor_handle& g) mutable {
                                      if constexpr (std::is_void_v<decltype(f(X(g)))>) {
                                        f(X(g));
                                      } else if (X replaced = f(X(g)); replaced) {
                                        g = std::move(replaced);
                                      }
                                    });
}

/// Calls `f(gradient)` each time a backward pass has added to the gradient of `leaf`.
///
/// Throws: `not_recordable` where `leaf` is none.
template <Recorded Leaf, class F>
hook_handle register_post_accumulate_grad_hook(const Leaf& leaf, F f) {
  if (!autograd::node_of(leaf, "hook").is_leaf()) {
    throw not_recordable("hook", "only leaves accumulate; use register_hook");
  }
  return autograd::detail::add_hook(leaf, &autograd::node::hooks::post,
                                    [f = std::move(f)](tensor_handle& g) mutable { f(Leaf(g)); });
}

}  // namespace ashlar
