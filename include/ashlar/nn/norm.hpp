// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/norm.hpp"

namespace ashlar::nn {

/// `y = x / sqrt(mean(x^2) + eps) * weight` along the last axis.
///
/// Shapes: `weight`: (width); `x`, `y`: (..., width).
template <class Stack>
struct rms_norm {
  using parameter = parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(rms_norm, (parameter, weight), (double, eps));

  auto operator()(const auto& x) const { return ashlar::rms_norm(x, weight, eps); }

  /// A weight of ones.
  /// Throws: `argument_error` for a width below 1, `memory::out_of_memory`.
  [[nodiscard]] static rms_norm make(std::int64_t width, double epsilon = 1e-5) {
    detail::require_positive("rms_norm", "the width", width);
    rms_norm made;
    made.weight = ones<parameter>({width});
    made.eps = epsilon;
    return made;
  }
};

/// `y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` along the last axis.
///
/// Shapes: `weight`, `bias`: (width); `x`, `y`: (..., width).
template <class Stack>
struct layer_norm {
  using parameter = parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(layer_norm, (parameter, weight), (parameter, bias), (double, eps));

  auto operator()(const auto& x) const { return ashlar::layer_norm(x, weight, bias, eps); }

  /// A weight of ones, a bias of zeros.
  /// Throws: `argument_error` for a width below 1, `memory::out_of_memory`.
  [[nodiscard]] static layer_norm make(std::int64_t width, double epsilon = 1e-5) {
    detail::require_positive("layer_norm", "the width", width);
    layer_norm made;
    made.weight = ones<parameter>({width});
    made.bias = zeros<parameter>({width});
    made.eps = epsilon;
    return made;
  }
};

}  // namespace ashlar::nn
