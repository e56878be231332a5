// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <concepts>
#include <numbers>
#include <type_traits>

/// Elementwise functions as empty or small function objects, generic over what they compute on.
///
/// A functor takes scalars, `simd::vec` or any later tile value `V`: it uses the operators of `V`
/// and calls `exp`, `log`, `sqrt`, `tanh`, `erf`, `abs`, `select(mask, yes, no)` and
/// `constant_like(value, double)` unqualified, so that they are found beside `V`.
/// Attributes are the functor's members. NaN travels as in PyTorch: through
/// arithmetic, `maximum`, `minimum` and `relu`; comparisons with NaN are false except `not_equal`.
namespace ashlar::tile::fn {

/// A number of the kind of `like`.
template <class V>
constexpr V constant(const V& like, double value) {
  if constexpr (std::is_arithmetic_v<V>) {
    return static_cast<V>(value);
  } else {
    return constant_like(like, value);
  }
}

namespace detail {

/// Calls by bare name, from a scope where no functor hides the functions of `V`.
namespace calls {
using std::abs;
using std::erf;
using std::exp;
using std::log;
using std::sqrt;
using std::tanh;

template <class T>
  requires std::is_arithmetic_v<T>
constexpr T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}

template <class V>
constexpr V call_abs(const V& x) {
  return abs(x);
}
template <class V>
constexpr V call_erf(const V& x) {
  return erf(x);
}
template <class V>
constexpr V call_exp(const V& x) {
  return exp(x);
}
template <class V>
constexpr V call_log(const V& x) {
  return log(x);
}
template <class V>
constexpr V call_sqrt(const V& x) {
  return sqrt(x);
}
template <class V>
constexpr V call_tanh(const V& x) {
  return tanh(x);
}
template <class M, class V>
constexpr V call_select(const M& condition, const V& yes, const V& no) {
  return select(condition, yes, no);
}
}  // namespace calls

/// Integers wrap around, as on every chip we know; `bool` adds as `or` and multiplies as `and`.
template <std::integral V, class Operation>
constexpr V wrapped(V a, V b, Operation operation) {
  if constexpr (std::same_as<V, bool>) {
    return operation(static_cast<int>(a), static_cast<int>(b)) != 0;
  } else {
    // Not narrower than unsigned int: two uint16 would be promoted to int and overflow there.
    using wide = std::common_type_t<std::make_unsigned_t<V>, unsigned>;
    return static_cast<V>(operation(static_cast<wide>(a), static_cast<wide>(b)));
  }
}

}  // namespace detail

// Arithmetic ------------------------------------------------------------------------------------

struct add {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    if constexpr (std::integral<V>) {
      return detail::wrapped(a, b, [](auto x, auto y) { return x + y; });
    } else {
      return a + b;
    }
  }
};

struct sub {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    if constexpr (std::integral<V>) {
      return detail::wrapped(a, b, [](auto x, auto y) { return x - y; });
    } else {
      return a - b;
    }
  }
};

struct mul {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    if constexpr (std::integral<V>) {
      return detail::wrapped(a, b, [](auto x, auto y) { return x * y; });
    } else {
      return a * b;
    }
  }
};

/// Division; for integers towards zero, and 0 where the divisor is 0.
struct div {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    if constexpr (std::same_as<V, bool>) {
      return a && b;
    } else if constexpr (std::integral<V>) {
      if (b == V{0}) {
        return V{0};
      }
      if constexpr (std::is_signed_v<V>) {
        if (b == V{-1}) {  // the most negative number has no positive twin
          return sub{}(V{0}, a);
        }
      }
      return static_cast<V>(a / b);
    } else {
      return a / b;
    }
  }
};

struct neg {
  template <class V>
  constexpr V operator()(const V& x) const {
    if constexpr (std::integral<V>) {
      return sub{}(V{0}, x);
    } else {
      return -x;
    }
  }
};

struct abs {
  template <class V>
  constexpr V operator()(const V& x) const {
    if constexpr (std::integral<V>) {
      return x < V{0} ? neg{}(x) : x;
    } else {
      return detail::calls::call_abs(x);
    }
  }
};

struct square {
  template <class V>
  constexpr V operator()(const V& x) const {
    return mul{}(x, x);
  }
};

/// The larger one; NaN if either is.
struct maximum {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    using detail::calls::call_select;
    return call_select(a != a, a, call_select(a > b, a, b));
  }
};

/// The smaller one; NaN if either is.
struct minimum {
  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    using detail::calls::call_select;
    return call_select(a != a, a, call_select(a < b, a, b));
  }
};

/// `x * alpha + beta`, in two roundings.
struct affine {
  double alpha = 1.0;
  double beta = 0.0;

  template <class V>
  constexpr V operator()(const V& x) const {
    return add{}(mul{}(x, constant(x, alpha)), constant(x, beta));
  }
};

struct scale {
  double alpha = 1.0;

  template <class V>
  constexpr V operator()(const V& x) const {
    return mul{}(x, constant(x, alpha));
  }
};

struct add_scalar {
  double beta = 0.0;

  template <class V>
  constexpr V operator()(const V& x) const {
    return add{}(x, constant(x, beta));
  }
};

/// `a + alpha * b`, in two roundings.
struct add_scaled {
  double alpha = 1.0;

  template <class V>
  constexpr V operator()(const V& a, const V& b) const {
    return add{}(a, mul{}(b, constant(a, alpha)));
  }
};

// Comparison and choice -------------------------------------------------------------------------

struct equal {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a == b;
  }
};
struct not_equal {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a != b;
  }
};
struct less {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a < b;
  }
};
struct less_equal {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a <= b;
  }
};
struct greater {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a > b;
  }
};
struct greater_equal {
  template <class V>
  constexpr auto operator()(const V& a, const V& b) const {
    return a >= b;
  }
};

/// `yes` where the condition holds, else `no`; `M` is the mask type of `V`.
struct where {
  template <class M, class V>
  constexpr V operator()(const M& condition, const V& yes, const V& no) const {
    return detail::calls::call_select(condition, yes, no);
  }
};

// Functions of one variable ---------------------------------------------------------------------

struct exp {
  template <class V>
  constexpr V operator()(const V& x) const {
    return detail::calls::call_exp(x);
  }
};
struct log {
  template <class V>
  constexpr V operator()(const V& x) const {
    return detail::calls::call_log(x);
  }
};
struct sqrt {
  template <class V>
  constexpr V operator()(const V& x) const {
    return detail::calls::call_sqrt(x);
  }
};
/// `1 / sqrt(x)`, with the rounding of both.
struct rsqrt {
  template <class V>
  constexpr V operator()(const V& x) const {
    return constant(x, 1.0) / detail::calls::call_sqrt(x);
  }
};
struct tanh {
  template <class V>
  constexpr V operator()(const V& x) const {
    return detail::calls::call_tanh(x);
  }
};
struct erf {
  template <class V>
  constexpr V operator()(const V& x) const {
    return detail::calls::call_erf(x);
  }
};
struct sigmoid {
  template <class V>
  constexpr V operator()(const V& x) const {
    const V one = constant(x, 1.0);
    return one / (one + detail::calls::call_exp(-x));
  }
};
struct silu {
  template <class V>
  constexpr V operator()(const V& x) const {
    return x / (constant(x, 1.0) + detail::calls::call_exp(-x));
  }
};
struct swiglu {
  template <class V>
  constexpr V operator()(const V& gate, const V& up) const {
    return silu{}(gate)*up;
  }
};
struct relu {
  template <class V>
  constexpr V operator()(const V& x) const {
    const V zero = constant(x, 0.0);
    return detail::calls::call_select(x < zero, zero, x);
  }
};

/// `x * Phi(x)` with the normal distribution's Phi.
struct gelu {
  template <class V>
  constexpr V operator()(const V& x) const {
    const V root = constant(x, 1.0 / std::numbers::sqrt2);
    return constant(x, 0.5) * x * (constant(x, 1.0) + detail::calls::call_erf(x * root));
  }
};

/// GELU with Phi approximated through tanh.
struct gelu_tanh {
  static constexpr double slope = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;  // sqrt(2 / pi)
  static constexpr double cubic = 0.044715;

  template <class V>
  constexpr V operator()(const V& x) const {
    const V one = constant(x, 1.0);
    const V inner = constant(x, slope) * (x + constant(x, cubic) * (x * x * x));
    return constant(x, 0.5) * x * (one + detail::calls::call_tanh(inner));
  }
};

// Derivatives, times the gradient `g` that arrives ----------------------------------------------
// `x` is the function's input, `y` its output.

struct sigmoid_grad {
  template <class V>
  constexpr V operator()(const V& y, const V& g) const {
    return g * (y * (constant(y, 1.0) - y));
  }
};
struct tanh_grad {
  template <class V>
  constexpr V operator()(const V& y, const V& g) const {
    return g * (constant(y, 1.0) - y * y);
  }
};
struct relu_grad {
  template <class V>
  constexpr V operator()(const V& y, const V& g) const {
    const V zero = constant(y, 0.0);
    return detail::calls::call_select(y <= zero, zero, g);
  }
};
struct silu_grad {
  template <class V>
  constexpr V operator()(const V& x, const V& g) const {
    const V one = constant(x, 1.0);
    const V s = sigmoid{}(x);
    return g * (s * (one + x * (one - s)));
  }
};
struct gelu_grad {
  template <class V>
  constexpr V operator()(const V& x, const V& g) const {
    const V half = constant(x, 0.5);
    const V root = constant(x, 1.0 / std::numbers::sqrt2);
    // 1 / sqrt(2 pi)
    const V peak = constant(x, 0.5 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
    const V phi = half * (constant(x, 1.0) + detail::calls::call_erf(x * root));
    const V density = peak * detail::calls::call_exp(-(half * (x * x)));
    return g * (phi + x * density);
  }
};
struct gelu_tanh_grad {
  template <class V>
  constexpr V operator()(const V& x, const V& g) const {
    const V one = constant(x, 1.0);
    const V half = constant(x, 0.5);
    const V slope = constant(x, gelu_tanh::slope);
    const V cubic = constant(x, gelu_tanh::cubic);
    const V squared = x * x;
    const V t = detail::calls::call_tanh(slope * (x + cubic * (squared * x)));
    const V inner = slope * (one + constant(x, 3.0) * cubic * squared);
    return g * (half * (one + t) + half * x * (one - t * t) * inner);
  }
};

}  // namespace ashlar::tile::fn
