// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/functions.hpp"
#include "ashlar/ops/detail/numbers.hpp"
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

/// The quotient in the arguments' type. Integers: towards zero, and 0 where the divisor is 0; the
/// function `ashlar::div` makes a floating quotient of them.
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
inline constexpr op_function<ops::neg> neg;
inline constexpr op_function<ops::abs> abs;
inline constexpr op_function<ops::sign> sign;
inline constexpr op_function<ops::square> square;
inline constexpr op_function<ops::maximum> maximum;
inline constexpr op_function<ops::minimum> minimum;

/// `scale(x, alpha, beta = 0)`.
inline constexpr struct scale_function : spelled_function<scale_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, double alpha,
                              double beta = 0.0) {
    return to(op_function<ops::scale>{}, x, alpha, beta);
  }
} scale;

namespace rounding {
/// Rounds a quotient towards zero.
struct trunc {};
/// Rounds a quotient towards minus infinity.
struct floor {};
}  // namespace rounding

namespace ops::detail {
template <class T>
concept Rounding = std::same_as<T, rounding::trunc> || std::same_as<T, rounding::floor>;

/// The same elements, on no tape.
template <class X>
[[nodiscard]] X off_tape(const X& x) {
  if constexpr (contains<typename X::keys, keys::autograd>) {
    return X(without<keys::autograd>(x));
  } else {
    return x;
  }
}

/// Elements without what lies behind their points. Larger ones than `2^24` (double: `2^53`) have
/// nothing there, and neither have NaN and infinities.
template <class X>
[[nodiscard]] X whole_part(const X& x) {
  using T = typename X::value_type;
  if constexpr (NarrowFloating<T>) {  // of which some hold no 2^24
    return call<cast<T>>(whole_part(call<cast<float>>(x)));
  } else {
    const auto whole_above = scalar_like(x, std::is_same_v<T, double> ? 0x1p53 : 0x1p24);
    return call<where>(call<lt>(call<abs>(x), whole_above),
                       call<cast<T>>(call<cast<std::int64_t>>(x)), x);
  }
}

/// A whole quotient where what it leaves of `x` has not the sign of `y`: the next lower one.
template <class X>
[[nodiscard]] X lowered(const X& quotient, const X& rest, const X& y) {
  const X zero = scalar_like(y, 0.0);
  const auto below = call<mul>(call<lt>(rest, zero), call<gt>(y, zero));
  const auto above = call<mul>(call<gt>(rest, zero), call<lt>(y, zero));
  return call<sub>(quotient, call<cast<typename X::value_type>>(call<add>(below, above)));
}

/// `x - whole * y` with its exact sign, of float or double.
///
/// Requires: `whole` is what `x / y` rounds to, or that without what lies behind its point.
/// Source: Dekker, A Floating-Point Technique for Extending the Available Precision, 1971.
template <class X>
[[nodiscard]] X exact_rest(const X& x, const X& whole, const X& y) {
  constexpr double splitter = std::is_same_v<typename X::value_type, double> ? 0x1p27 : 0x1p12;
  // Away from both ends of the exponents, where halves overflow and products vanish.
  const X factor = call<where>(call<gt>(call<abs>(y), scalar_like(y, 1.0)), scalar_like(y, 0x1p-40),
                               scalar_like(y, 0x1p60));
  const auto high = [](const X& v) {
    const X c = call<scale>(v, splitter + 1.0, 0.0);
    return X(call<sub>(c, call<sub>(c, v)));
  };
  const X b = call<mul>(y, factor);
  const X product = call<mul>(whole, b);
  const X w1 = high(whole);
  const X w2 = call<sub>(whole, w1);
  const X b1 = high(b);
  const X b2 = call<sub>(b, b1);
  const X upper = call<add>(call<sub>(call<mul>(w1, b1), product), call<mul>(w1, b2));
  const X error = call<add>(call<add>(upper, call<mul>(w2, b1)), call<mul>(w2, b2));
  const X rest = call<sub>(call<sub>(call<mul>(x, factor), product), error);
  return call<where>(call<eq>(whole, scalar_like(x, 0.0)), x, rest);  // also where y is infinite
}

[[noreturn]] inline void refuse_zero() {
  throw argument_error("ashlar::div", "an integer divided by 0; make one of them floating");
}
/// Refuses a divisor of 0 where there are elements.
template <class X>
void require_no_zero(const X& divisors) {
  if constexpr (!requires { chip_of<typename X::keys>::memory::allocates_nothing; }) {
    const auto elements = to_vector(divisors);
    if (std::find(elements.begin(), elements.end(), typename X::value_type{}) != elements.end()) {
      refuse_zero();
    }
  }
}

/// Of tensors of one type, without a gradient.
template <Rounding How, class X>
[[nodiscard]] X rounded_quotient(const X& x, const X& y) {
  using T = typename X::value_type;
  constexpr bool down = std::same_as<How, rounding::floor>;
  if constexpr (!Floating<T>) {
    const X quotient = call<div>(x, y);
    return down ? lowered(quotient, X(call<sub>(x, call<mul>(quotient, y))), y) : quotient;
  } else if constexpr (!down) {
    return whole_part(X(call<div>(x, y)));
  } else if constexpr (NarrowFloating<T>) {
    return call<cast<T>>(rounded_quotient<How>(call<cast<float>>(x), call<cast<float>>(y)));
  } else {
    const X quotient = call<div>(x, y);
    const X whole = whole_part(quotient);
    const X floor = lowered(whole, exact_rest(x, whole, y), y);
    // NaN of an infinite x, as what is left of it is.
    return call<where>(call<eq>(y, scalar_like(y, 0.0)), quotient,
                       call<add>(floor, call<sub>(x, x)));
  }
}
}  // namespace ops::detail

/// `div(x, y)`: of integers and `bool` the quotient is float32, as in PyTorch.
///
/// `div(x, y, rounding::trunc{})` and `div(x, y, rounding::floor{})` keep the type in which `x` and
/// `y` meet; `y` may be a number. As in PyTorch the floor is that of the exact quotient, NaN for an
/// infinite `x`, and gradients are zero.
///
/// Throws: `argument_error` for an integer divided by 0 with a rounding.
/// Cost:   with a rounding several passes; integer divisors in a tensor are read, which waits for
///         the chip.
inline constexpr struct div_function : spelled_function<div_function> {
  template <detail::AnyOrTensor X, detail::AnyOrTensor Y>
  static constexpr auto spell(auto to, const X& x, const Y& y) {
    if constexpr (detail::is_any<X> && detail::is_any<Y>) {
      const bool whole = x && y && is_integral(x.type()) && is_integral(y.type());
      const auto wide = [&](const auto& a) {
        return whole ? ops::detail::integers_as<scalar_of<default_floating>>(a) : a;
      };
      return to(op_function<ops::div>{}, wide(x), wide(y));
    } else if constexpr (Floating<typename X::value_type> || Floating<typename Y::value_type>) {
      return to(op_function<ops::div>{}, x, y);
    } else {
      return to(op_function<ops::div>{}, ops::detail::integers_as<scalar_of<default_floating>>(x),
                ops::detail::integers_as<scalar_of<default_floating>>(y));
    }
  }
  template <Tensor X, Tensor Y, ops::detail::Rounding How>
  static auto spell(auto to, const X& x, const Y& y, How) {
    using T = promoted<typename X::value_type, typename Y::value_type>;
    if constexpr (!Floating<T>) {
      ops::detail::require_defined("div", x, y);
      ops::detail::require_no_zero(y);
    }
    return rounded<How>(to, ops::detail::in_type<T>(x), ops::detail::in_type<T>(y));
  }
  template <Tensor X, class Number, ops::detail::Rounding How>
    requires std::is_arithmetic_v<Number>
  static auto spell(auto to, const X& x, Number y, How) {
    using T = scalar_of<promote_with_number<Number>(dtype_of<typename X::value_type>)>;
    if constexpr (!Floating<T>) {
      if (static_cast<T>(y) == T{}) {
        ops::detail::refuse_zero();
      }
    }
    const auto wide = ops::detail::in_type<T>(x);
    return rounded<How>(to, wide, ops::detail::number_like(wide, {y, dtype_of<T>}));
  }
  // At run time no key but the tape's hears of the parts.
  template <class X, ops::detail::Rounding How>
    requires detail::is_any<X>
  static auto spell(auto to, const X& x, const X& y, How) {
    ops::detail::require_defined("div", x, y);
    met_types met;
    met.meet(x.type(), x.rank());
    met.meet(y.type(), y.rank());
    return rounded_at_run_time<How>(to, detail::in_type_at_run_time(x, met.type()),
                                    detail::in_type_at_run_time(y, met.type()));
  }
  template <class X, class Number, ops::detail::Rounding How>
    requires(detail::is_any<X> && std::is_arithmetic_v<Number>)
  static auto spell(auto to, const X& x, Number y, How) {
    ops::detail::require_defined("div", x);
    const dtype type = promote_with_number<Number>(x.type());
    const X wide = detail::in_type_at_run_time(x, type);
    return rounded_at_run_time<How>(to, wide, ops::detail::number_like(wide, {y, type}));
  }

 private:
  template <class How, class X>
  static auto rounded_at_run_time(auto to, const X& x, const X& y) {
    if (x.where() != y.where()) {
      throw device_error("div", x.where(), y.where());
    }
    X quotient = x.visit([&]<class T, class K>(const tensor<T, K>& typed) {
      using bare = tensor<T, key_set<typename backend_of<K>::key>>;
      const bare divisor(static_cast<const tensor_handle&>(y));
      if constexpr (!Floating<T>) {
        ops::detail::require_no_zero(divisor);
      }
      return X(ops::detail::rounded_quotient<How>(bare(static_cast<const tensor_handle&>(typed)),
                                                  divisor),
               x.tag().keys() | y.tag().keys());
    });
    if (is_floating(x.type()) && quotient.template carries<keys::autograd>()) {  // zeros for it
      quotient = call<ops::add>(quotient, call<ops::fill>(call<ops::add>(x, y), 0.0));
    }
    return to.value("div", quotient);
  }
  template <class How, class X>
  static auto rounded(auto to, const X& x, const X& y) {
    using namespace ops::detail;
    X quotient = rounded_quotient<How>(off_tape(x), off_tape(y));
    if constexpr (Floating<typename X::value_type> && contains<typename X::keys, keys::autograd>) {
      quotient = call<ops::add>(quotient, call<ops::fill>(call<ops::add>(x, y), 0.0));
    }
    return to.value("div", quotient);
  }
} div;

/// `pow(x, exponent)`: of integers and `bool` float32; with an integer for the exponent they stay
/// integers.
///
/// Throws: `argument_error` for integers with a negative integer for the exponent.
inline constexpr struct pow_function : spelled_function<pow_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, double exponent) {
    return to(op_function<ops::pow>{}, x, exponent);
  }
  template <Tensor X, std::integral Number>
    requires(!Floating<typename X::value_type>)
  static auto spell(auto to, const X& x, Number exponent) {
    using T = scalar_of<promote_with_number<Number>(dtype_of<typename X::value_type>)>;
    return to.value("pow", whole_power(ops::detail::in_type<T>(x), exponent));
  }
  template <class X, std::integral Number>
    requires detail::is_any<X>
  static auto spell(auto to, const X& x, Number exponent) {
    ops::detail::require_defined("pow", x);
    if (is_floating(x.type())) {
      return to(op_function<ops::pow>{}, x, static_cast<double>(exponent));
    }
    const dtype type = promote_with_number<Number>(x.type());
    return to.value("pow", whole_power(detail::in_type_at_run_time(x, type), exponent));
  }

 private:
  static auto whole_power(auto power, std::integral auto exponent) {
    if (exponent < 0) {
      throw argument_error("ashlar::pow",
                           "an integer to a negative integer; make one of them floating");
    }
    auto product = call<ops::fill>(power, 1.0);
    for (auto rest = static_cast<std::uint64_t>(exponent); rest != 0; rest /= 2) {
      product = rest % 2 != 0 ? call<ops::mul>(product, power) : product;
      power = rest > 1 ? call<ops::mul>(power, power) : power;
    }
    return product;
  }
} pow;

}  // namespace ashlar
