// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <string_view>

#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/functions.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/tile/functions.hpp"

/// Sums, products and their like, with NumPy's broadcasting and promotion.
namespace ashlar {

namespace ops {

struct add : detail::binary<add> {
  static constexpr std::string_view name = "add";
  using function = tile::fn::add;
  struct derivative {
    static constexpr std::array needs{0u, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return g;
    }
  };
};

struct sub : detail::binary<sub> {
  static constexpr std::string_view name = "sub";
  using function = tile::fn::sub;
  struct derivative {
    static constexpr std::array needs{0u, 0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      if constexpr (I == 0) {
        return g;
      } else {
        return call<neg>(g);
      }
    }
  };
};

struct mul : detail::binary<mul> {
  static constexpr std::string_view name = "mul";
  using function = tile::fn::mul;
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<mul>(g, saved(arg<1 - I>));
    }
  };
};

/// Integers: towards zero, and 0 where the divisor is 0.
struct div : detail::binary<div> {
  static constexpr std::string_view name = "div";
  using function = tile::fn::div;
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<1>.bit | result.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto share = call<div>(g, saved(arg<1>));
      if constexpr (I == 0) {
        return share;
      } else {
        return call<neg>(call<mul>(share, saved(result)));
      }
    }
  };
};

struct neg : detail::unary<neg> {
  static constexpr std::string_view name = "neg";
  using function = tile::fn::neg;
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return call<neg>(g);
    }
  };
};

/// -1, 0 or 1; NaN for NaN.
struct sign : detail::unary<sign> {
  static constexpr std::string_view name = "sign";
  using function = detail::sign_function;
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto&) {
      return call<fill>(g, 0.0);
    }
  };
};

struct abs : detail::unary<abs> {
  static constexpr std::string_view name = "abs";
  using function = tile::fn::abs;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<mul>(g, call<sign>(saved(arg<0>)));
    }
  };
};

struct square : detail::unary<square> {
  static constexpr std::string_view name = "square";
  using function = tile::fn::square;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<scale>(call<mul>(g, saved(arg<0>)), 2.0, 0.0);
    }
  };
};

namespace detail {
/// The gradient of the larger or smaller of two: to the one that was taken, half each where equal.
template <class Taken, int I>
auto pick_gradient(const auto& g, const auto& saved) {
  using T = typename std::remove_cvref_t<decltype(g)>::value_type;
  const auto& mine = saved(arg<I>);
  const auto& other = saved(arg<1 - I>);
  const auto share = call<add>(call<cast<T>>(call<Taken>(mine, other)),
                               call<scale>(call<cast<T>>(call<eq>(mine, other)), 0.5, 0.0));
  return call<mul>(g, share);
}
}  // namespace detail

/// The larger of two; NaN if either is.
struct maximum : detail::binary<maximum> {
  static constexpr std::string_view name = "maximum";
  using function = tile::fn::maximum;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit | arg<1>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return detail::pick_gradient<gt, I>(g, saved);
    }
  };
};

/// The smaller of two; NaN if either is.
struct minimum : detail::binary<minimum> {
  static constexpr std::string_view name = "minimum";
  using function = tile::fn::minimum;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit | arg<1>.bit, arg<0>.bit | arg<1>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return detail::pick_gradient<lt, I>(g, saved);
    }
  };
};

/// `x * alpha + beta` with numbers, in two roundings; for integers both are cut to integers.
struct scale : detail::unary<scale> {
  static constexpr std::string_view name = "scale";
  using function = tile::fn::affine;
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      return call<scale>(g, saved(arg<1>), 0.0);
    }
  };
};

/// `x` to the power of a number.
///
/// Whole exponents up to 64 multiply, 0.5 is the root; all others go through the logarithm, with a
/// relative error of about |exponent * log(x)| roundings, and are NaN for negative `x`.
struct pow : detail::floating_unary<pow> {
  static constexpr std::string_view name = "pow";
  using function = detail::pow_function;
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const double exponent = saved(arg<1>);
      if (exponent == 0) {  // 0 * x^-1 would be NaN at 0
        return call<fill>(g, 0.0);
      }
      return call<scale>(call<mul>(g, call<pow>(saved(arg<0>), exponent - 1)), exponent, 0.0);
    }
  };
};

}  // namespace ops

inline constexpr op_function<ops::add> add;
inline constexpr op_function<ops::sub> sub;
inline constexpr op_function<ops::mul> mul;
inline constexpr op_function<ops::div> div;
inline constexpr op_function<ops::neg> neg;
inline constexpr op_function<ops::abs> abs;
inline constexpr op_function<ops::sign> sign;
inline constexpr op_function<ops::square> square;
inline constexpr op_function<ops::maximum> maximum;
inline constexpr op_function<ops::minimum> minimum;

/// `scale(x, alpha, beta = 0)`.
inline constexpr struct scale_function : spelled_function<scale_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, double alpha, double beta = 0.0) {
    return to(op_function<ops::scale>{}, x, alpha, beta);
  }
} scale;

/// `pow(x, exponent)`.
inline constexpr struct pow_function : spelled_function<pow_function> {
  static constexpr auto spell(auto to, const Tensor auto& x, double exponent) {
    return to(op_function<ops::pow>{}, x, exponent);
  }
} pow;

}  // namespace ashlar
