// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/op_node.hpp"

/// One kernel template records every operator that has a derivative, on every chip.
namespace ashlar {

namespace autograd::detail {

template <class Op, class Result, class... A>
using node_for = op_node<Op, Result, std::index_sequence_for<A...>,
                         typename recorded<A, typename Result::keys>::type...>;

template <class Out>
void set_gradient(const Out& out, ref<node> n) {
  auto& s = out.template state<keys::autograd>();
  s.gradient = std::move(n);
  s.epoch = out.body()->root().epoch;
}

template <class Op, class Out, class... A>
[[gnu::noinline]] void attach(Out& out, const A&... args) {
  auto n = make_node<node_for<Op, Out, A...>>(out.spec(), args...);
  if constexpr (ever_needed<Op, result_tag::bit>) {
    if (n->needs_result()) {
      // The node keeps the body, the caller gets another one over the same elements: a body that
      // leads to the node must not be what the node keeps.
      n->keep_result(out);
      out = alias_of(out);
    }
  }
  set_gradient(out, std::move(n));
}

template <class Op>
void require_recordable_in_place(const auto& self) {
  const auto& s = self.template state<keys::autograd>();
  if (s.gradient && s.gradient->is_leaf()) {
    throw not_recordable(Op::name,
                         "a leaf that wants a gradient would be changed in place; use no_grad");
  }
  if (self.body()->base) {
    throw not_recordable(Op::name,
                         "a view, or a result that its own operator saved, would be changed in "
                         "place by a recorded call; use the functional form");
  }
}

}  // namespace autograd::detail

template <Differentiable Op>
struct kernel<Op, keys::autograd> {
  template <class Step, class... A>
  ASHLAR_INLINE static decltype(auto) impl(Step next, A&... args) {
    const bool record = grad_enabled() && (autograd::detail::wants_gradient(args) || ...);
    if constexpr (!(FloatingTensor<A> || ...)) {
      return next(args...);
    } else if constexpr (Step::kind == form::functional) {
      auto out = next(args...);
      if (record) {
        autograd::detail::attach<Op>(out, args...);
      } else if constexpr (View<Op>) {
        autograd::detail::set_gradient(out, {});  // an alias starts with its base's state
      }
      return out;
    } else {
      if (!record) {
        return next(args...);
      }
      if constexpr (Step::kind == form::out) {
        throw not_recordable(Op::name, "out= cannot be recorded; use the functional form");
        return next(args...);
      } else {
        return write(next, args...);
      }
    }
  }

 private:
  template <class Step, class Self, class... A>
  [[gnu::noinline]] static Self& write(Step next, Self& self, A&... args) {
    autograd::detail::require_recordable_in_place<Op>(self);
    if constexpr (autograd::detail::ever_needed<Op, 1u>) {
      record(next, self, call<ops::cast<typename Self::value_type>>(self), args...);
    } else {
      record(next, self, self, args...);
    }
    return self;
  }
  static void record(auto next, auto& self, const auto& before, auto&... args) {
    using Self = std::remove_reference_t<decltype(self)>;
    auto n = autograd::make_node<autograd::detail::node_for<
        Op, std::remove_const_t<Self>, std::remove_const_t<Self>,
        std::remove_const_t<std::remove_reference_t<decltype(args)>>...>>(self.spec(), before,
                                                                          args...);
    next(self, args...);
    if constexpr (autograd::detail::ever_needed<Op, result_tag::bit>) {
      if (n->needs_result()) {
        const no_grad off;
        n->keep_result(call<ops::cast<typename std::remove_const_t<Self>::value_type>>(self));
      }
    }
    ++self.body()->epoch;
    self.body()->history = n;
    autograd::detail::set_gradient(self, std::move(n));
  }
};

/// An operator without derivative goes through. Where its result could have a gradient, the tape
/// ends in a node that says so if one comes by.
template <>
struct fallback<keys::autograd> {
  template <class Step, class... A>
  ASHLAR_INLINE static decltype(auto) impl(Step next, A&... args) {
    using op = typename Step::op;
    if constexpr (!Structured<op>) {
      return next(args...);
    } else {
      const bool record = grad_enabled() && (autograd::detail::wants_gradient(args) || ...);
      if constexpr (Composite<op>) {  // the chip's own kernel has no derivative, the parts have
        return record ? next.composed(args...) : next(args...);
      } else if constexpr (Step::kind != form::functional) {
        if (record) {
          refuse<op>(args...);
        }
        return next(args...);
      } else {
        auto out = next(args...);
        if (record) {
          block<op>(out);
        }
        return out;
      }
    }
  }

 private:
  template <class Op, class Self, class... A>
  static void refuse(const Self& self, const A&...) {
    if constexpr (FloatingTensor<Self>) {
      autograd::detail::require_recordable_in_place<Op>(self);
    }
    throw not_recordable(Op::name, "has no derivative and would change a tensor; use no_grad");
  }
  template <class Op, class Out>
  static void block(const Out& out) {
    if constexpr (FloatingTensor<Out>) {
      autograd::detail::set_gradient(
          out, autograd::make_node<autograd::blocked_node<Op, Out>>(out.spec()));
    } else if constexpr (!Tensor<Out>) {
      std::apply([](const auto&... each) { (block<Op>(each), ...); }, out);
    }
  }
};

}  // namespace ashlar
