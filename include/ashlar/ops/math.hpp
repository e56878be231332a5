// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <numbers>
#include <string_view>

#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/tile/functions.hpp"

/// Functions of one floating variable.
namespace ashlar {

namespace ops {

struct exp : detail::floating_unary<exp> {
  static constexpr std::string_view name = "exp";
  using function = tile::fn::exp;
  struct derivative {
    static constexpr std::array needs{result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<mul>(g, saved(result));
    }
  };
};

struct log : detail::floating_unary<log> {
  static constexpr std::string_view name = "log";
  using function = tile::fn::log;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<div>(g, saved(arg<0>));
    }
  };
};

struct sqrt : detail::floating_unary<sqrt> {
  static constexpr std::string_view name = "sqrt";
  using function = tile::fn::sqrt;
  struct derivative {
    static constexpr std::array needs{result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<scale>(call<div>(g, saved(result)), 0.5, 0.0);
    }
  };
};

/// `1 / sqrt(x)`.
struct rsqrt : detail::floating_unary<rsqrt> {
  static constexpr std::string_view name = "rsqrt";
  using function = tile::fn::rsqrt;
  struct derivative {
    static constexpr std::array needs{result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<scale>(call<mul>(g, call<pow>(saved(result), 3.0)), -0.5, 0.0);
    }
  };
};

struct tanh : detail::floating_unary<tanh> {
  static constexpr std::string_view name = "tanh";
  using function = tile::fn::tanh;
  using derivative = detail::gradient_from_result<tanh_backward>;
};

/// `g * (1 - y^2)`
struct tanh_backward : detail::unary_backward<tanh_backward> {
  static constexpr std::string_view name = "tanh_backward";
  using function = tile::fn::tanh_grad;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& h, const auto& saved) {
      const auto& y = saved(arg<0>);
      if constexpr (I == 0) {
        return call<scale>(call<mul>(call<mul>(h, saved(arg<1>)), y), -2.0, 0.0);
      } else {
        return call<tanh_backward>(y, h);
      }
    }
  };
};

struct erf : detail::floating_unary<erf> {
  static constexpr std::string_view name = "erf";
  using function = tile::fn::erf;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto density = call<exp>(call<neg>(call<square>(saved(arg<0>))));
      return call<scale>(call<mul>(g, density), 2.0 * std::numbers::inv_sqrtpi, 0.0);
    }
  };
};

}  // namespace ops

inline constexpr op_function<ops::exp> exp;
inline constexpr op_function<ops::log> log;
inline constexpr op_function<ops::sqrt> sqrt;
inline constexpr op_function<ops::rsqrt> rsqrt;
inline constexpr op_function<ops::tanh> tanh;
inline constexpr op_function<ops::erf> erf;

}  // namespace ashlar
