// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"

/// Optimizer steps in place, with PyTorch's formulas.
namespace ashlar::chip::host_kernels {

struct adamw_options {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
};

struct sgd_options {
  double lr = 1e-3;
  double momentum = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;
};

/// One step of AdamW: decay apart from the gradient, both moments corrected for their start at 0.
///
/// `step`:       1 for the first one.
/// `grad_scale`: multiplies the gradient first, e.g. for clipping.
/// Shapes:       all alike; `m` and `v` start as zeros.
/// Throws:       `argument_error` for a step below 1.
/// Source:       Loshchilov, Hutter, "Decoupled Weight Decay Regularization" (2019).
template <Scalar T, class G, Scalar M>
void adamw_step(view<T> param, view<G> grad, view<M> m, view<M> v, const adamw_options& options,
                std::int64_t step, double grad_scale = 1.0) {
  using C = compute_type<T>;
  if (step < 1) {
    throw argument_error("ashlar::adamw_step",
                         "step " + std::to_string(step) + "; steps count from 1");
  }
  const auto number = static_cast<double>(step);
  const double correction1 = 1.0 - std::pow(options.beta1, number);
  const double correction2 = 1.0 - std::pow(options.beta2, number);
  const auto constant = [](double x) { return simd::broadcast(static_cast<C>(x)); };
  const auto keep = constant(1.0 - options.lr * options.weight_decay);
  const auto weight1 = constant(1.0 - options.beta1);
  const auto beta2 = constant(options.beta2);
  const auto weight2 = constant(1.0 - options.beta2);
  const auto root = constant(std::sqrt(correction2));
  const auto eps = constant(options.eps);
  const auto rate = constant(options.lr / correction1);
  const auto scale = constant(grad_scale);

  const auto nest = detail::elementwise_nest<4>({param.spec, grad.spec, m.spec, v.spec});
  const auto& s = nest.inner_stride();
  detail::parallel(nest.size, 4, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      detail::for_each_vector(
          n, [&](std::int64_t i, int count) __attribute__((always_inline)) {
            T* const p = param.data + at[0] + i * s[0];
            M* const first = m.data + at[2] + i * s[2];
            M* const second = v.data + at[3] + i * s[3];
            const auto g = detail::get<C>(grad.data + at[1] + i * s[1], s[1], count) * scale;
            auto m1 = detail::get<C>(first, s[2], count);
            auto m2 = detail::get<C>(second, s[3], count);
            m1 = m1 + weight1 * (g - m1);
            m2 = m2 * beta2 + weight2 * (g * g);
            detail::put(first, s[2], count, m1);
            detail::put(second, s[3], count, m2);
            const auto kept = detail::get<C>(p, s[0], count) * keep;
            detail::put(p, s[0], count, kept - rate * (m1 / (simd::sqrt(m2) / root + eps)));
          });
    });
  });
}

/// One step of stochastic gradient descent, with momentum where `options.momentum` is not 0.
///
/// `buffer`:     the momentum, zeros at first; not touched without momentum (may be any view then).
/// `grad_scale`: multiplies the gradient first, e.g. for clipping.
/// Shapes:       all alike.
template <Scalar T, class G, Scalar M>
void sgd_step(view<T> param, view<G> grad, view<M> buffer, const sgd_options& options,
              double grad_scale = 1.0) {
  using C = compute_type<T>;
  const auto constant = [](double x) { return simd::broadcast(static_cast<C>(x)); };
  const auto rate = constant(options.lr);
  const auto decay = constant(options.weight_decay);
  const auto momentum = constant(options.momentum);
  const auto scale = constant(grad_scale);
  const bool moving = options.momentum != 0.0;
  const bool nesterov = options.nesterov;

  const auto nest =
      detail::elementwise_nest<3>({param.spec, grad.spec, moving ? buffer.spec : param.spec});
  const auto& s = nest.inner_stride();
  detail::parallel(nest.size, 3, [&](std::int64_t begin, std::int64_t end) {
    detail::for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
      detail::for_each_vector(
          n, [&](std::int64_t i, int count) __attribute__((always_inline)) {
            T* const to = param.data + at[0] + i * s[0];
            const auto p = detail::get<C>(to, s[0], count);
            auto d = detail::get<C>(grad.data + at[1] + i * s[1], s[1], count) * scale + decay * p;
            if (moving) {
              M* const held = buffer.data + at[2] + i * s[2];
              const auto b = momentum * detail::get<C>(held, s[2], count) + d;
              detail::put(held, s[2], count, b);
              d = nesterov ? d + momentum * b : b;
            }
            detail::put(to, s[0], count, p - rate * d);
          });
    });
  });
}

}  // namespace ashlar::chip::host_kernels
