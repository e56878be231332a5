// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <type_traits>

#include "ashlar/chip/host/elementwise.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// What elementwise operators have in common: their `meta`, and one kernel for all of them.
///
/// Such an operator names its `function`, a function object of `tile::fn` or one like it; its
/// attributes are the members of that object, in the same order.
namespace ashlar {

namespace ops::detail {

template <class Op>
struct unary {
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, const auto&...) {
    return contiguous_like(self, self.type);
  }
};

/// Of floating elements only: integers would have no useful result.
template <class Op>
struct floating_unary : unary<Op> {
  static constexpr bool floating = true;
};

template <class Op>
struct binary {
  static constexpr std::array arguments{argument{"self"}, argument{"other"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, const tensor_spec& other) {
    return broadcast(Op::name, self, other);
  }
};

/// The gradient of a function from what it saved (its input or its result) and the gradient that
/// arrives.
template <class Op>
struct unary_backward {
  static constexpr std::array arguments{argument{"saved"}, argument{"gradient"}};
  static constexpr bool elementwise = true;
  static constexpr bool floating = true;
  static constexpr tensor_spec meta(const tensor_spec& saved, const tensor_spec& gradient) {
    return broadcast(Op::name, saved, gradient);
  }
};

/// The derivative of a function whose gradient `Backward` computes from what went in.
template <class Backward>
struct gradient_from_input {
  static constexpr std::array needs{arg<0>.bit};
  template <int I>
  static auto vjp(const auto& g, const auto& saved) {
    return call<Backward>(saved(arg<0>), g);
  }
};
/// The same where `Backward` computes it from the result.
template <class Backward>
struct gradient_from_result {
  static constexpr std::array needs{result.bit};
  template <int I>
  static auto vjp(const auto& g, const auto& saved) {
    return call<Backward>(saved(result), g);
  }
};

/// The derivative of an `Op` that computes `g * slope(saved)`: it is linear in `g`, and
/// `Op::bend(saved)` is the derivative of `slope`.
template <class Op>
struct second_gradient {
  static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
  template <int I>
  static auto vjp(const auto& h, const auto& saved) {
    const auto& at = saved(arg<0>);
    if constexpr (I == 0) {
      return call<mul>(call<mul>(h, saved(arg<1>)), Op::bend(at));
    } else {
      return call<Op>(at, h);
    }
  }
};

/// A tensor without dimensions that broadcasts against `x`.
template <class X>
[[nodiscard]] X scalar_like(const X& x, double value) {
  [[maybe_unused]] const auto there = beside(x);
  X one = empty<X>({});
  op_function<fill>{}.over_first(one, value);
  return one;
}

/// `x` itself where its elements are of type `T`, else a copy in that type.
template <class T, class X>
[[nodiscard]] auto in_type(const X& x) {
  if constexpr (std::is_same_v<T, typename X::value_type>) {
    return x;
  } else {
    return call<cast<T>>(x);
  }
}

/// `x` in type `T` if its elements are integers or `bool`, also at run time.
template <class T, class X>
[[nodiscard]] auto integers_as(const X& x) {
  if constexpr (ashlar::detail::is_any<X>) {
    return x && is_integral(x.type()) ? ashlar::detail::in_type_at_run_time(x, dtype_of<T>) : x;
  } else if constexpr (Floating<typename X::value_type>) {
    return x;
  } else {
    return in_type<T>(x);
  }
}

template <class Op>
concept NamesFunction = requires { typename Op::function; };
template <class Op>
concept FloatingOnly = requires { Op::floating; };

template <class... A>
void require_defined(std::string_view op, const A&... tensors) {
  if (!(static_cast<bool>(tensors) && ...)) {
    throw undefined_tensor(op);
  }
}

}  // namespace ops::detail

template <ops::detail::NamesFunction Op>
struct tile_kernel<Op, chip::host> {
  template <class R, class... A>
    requires(!ops::detail::FloatingOnly<Op> || Floating<R>)
  ASHLAR_INLINE static void impl(context<chip::host>&, view<R> out, const A&... args) {
    chip::host_kernels::map<typename Op::function>(out, args...);
  }
};

}  // namespace ashlar
