// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <type_traits>

#include "ashlar/tile/functions.hpp"

/// Elementwise functions beside those of `tile::fn`, by the same rules.
namespace ashlar::ops::detail {

using tile::fn::constant;

struct sign_function {
  template <class V>
  constexpr V operator()(const V& x) const {
    const V zero = constant(x, 0.0);
    const tile::fn::where choose;
    if constexpr (std::is_unsigned_v<V>) {
      return choose(x > zero, constant(x, 1.0), x);
    } else {
      return choose(x > zero, constant(x, 1.0), choose(x < zero, constant(x, -1.0), x));
    }
  }
};

/// 1 for zero, else 0, as `bool`.
struct not_function {
  template <class V>
  constexpr auto operator()(const V& x) const {
    return x == constant(x, 0.0);
  }
};

struct pow_function {
  double exponent = 1.0;

  template <class V>
  constexpr V operator()(const V& x) const {
    constexpr double most_products = 64;
    if (exponent == 0.5) {
      return tile::fn::sqrt{}(x);
    }
    if (std::trunc(exponent) != exponent || std::abs(exponent) > most_products) {
      return tile::fn::exp{}(constant(x, exponent) * tile::fn::log{}(x));
    }
    V product = constant(x, 1.0);
    V factor = x;
    for (int left = static_cast<int>(std::abs(exponent)); left != 0; left /= 2) {
      if (left % 2 != 0) {
        product = product * factor;
      }
      factor = factor * factor;
    }
    return exponent < 0 ? V(constant(x, 1.0) / product) : product;
  }
};

}  // namespace ashlar::ops::detail
