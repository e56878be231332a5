// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/hook_list.hpp"
#include "ashlar/nn/module.hpp"

/// Forward hooks: functions around a module's call, added at run time.
///
/// A module that can have hooks says so in its type: `with_hooks<linear<stack>>`. All others pay
/// nothing. For hooks on the way back, register tensor hooks on the result in a forward hook.
namespace ashlar::nn {

namespace detail {

template <class M>
struct default_signature {
  using tensor = parameter_type_of<M>;
  using type = std::invoke_result_t<const M&, const tensor&>(tensor);
};

}  // namespace detail

template <class M, class Signature = void>
class with_hooks;

/// Takes its hook away when told to; dropping it leaves the hook in place.
class forward_hook_handle {
 public:
  forward_hook_handle() = default;
  explicit forward_hook_handle(std::function<void()> remove) : remove_(std::move(remove)) {}

  void remove() {
    if (remove_) {
      std::exchange(remove_, nullptr)();
    }
  }

 private:
  std::function<void()> remove_;
};

/// A module with hooks before and after its call. Names, state dict and options are those of `M`.
///
/// `Signature` is that of the call: `Result(Argument...)`. Without one it is a tensor of the
/// parameters' type to whatever `M` makes of it. Hooks run in the order of registration and may
/// change what they get: a pre-hook the arguments, a forward hook the result. Copies of a module
/// share its hooks, as they share its tensors.
/// Cost: the call of a module without hooks tests two pointers.
template <class M, class Result, class... A>
class with_hooks<M, Result(A...)> : public M {
 public:
  using wrapped_module = M;
  using pre_hook = std::function<void(const M&, A&...)>;
  using forward_hook = std::function<void(const M&, const A&..., Result&)>;

  with_hooks() : hooks_(std::make_shared<hooks>()) {}
  /// A module as it is; `with_hooks<linear<S>> layer = linear<S>::make(8, 8);`
  with_hooks(M module) : M(std::move(module)), hooks_(std::make_shared<hooks>()) {}

  Result operator()(A... args) const {
    const M& module = *this;
    if (const auto before = hooks_->pre.list) {
      for (const auto& [id, hook] : *before) {
        hook(module, args...);
      }
    }
    Result result = module(args...);
    if (const auto after = hooks_->post.list) {
      for (const auto& [id, hook] : *after) {
        hook(module, std::as_const(args)..., result);
      }
    }
    return result;
  }

  /// Calls `f(module, arguments&...)` before each call of the module.
  forward_hook_handle register_forward_pre_hook(pre_hook f) {
    return added(&hooks::pre, std::move(f));
  }
  /// Calls `f(module, arguments..., result&)` after each call of the module.
  forward_hook_handle register_forward_hook(forward_hook f) {
    return added(&hooks::post, std::move(f));
  }

 private:
  struct hooks {
    autograd::hook_list<pre_hook> pre;
    autograd::hook_list<forward_hook> post;
  };

  template <class F>
  forward_hook_handle added(autograd::hook_list<F> hooks::*list, F f) {
    const std::uint64_t id = ((*hooks_).*list).add(std::move(f));
    return forward_hook_handle([at = std::weak_ptr<hooks>(hooks_), list, id] {
      if (const auto alive = at.lock()) {
        ((*alive).*list).remove(id);
      }
    });
  }

  std::shared_ptr<hooks> hooks_;
};

template <class M>
class with_hooks<M, void> : public with_hooks<M, typename detail::default_signature<M>::type> {
 public:
  using with_hooks<M, typename detail::default_signature<M>::type>::with_hooks;
};

}  // namespace ashlar::nn
