// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <string>
#include <type_traits>

#include "ashlar/core/error.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/reduction.hpp"

/// What is done to gradients between the backward pass and the optimizer.
///
/// `parameters` is a module, or the vector that `nn::parameters(module)` gives, which saves the
/// walk. A parameter without a gradient is passed over.
namespace ashlar::nn {

namespace detail {

template <class Parameters, class F>
void for_each_gradient(const Parameters& parameters, const F& f) {
  if constexpr (is_list<Parameters>) {
    for (const auto& p : parameters) {
      if constexpr (Tensor<std::remove_cvref_t<decltype(p)>>) {
        if (requires_grad(p) && gradient(p)) {
          f(gradient(p));
        }
      } else {
        for_each_gradient(nn::parameters(p), f);
      }
    }
  } else {
    for_each_gradient(nn::parameters(parameters), f);
  }
}

}  // namespace detail

/// Multiplies every gradient by `factor`, which is rounded to the elements' type.
template <class Parameters>
void scale_grad(const Parameters& parameters, double factor) {
  const no_grad off;
  detail::for_each_gradient(parameters,
                            [&](auto& g) { op_function<ops::scale>{}.in_place(g, factor, 0.0); });
}

/// The 2-norm of all gradients together.
///
/// The order of the sum is fixed: in each gradient the kernel's, then the parameters' in double.
/// Cost: waits for the chip once per parameter.
template <class Parameters>
[[nodiscard]] double grad_norm(const Parameters& parameters) {
  const no_grad off;
  double sum = 0.0;
  detail::for_each_gradient(parameters, [&](const auto& g) {
    sum += static_cast<double>(item(call<ops::sum_squares>(g)));
  });
  return std::sqrt(sum);
}

/// Scales the gradients so that a norm of `norm`, theirs, becomes at most about `max_norm`.
///
/// Returns: `norm`.
/// Throws:  `argument_error` where `max_norm` is not positive.
template <class Parameters>
double clip_grad_to(const Parameters& parameters, double norm, double max_norm) {
  if (!(max_norm > 0.0)) {
    throw argument_error("ashlar::nn::clip_grad_norm",
                         "max_norm is " + std::to_string(max_norm) + "; it must be positive");
  }
  const double factor = max_norm / (norm + 1e-6);
  if (std::isfinite(norm) && factor < 1.0) {
    scale_grad(parameters, factor);
  }
  return norm;
}

/// Scales the gradients so that their norm is at most about `max_norm`.
///
/// Returns: the norm before. Where that is not finite, the gradients stay as they are, and the step
///          is better left out.
/// Throws:  `argument_error` where `max_norm` is not positive.
/// Source:  PyTorch's `clip_grad_norm_`: the factor is `max_norm / (norm + 1e-6)` where below 1.
template <class Parameters>
double clip_grad_norm(const Parameters& parameters, double max_norm) {
  return clip_grad_to(parameters, grad_norm(parameters), max_norm);
}

}  // namespace ashlar::nn
