// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/backward.hpp"

namespace ashlar {

/// Takes its hook away when told to; dropping it leaves the hook in place.
class hook_handle {
 public:
  hook_handle() = default;
  hook_handle(ref<autograd::node> at, autograd::node::hook_id id) : at_(std::move(at)), id_(id) {}

  void remove() {
    if (at_ && at_->hooked) {
      const auto mine = [this](const auto& h) { return h.first == id_; };
      std::erase_if(at_->hooked->tensor, mine);
      std::erase_if(at_->hooked->post, mine);
    }
    at_ = {};
  }

 private:
  ref<autograd::node> at_;
  autograd::node::hook_id id_ = 0;
};

namespace autograd::detail {
template <class X>
hook_handle add_hook(const X& x,
                     std::vector<std::pair<node::hook_id, node::hook>> node::hooks::*list,
                     node::hook f) {
  node& n = node_of(x, "hook");
  if (!n.hooked) {
    n.hooked = std::make_unique<node::hooks>();
  }
  const node::hook_id id = ++n.hooked->last;
  ((*n.hooked).*list).emplace_back(id, std::move(f));
  return {ref<node>::share(&n), id};
}
}  // namespace autograd::detail

/// Calls `f` with the gradient of `x` when a backward pass has all of it, before it goes on.
///
/// `f(const X&)` looks; `X f(const X&)` replaces it, or leaves it by returning an empty handle.
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
