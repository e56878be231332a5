// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <numbers>
#include <string_view>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/math.hpp"

/// Activation functions. Each has a fused gradient, which is differentiable itself.
namespace ashlar {

namespace ops {

struct sigmoid : detail::floating_unary<sigmoid> {
  static constexpr std::string_view name = "sigmoid";
  using function = tile::fn::sigmoid;
  using derivative = detail::gradient_from_result<sigmoid_backward>;
};

/// `g * y * (1 - y)`
struct sigmoid_backward : detail::unary_backward<sigmoid_backward> {
  static constexpr std::string_view name = "sigmoid_backward";
  using function = tile::fn::sigmoid_grad;
  using derivative = detail::second_gradient<sigmoid_backward>;
  static auto bend(const auto& y) { return call<scale>(y, -2.0, 1.0); }
};

struct relu : detail::unary<relu> {
  static constexpr std::string_view name = "relu";
  using function = tile::fn::relu;
  using derivative = detail::gradient_from_result<relu_backward>;
};

/// 0 where `y <= 0`, else `g`: a NaN lets the gradient through.
struct relu_backward : detail::unary_backward<relu_backward> {
  static constexpr std::string_view name = "relu_backward";
  using function = tile::fn::relu_grad;
  struct derivative {
    static constexpr std::array needs{0u, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& h, const auto& saved) {
      if constexpr (I == 0) {
        return call<fill>(h, 0.0);
      } else {
        return call<relu_backward>(saved(arg<0>), h);
      }
    }
  };
};

/// `x * sigmoid(x)`
struct silu : detail::floating_unary<silu> {
  static constexpr std::string_view name = "silu";
  using function = tile::fn::silu;
  using derivative = detail::gradient_from_input<silu_backward>;
};

struct silu_backward : detail::unary_backward<silu_backward> {
  static constexpr std::string_view name = "silu_backward";
  using function = tile::fn::silu_grad;
  using derivative = detail::second_gradient<silu_backward>;
  static auto bend(const auto& x) {
    // silu'' = s (1 - s) (2 + x (1 - 2 s)) with s = sigmoid(x)
    const auto s = call<sigmoid>(x);
    const auto rest = call<scale>(call<mul>(x, call<scale>(s, -2.0, 1.0)), 1.0, 2.0);
    return call<sigmoid_backward>(s, rest);
  }
};

/// `silu(gate) * up` in one pass, with NumPy's broadcasting. Source: Shazeer (2020).
struct swiglu : detail::binary<swiglu> {
  static constexpr std::string_view name = "swiglu";
  static constexpr bool floating = true;
  using function = tile::fn::swiglu;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto& gate = saved(arg<0>);
      if constexpr (I == 0) {
        return call<silu_backward>(gate, call<mul>(g, saved(arg<1>)));
      } else {
        return call<swiglu>(gate, g);
      }
    }
  };
};

/// `x * Phi(x)` with the normal distribution's Phi.
struct gelu : detail::floating_unary<gelu> {
  static constexpr std::string_view name = "gelu";
  using function = tile::fn::gelu;
  using derivative = detail::gradient_from_input<gelu_backward>;
};

struct gelu_backward : detail::unary_backward<gelu_backward> {
  static constexpr std::string_view name = "gelu_backward";
  using function = tile::fn::gelu_grad;
  using derivative = detail::second_gradient<gelu_backward>;
  static auto bend(const auto& x) {
    // gelu'' = (2 - x^2) phi(x) with the normal density phi
    constexpr double peak = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    const auto squared = call<square>(x);
    const auto density = call<scale>(call<exp>(call<scale>(squared, -0.5, 0.0)), peak, 0.0);
    return call<mul>(call<scale>(squared, -1.0, 2.0), density);
  }
};

/// GELU with Phi approximated through tanh, as in GPT-2.
struct gelu_tanh : detail::floating_unary<gelu_tanh> {
  static constexpr std::string_view name = "gelu_tanh";
  using function = tile::fn::gelu_tanh;
  using derivative = detail::gradient_from_input<gelu_tanh_backward>;
};

struct gelu_tanh_backward : detail::unary_backward<gelu_tanh_backward> {
  static constexpr std::string_view name = "gelu_tanh_backward";
  using function = tile::fn::gelu_tanh_grad;
  using derivative = detail::second_gradient<gelu_tanh_backward>;
  static auto bend(const auto& x) {
    // With u = slope (x + cubic x^3) and t = tanh(u):
    // gelu_tanh'' = (1 - t^2) (u' + x (u'' - 2 t u'^2) / 2)
    constexpr double slope = tile::fn::gelu_tanh::slope;
    constexpr double cubic = tile::fn::gelu_tanh::cubic;
    const auto squared = call<square>(x);
    const auto u = call<mul>(x, call<scale>(squared, slope * cubic, slope));
    const auto u1 = call<scale>(squared, 3 * slope * cubic, slope);
    const auto u2 = call<scale>(x, 6 * slope * cubic, 0.0);
    const auto t = call<tanh>(u);
    const auto turn = call<sub>(u2, call<scale>(call<mul>(t, call<square>(u1)), 2.0, 0.0));
    const auto rest = call<add>(u1, call<scale>(call<mul>(x, turn), 0.5, 0.0));
    return call<tanh_backward>(t, rest);
  }
};

}  // namespace ops

inline constexpr op_function<ops::sigmoid> sigmoid;
inline constexpr op_function<ops::relu> relu;
inline constexpr op_function<ops::silu> silu;
inline constexpr op_function<ops::swiglu> swiglu;
inline constexpr op_function<ops::gelu> gelu;
inline constexpr op_function<ops::gelu_tanh> gelu_tanh;

}  // namespace ashlar
