// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/in_place.hpp"
#include "ashlar/autograd/op_node.hpp"

/// One kernel template records every operator that has a derivative, on every chip.
namespace ashlar {

namespace autograd::detail {

template <class Op, class Result, class... A>
using node_for = op_node<Op, Result, std::index_sequence_for<A...>,
                         typename recorded<A, call_keys<Result>>::type...>;

/// In anomaly mode: where the call stands in the user's code.
inline void locate(node& n) {
  if (here.anomaly) [[unlikely]] {
    n.make_hooks().where = ashlar::detail::site.at;
  }
}

/// A result that its operator keeps: the node has the body, the caller gets another one over the
/// same elements, since a body that leads to the node must not be what the node keeps.
template <class Out>
void give_alias(Out& out) {
  if constexpr (FloatingTensor<Out>) {
    out.template state<keys::autograd>().from = lineage::kept;
    Out mine = alias_of(out);
    mine.template state<keys::autograd>().from = lineage::own;
    out = std::move(mine);
  }
}

template <class Op, class Out, class... A>
[[gnu::noinline]] void attach(Out& out, const A&... args) {
  using node_type = node_for<Op, Out, A...>;
  if constexpr (Tensor<Out>) {
    auto n = make_node<node_type>(out.spec(), args...);
    if constexpr (ever_needed<Op, result_tag::bit>) {
      if (n->needs_result()) {
        n->keep_result(out);
        give_alias(out);
      }
    }
    locate(*n);
    set_gradient(out, std::move(n));
  } else {
    auto n = make_node<node_type>(std::get<0>(out).spec(), args...);
    n->keep_shapes(out);
    const bool keeps = n->needs_result();
    if (keeps) {
      n->keep_result(out);
    }
    locate(*n);
    const ref<node> whole = n;
    constexpr std::size_t outputs = std::tuple_size_v<Out>;
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      const auto port = [&]<std::size_t J>(std::integral_constant<std::size_t, J>) {
        using one = std::tuple_element_t<J, Out>;
        if constexpr (FloatingTensor<one>) {
          auto& x = std::get<J>(out);
          if (keeps && keeps_output<Op>(J)) {
            give_alias(x);
          }
          set_gradient(x, make_node<port_node<one>>(x.spec(), whole, J, outputs));
        }
      };
      (port(std::integral_constant<std::size_t, K>{}), ...);
    }(std::make_index_sequence<outputs>{});
  }
}

/// A view of something from outside the tape ends the freedom to write there.
template <class Out, class First>
void note_view(const Out& out, const First& of) {
  auto& s = out.template state<keys::autograd>();
  if (s.from >= lineage::outside && s.from <= lineage::outside_viewed) {
    s.from = lineage::outside_viewed;
    if constexpr (requires { of.template state<keys::autograd>(); }) {
      of.template state<keys::autograd>().from = lineage::outside_viewed;
    }
  }
}

/// Whether the parts that a decomposition names have answers under `Set`.
template <class Set, template <class...> class List, class... Part>
consteval bool all_answered(List<Part...>*) {
  return (std::is_void_v<typename unanswered<Part, Set>::key> && ...);
}
[[noreturn]] inline void refuse_output(std::string_view op) {
  throw not_recordable(op, "out= cannot be recorded; use the functional form");
}
template <class Op, class Set>
consteval bool decomposes() {
  if constexpr (requires { typename decomposition<Op>::parts; }) {
    return all_answered<Set>(static_cast<typename decomposition<Op>::parts*>(nullptr));
  }
  return false;
}

}  // namespace autograd::detail

template <class X>
void keys::autograd::require_unrecorded(std::string_view op, const X& x) {
  if (grad_enabled() && ashlar::autograd::detail::wants_gradient(x)) {
    ashlar::autograd::detail::refuse_output(op);
  }
}

template <Differentiable Op>
struct kernel<Op, keys::autograd> {
  template <class Step, class... A>
  ASHLAR_INLINE static decltype(auto) impl(Step next, A&... args) {
    const bool record = grad_enabled() && (autograd::detail::wants_gradient(args) || ...);
    if constexpr (!(FloatingTensor<A> || ...)) {
      return next(args...);
    } else if constexpr (Step::kind == form::functional) {
      auto out = next(args...);
      if constexpr (View<Op>) {
        view(out, record, args...);
      }
      if (record) {
        autograd::detail::attach<Op>(out, args...);
      }
      return out;
    } else {
      if (!record) {
        return next(args...);
      }
      if constexpr (Step::kind == form::out) {
        autograd::detail::refuse_output(Op::name);
        return next(args...);
      } else {
        return write(next, args...);
      }
    }
  }

 private:
  /// An alias starts with its base's state.
  template <class Out, class First, class... A>
  ASHLAR_INLINE static void view(const Out& out, bool record, const First& of, const A&...) {
    if constexpr (FloatingTensor<Out>) {
      auto& s = out.template state<keys::autograd>();
      if (s.from != autograd::lineage::own) [[unlikely]] {
        autograd::detail::note_view(out, of);
      }
      if (!record) {
        if (s.gradient && !grad_enabled() && s.from == autograd::lineage::own) {
          s.from = autograd::lineage::no_grad_view;
        }
        s.gradient = {};
      }
    }
  }
  template <class Step, class Self, class... A>
  [[gnu::noinline]] static Self& write(Step next, Self& self, A&... args) {
    const autograd::detail::written<Self> place(Op::name, self);
    if constexpr (autograd::detail::ever_needed<Op, 1u>) {
      record(next, place, self, call<ops::cast<typename Self::value_type>>(self), args...);
    } else {
      record(next, place, self, self, args...);
    }
    return self;
  }
  template <class Self>
  static void record(auto next, const autograd::detail::written<Self>& place, Self& self,
                     const Self& before, auto&... args) {
    auto n = autograd::make_node<autograd::detail::node_for<
        Op, Self, Self, std::remove_const_t<std::remove_reference_t<decltype(args)>>...>>(
        self.spec(), before, args...);
    next(self, args...);
    if constexpr (autograd::detail::ever_needed<Op, result_tag::bit>) {
      if (n->needs_result()) {
        const no_grad off;
        n->keep_result(call<ops::cast<typename Self::value_type>>(self));
      }
    }
    autograd::detail::locate(*n);
    place.rebase(self, std::move(n));
  }
};

/// An operator without derivative goes through, in its parts where a decomposition is known and a
/// gradient is wanted. Else the tape ends in a node that says so if a gradient comes by.
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
      } else if constexpr (autograd::detail::decomposes<op, typename Step::keys>()) {
        if (record) {
          return parts<op, typename Step::template result<A...>>(args...);
        }
        return next(args...);
      } else {
        auto out = next(args...);
        if (record) {
          block(op::name, out);
        }
        return out;
      }
    }
  }

 private:
  template <class Op, class Out, class... A>
  [[gnu::noinline]] static Out parts(const A&... args) {
    return decomposition<Op>{}(args...);
  }
  template <class Op, class Self, class... A>
  static void refuse(const Self& self, const A&...) {
    if constexpr (FloatingTensor<Self>) {
      static_cast<void>(autograd::detail::written<Self>(Op::name, self));
    }
    throw not_recordable(Op::name, "has no derivative and would change a tensor; use no_grad");
  }
  template <class Out>
  static void block(std::string_view op, const Out& out) {
    if constexpr (FloatingTensor<Out>) {
      autograd::detail::set_gradient(
          out, autograd::make_node<autograd::blocked_node<Out>>(op, out.spec()));
    } else if constexpr (!Tensor<Out>) {
      std::apply([op](const auto&... each) { (block(op, each), ...); }, out);
    }
  }
};

}  // namespace ashlar
