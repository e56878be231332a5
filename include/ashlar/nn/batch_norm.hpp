// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <tuple>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/operators.hpp"

namespace ashlar::nn {

/// Normalises channels over a batch: with its own statistics in training, else with the running
/// ones, which training updates.
///
/// Shapes: `x`, `y`: (B, channels, H, W); all tensors here (channels), names as in PyTorch's files.
template <class Stack>
struct batch_norm2d {
  using parameter = parameter_of<Stack>;
  using statistic = buffer<parameter>;
  using counter = buffer<typename Stack::template tensor<std::int64_t>>;
  BOOST_HANA_DEFINE_STRUCT(batch_norm2d, (parameter, weight), (parameter, bias),
                           (statistic, running_mean), (statistic, running_var),
                           (counter, num_batches_tracked), (double, eps), (double, momentum),
                           (bool, training));

  /// Effects: in training, moves the running statistics a share `momentum` towards those of `x`,
  ///          outside the tape; the variance for that divides by n - 1.
  /// Throws:  `argument_error` in training for less than two elements of a channel.
  auto operator()(const auto& x) const {
    if (!training) {
      return ashlar::batch_norm(x, running_mean.value, running_var.value, weight, bias, eps);
    }
    auto [y, mean, variance] = batch_norm_train(x, weight, bias, eps);
    const std::int64_t n = x.size() / weight.size();
    if (n < 2) {
      throw argument_error("ashlar::nn::batch_norm2d",
                           "a channel of less than two elements has no variance; give more, or "
                           "call eval(module)");
    }
    const no_grad off;
    const auto move = [&](const parameter& running, const auto& now, double factor) {
      parameter to = running;
      to *= 1.0 - momentum;
      to += now * (momentum * factor);
    };
    const auto count = static_cast<double>(n);
    move(running_mean.value, mean, 1.0);
    move(running_var.value, variance, count / (count - 1));
    auto batches = num_batches_tracked.value;
    batches += 1;
    return y;
  }

  /// A weight of ones, a bias of zeros, running statistics of a standard distribution; in training.
  /// Throws: `argument_error` for less than one channel, `memory::out_of_memory`.
  [[nodiscard]] static batch_norm2d make(std::int64_t channels, double epsilon = 1e-5,
                                         double share = 0.1) {
    detail::require_positive("batch_norm2d", "the number of channels", channels);
    batch_norm2d made;
    made.weight = ones<parameter>({channels});
    made.bias = zeros<parameter>({channels});
    made.running_mean = {zeros<parameter>({channels})};
    made.running_var = {ones<parameter>({channels})};
    made.num_batches_tracked = {zeros<typename Stack::template tensor<std::int64_t>>({})};
    made.eps = epsilon;
    made.momentum = share;
    made.training = true;
    return made;
  }
};

}  // namespace ashlar::nn
