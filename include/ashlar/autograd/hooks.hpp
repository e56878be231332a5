// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/leaf.hpp"

/// Functions that a backward pass calls. Of one node, in this order: tensor hooks in the order of
/// registration, what `retain_grad` keeps, node pre-hooks, the node itself, post-accumulate hooks,
/// node post-hooks. After the last node: what `queue_callback` was given.
namespace ashlar {

/// Takes its hook away when told to; dropping it leaves the hook in place.
class hook_handle {
 public:
  hook_handle() = default;
  explicit hook_handle(std::function<void()> remove) : remove_(std::move(remove)) {}

  void remove() {
    if (remove_) {
      std::exchange(remove_, nullptr)();
    }
  }

 private:
  std::function<void()> remove_;
};

namespace autograd::detail {
template <class F>
hook_handle add_hook(node& n, hook_list<F> node::hooks::*list, F f) {
  const std::uint64_t id = (n.make_hooks().*list).add(std::move(f));
  return hook_handle([at = ref<node>::share(&n), list, id] { ((*at->hooked).*list).remove(id); });
}
}  // namespace autograd::detail

/// Calls `f` with the gradient of `x` when a backward pass has all of it, before it goes on.
///
/// `f(const X&)` looks; `X f(const X&)` replaces it by one of the same shape, or leaves it by
/// returning an empty handle. With another shape the pass throws `shape_error`.
/// Hooks run in the order of registration, and stay with the value that `x` has now: a later
/// in-place call makes another one.
template <Recorded X, class F>
hook_handle register_hook(const X& x, F f) {
  return autograd::detail::add_hook<autograd::node::hook>(
      autograd::node_of(x, "register_hook"), &autograd::node::hooks::tensor,
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
  autograd::node& n = autograd::node_of(leaf, "register_post_accumulate_grad_hook");
  if (!n.is_leaf()) {
    throw not_recordable("register_post_accumulate_grad_hook",
                         "only leaves accumulate; use register_hook");
  }
  return autograd::detail::add_hook<autograd::node::hook>(
      n, &autograd::node::hooks::accumulated,
      [f = std::move(f)](tensor_handle& g) mutable { f(Leaf(g)); });
}

/// Calls `f(cotangents)` before the operation that made `x` is undone; it may replace them, by
/// others of the same shape and element type. One handle, or one per result of the operation, empty
/// where no gradient came.
template <Recorded X>
hook_handle register_node_pre_hook(const X& x, autograd::node::pre_hook f) {
  return autograd::detail::add_hook(autograd::node_of(x, "register_node_pre_hook").function(),
                                    &autograd::node::hooks::pre, std::move(f));
}
/// Calls `f(gradients, cotangents)` after the operation that made `x` has been undone; it may
/// replace the gradients of the arguments, which are empty where none is wanted.
template <Recorded X>
hook_handle register_node_post_hook(const X& x, autograd::node::post_hook f) {
  return autograd::detail::add_hook(autograd::node_of(x, "register_node_post_hook").function(),
                                    &autograd::node::hooks::post, std::move(f));
}

/// When a multi-gradient hook is called.
enum class when { all, any };

namespace autograd::detail {

/// What the hooks of one multi-gradient hook share. Nodes own their hooks and those own this, so
/// it does not own nodes: a hook that dies with its node takes the node off the list.
template <class... X>
struct multi_grad {
  struct entry {
    std::size_t expected = 0, come = 0;
    std::tuple<X...> gradients;
  };
  struct watched {
    std::shared_ptr<multi_grad> all;
    std::size_t place;
    watched(std::shared_ptr<multi_grad> a, std::size_t i) : all(std::move(a)), place(i) {}
    watched(const watched&) = delete;
    watched& operator=(const watched&) = delete;
    ~watched() {
      const std::scoped_lock guard(all->lock);
      all->nodes[place] = nullptr;
    }
  };
  std::mutex lock;
  std::array<node*, sizeof...(X)> nodes{};
  std::map<std::uint64_t, entry> passes;
  std::uint64_t last = 0;  ///< pass that called a `when::any` hook

  /// The gradients of the pass under way, once the last of them has come.
  template <std::size_t I>
  std::optional<std::tuple<X...>> arrived(const tensor_handle& g) {
    const std::scoped_lock guard(lock);
    const auto [at, first] = passes.try_emplace(here.pass->serial());
    entry& e = at->second;
    for (std::size_t i = 0; first && i < nodes.size(); ++i) {
      e.expected += std::size_t{nodes[i] != nullptr && here.pass->reaches(*nodes[i])};
    }
    std::get<I>(e.gradients) = std::tuple_element_t<I, std::tuple<X...>>(g);
    std::optional<std::tuple<X...>> all;
    if (++e.come == e.expected) {
      all = std::move(e.gradients);
      passes.erase(at);
    }
    return all;
  }
  [[nodiscard]] bool first() {
    const std::scoped_lock guard(lock);
    return std::exchange(last, here.pass->serial()) != here.pass->serial();
  }
};

}  // namespace autograd::detail

/// Calls `f` once per backward pass that reaches one of `x...`.
///
/// `when::all`: `f(const std::tuple<X...>&)` when all of their gradients that the pass computes are
/// there; those that it does not reach are empty handles. `when::any`: `f(const tensor_handle&)`
/// with the first.
template <when W = when::all, class F, Recorded... X>
hook_handle register_multi_grad_hook(F f, const X&... x) {
  using state = autograd::detail::multi_grad<X...>;
  const auto shared = std::make_shared<state>();
  const auto call = std::make_shared<F>(std::move(f));
  shared->nodes = {&autograd::node_of(x, "register_multi_grad_hook")...};
  std::vector<hook_handle> handles;
  const auto watch = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
    const auto mine = std::make_shared<typename state::watched>(shared, I);
    handles.push_back(autograd::detail::add_hook<autograd::node::hook>(
        *shared->nodes[I], &autograd::node::hooks::tensor, [mine, call](tensor_handle& g) {
          if constexpr (W == when::all) {
            if (const auto full = mine->all->template arrived<I>(g)) {
              (*call)(*full);
            }
          } else if (mine->all->first()) {
            (*call)(std::as_const(g));
          }
        }));
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (watch(std::integral_constant<std::size_t, I>{}), ...);
  }(std::index_sequence_for<X...>{});
  return hook_handle([handles = std::move(handles)]() mutable {
    for (hook_handle& h : handles) {
      h.remove();
    }
  });
}

/// Calls `f()` when the backward pass that runs on this thread has run its last node; it may queue
/// more.
/// Throws: `not_recordable` where none runs.
inline void queue_callback(std::function<void()> f) {
  if (autograd::detail::here.pass == nullptr) {
    throw not_recordable("queue_callback", "no backward pass runs on this thread");
  }
  autograd::detail::here.pass->call_at_end(std::move(f));
}

}  // namespace ashlar
