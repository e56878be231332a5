// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/optimizer.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/operators.hpp"

/// Optimizer steps: plain operators that write to several tensors in place.
///
/// A chip without a fused kernel takes the step in elementwise operators.
namespace ashlar {

using chip::host_kernels::adamw_options;
using chip::host_kernels::sgd_options;

namespace ops {

namespace detail {
template <class First, class... Rest>
void require_alike(std::string_view op, const First& first, const Rest&... rest) {
  require_defined(op, first, rest...);
  const auto check = [&](const auto& x) {
    if (!same_shape(first.spec(), x.spec())) {
      throw shape_error(op, first.shape(), x.shape(), "parameter, gradient and state are alike");
    }
  };
  (check(rest), ...);
}
/// The same elements with the chip's key alone: parameters carry more keys than their states.
template <class T, class K>
tensor<T, key_set<typename backend_of<K>::key>> bare(const tensor<T, K>& x) {
  return tensor<T, key_set<typename backend_of<K>::key>>(static_cast<const tensor_handle&>(x));
}
inline void require_step(std::int64_t number) {
  if (number < 1) {
    throw argument_error("ashlar::adamw_step",
                         "step " + std::to_string(number) + "; steps count from 1");
  }
}
/// A step's number out of a tensor. Cost: the host waits for the chip.
inline std::int64_t step_in(const Tensor auto& number) {
  static_assert(
      std::is_same_v<typename std::remove_cvref_t<decltype(number)>::value_type, std::int64_t>,
      "ashlar::adamw_step: the step's number is an int64 tensor of one element");
  return item(bare(number));
}
}  // namespace detail

/// `adamw_step(param, grad, m, v, options, step, grad_scale)`: writes `param`, `m` and `v`. In
/// place of the number a tensor that has it may stand: `adamw_step(param, grad, m, v, step, ...)`.
struct adamw_step {
  static constexpr std::string_view name = "adamw_step";
  using result = void;
  struct composite {
    void operator()(auto& param, auto& grad, auto& m, auto& v, const adamw_options& options,
                    std::int64_t step, double grad_scale) const {
      detail::require_alike(name, param, grad, m, v);
      detail::require_step(step);
      const auto number = static_cast<double>(step);
      const double correction1 = 1.0 - std::pow(options.beta1, number);
      const double correction2 = 1.0 - std::pow(options.beta2, number);
      auto p = detail::bare(param);
      auto first = detail::bare(m);
      auto second = detail::bare(v);
      const auto g = detail::bare(grad) * grad_scale;
      first += (g - first) * (1.0 - options.beta1);
      second *= options.beta2;
      second += call<square>(g) * (1.0 - options.beta2);
      p *= 1.0 - options.lr * options.weight_decay;
      const auto deviation = call<sqrt>(second) / std::sqrt(correction2) + options.eps;
      p -= first / deviation * (options.lr / correction1);
    }
    void operator()(auto& param, auto& grad, auto& m, auto& v, const Tensor auto& step,
                    const adamw_options& options, double grad_scale) const {
      (*this)(param, grad, m, v, options, detail::step_in(step), grad_scale);
    }
  };
};

/// `sgd_step(param, grad, momentum, options, grad_scale)`: writes `param` and `momentum`.
struct sgd_step {
  static constexpr std::string_view name = "sgd_step";
  using result = void;
  struct composite {
    void operator()(auto& param, auto& grad, auto& momentum, const sgd_options& options,
                    double grad_scale) const {
      detail::require_alike(name, param, grad);
      auto p = detail::bare(param);
      const auto d = detail::bare(grad) * grad_scale + p * options.weight_decay;
      if (options.momentum == 0.0) {
        p -= d * options.lr;
        return;
      }
      detail::require_alike(name, param, momentum);
      auto held = detail::bare(momentum);
      held *= options.momentum;
      held += detail::in_type<typename decltype(held)::value_type>(d);
      using element = typename decltype(p)::value_type;
      if (options.nesterov) {
        p -= detail::in_type<element>((d + held * options.momentum) * options.lr);
      } else {
        p -= detail::in_type<element>(held * options.lr);
      }
    }
  };
};

}  // namespace ops

/// Nothing to record: a step is no function of its arguments.
template <>
struct kernel<ops::adamw_step, keys::autograd> : fallthrough {};
template <>
struct kernel<ops::sgd_step, keys::autograd> : fallthrough {};

template <>
struct kernel<ops::adamw_step, keys::backend<chip::host>> {
  static void impl(context<chip::host>&, auto& param, auto& grad, auto& m, auto& v,
                   const adamw_options& options, std::int64_t step, double grad_scale) {
    ops::detail::require_alike(ops::adamw_step::name, param, grad, m, v);
    ops::detail::require_step(step);
    chip::host_kernels::adamw_step(param.view(), grad.view(), m.view(), v.view(), options, step,
                                   grad_scale);
    ++param.body()->root().version;
    ++m.body()->root().version;
    ++v.body()->root().version;
  }
  static void impl(context<chip::host>& on, auto& param, auto& grad, auto& m, auto& v,
                   const Tensor auto& step, const adamw_options& options, double grad_scale) {
    impl(on, param, grad, m, v, options, ops::detail::step_in(step), grad_scale);
  }
};
template <>
struct kernel<ops::sgd_step, keys::backend<chip::host>> {
  static void impl(context<chip::host>&, auto& param, auto& grad, auto& momentum,
                   const sgd_options& options, double grad_scale) {
    const bool moves = options.momentum != 0.0;
    ops::detail::require_alike(ops::sgd_step::name, param, grad);
    decltype(momentum.view()) buffer{};
    if (moves) {
      ops::detail::require_alike(ops::sgd_step::name, param, momentum);
      buffer = momentum.view();
    }
    chip::host_kernels::sgd_step(param.view(), grad.view(), buffer, options, grad_scale);
    ++param.body()->root().version;
    if (moves) {
      ++momentum.body()->root().version;
    }
  }
};

/// `adamw_step(param, grad, m, v, options, step, grad_scale = 1)`; steps count from 1.
///
/// With an int64 tensor of one element as `step` the number is read when the step is taken: a
/// compiled training step is one graph for all of them, and not for one number.
/// Effects: writes `param`, `m` and `v`, outside the tape.
inline constexpr struct adamw_step_function {
  void operator()(const Tensor auto& param, const Tensor auto& grad, const Tensor auto& m,
                  const Tensor auto& v, const adamw_options& options, std::int64_t step,
                  double grad_scale = 1.0) const {
    op_function<ops::adamw_step>{}(param, grad, m, v, options, step, grad_scale);
  }
  void operator()(const Tensor auto& param, const Tensor auto& grad, const Tensor auto& m,
                  const Tensor auto& v, const adamw_options& options, const Tensor auto& step,
                  double grad_scale = 1.0) const {
    op_function<ops::adamw_step>{}(param, grad, m, v, step, options, grad_scale);
  }
} adamw_step;

/// `sgd_step(param, grad, momentum, options, grad_scale = 1)`; without momentum that tensor is not
/// touched and may be `param` itself.
///
/// Effects: writes `param` and `momentum`, outside the tape.
inline constexpr struct sgd_step_function {
  void operator()(const Tensor auto& param, const Tensor auto& grad, const Tensor auto& momentum,
                  const sgd_options& options, double grad_scale = 1.0) const {
    op_function<ops::sgd_step>{}(param, grad, momentum, options, grad_scale);
  }
} sgd_step;

}  // namespace ashlar
