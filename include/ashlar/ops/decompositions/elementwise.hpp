// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <numbers>
#include <type_traits>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"

/// Elementwise operators in terms of the core set.
namespace ashlar {

template <>
struct decomposition<ops::neg> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return sub(ops::detail::scalar_like(x, 0.0), x); }
};
template <>
struct decomposition<ops::abs> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    return where(lt(x, ops::detail::scalar_like(x, 0.0)), neg(x), x);
  }
};
template <>
struct decomposition<ops::sign> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto zero = ops::detail::scalar_like(x, 0.0);
    const auto below = where(lt(x, zero), ops::detail::scalar_like(x, -1.0), x);
    return where(lt(zero, x), ops::detail::scalar_like(x, 1.0), below);
  }
};
template <>
struct decomposition<ops::square> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return mul(x, x); }
};
template <>
struct decomposition<ops::minimum> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const {  // a NaN in `a` is not equal to itself
    return where(lt(a, b), a, where(eq(a, a), b, a));
  }
};
template <>
struct decomposition<ops::scale> : detail::parts::from_prims {
  auto operator()(const auto& x, double alpha, double beta) const {
    using ops::detail::scalar_like;
    using T = typename std::remove_cvref_t<decltype(x)>::value_type;
    if constexpr (std::is_unsigned_v<T>) {  // no negative numbers, but they can be taken away
      const auto product = mul(x, scalar_like(x, alpha < 0 ? -alpha : alpha));
      const auto rest = scalar_like(x, beta < 0 ? -beta : beta);
      if (alpha < 0) {
        return beta < 0 ? sub(sub(scalar_like(x, 0.0), rest), product) : sub(rest, product);
      }
      return beta < 0 ? sub(product, rest) : add(product, rest);
    } else {
      return add(mul(x, scalar_like(x, alpha)), scalar_like(x, beta));
    }
  }
};
template <>
struct decomposition<ops::rsqrt> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return div(ops::detail::scalar_like(x, 1.0), sqrt(x)); }
};
template <>
struct decomposition<ops::sigmoid> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto one = ops::detail::scalar_like(x, 1.0);
    return div(one, add(one, exp(neg(x))));
  }
};
template <>
struct decomposition<ops::relu> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return maximum(x, ops::detail::scalar_like(x, 0.0)); }
};
template <>
struct decomposition<ops::silu> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return mul(x, sigmoid(x)); }
};
template <>
struct decomposition<ops::swiglu> : detail::parts::from_prims {
  auto operator()(const auto& gate, const auto& up) const { return mul(silu(gate), up); }
};
template <>
struct decomposition<ops::gelu> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    const auto phi = scale(erf(scale(x, 1.0 / std::numbers::sqrt2)), 0.5, 0.5);
    return mul(x, phi);
  }
};
template <>
struct decomposition<ops::gelu_tanh> : detail::parts::from_prims {
  auto operator()(const auto& x) const {
    using f = tile::fn::gelu_tanh;
    const auto inner = mul(x, scale(square(x), f::slope * f::cubic, f::slope));
    return mul(x, scale(tanh(inner), 0.5, 0.5));
  }
};
template <>
struct decomposition<ops::tanh_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    return mul(g, scale(square(y), -1.0, 1.0));
  }
};
template <>
struct decomposition<ops::sigmoid_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    return mul(g, mul(y, scale(y, -1.0, 1.0)));
  }
};
template <>
struct decomposition<ops::relu_backward> : detail::parts::from_prims {
  auto operator()(const auto& y, const auto& g) const {
    const auto zero = ops::detail::scalar_like(g, 0.0);
    return where(le(y, ops::detail::scalar_like(y, 0.0)), zero, g);
  }
};
template <>
struct decomposition<ops::silu_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    const auto s = sigmoid(x);
    return mul(g, mul(s, scale(mul(x, scale(s, -1.0, 1.0)), 1.0, 1.0)));
  }
};
template <>
struct decomposition<ops::gelu_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    constexpr double peak = 0.5 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
    const auto phi = scale(erf(scale(x, 1.0 / std::numbers::sqrt2)), 0.5, 0.5);
    const auto density = scale(exp(scale(square(x), -0.5)), peak);
    return mul(g, add(phi, mul(x, density)));
  }
};
template <>
struct decomposition<ops::gelu_tanh_backward> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& g) const {
    using f = tile::fn::gelu_tanh;
    const auto squared = square(x);
    const auto t = tanh(mul(x, scale(squared, f::slope * f::cubic, f::slope)));
    const auto slope = scale(squared, 3 * f::slope * f::cubic, f::slope);
    const auto bent = mul(mul(scale(x, 0.5), scale(square(t), -1.0, 1.0)), slope);
    return mul(g, add(scale(t, 0.5, 0.5), bent));
  }
};
template <>
struct decomposition<ops::ne> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return logical_not(eq(a, b)); }
};
template <>
struct decomposition<ops::le> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const {
    const auto less = lt(a, b);
    return where(less, less, eq(a, b));
  }
};
template <>
struct decomposition<ops::gt> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return lt(b, a); }
};
template <>
struct decomposition<ops::ge> : detail::parts::from_prims {
  auto operator()(const auto& a, const auto& b) const { return le(b, a); }
};
template <>
struct decomposition<ops::logical_not> : detail::parts::from_prims {
  auto operator()(const auto& x) const { return eq(x, ops::detail::scalar_like(x, 0.0)); }
};

}  // namespace ashlar
