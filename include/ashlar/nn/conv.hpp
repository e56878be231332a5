// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/conv.hpp"

namespace ashlar::nn {

/// Correlates images with filters and adds a bias.
///
/// Shapes: `weight`: (out, in / groups, kh, kw), as in PyTorch's files; `bias`: (out), or an empty
///         handle; `x`: (B, in, H, W).
template <class Stack>
struct conv2d {
  using parameter = parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(conv2d, (parameter, weight), (parameter, bias),
                           (window_options, options), (std::int64_t, groups));

  auto operator()(const auto& x) const {
    return bias ? ashlar::conv2d(x, weight, bias, options, groups)
                : ashlar::conv2d(x, weight, options, groups);
  }

  /// Parameters of zeros; `initialize` gives them values.
  /// Throws: `argument_error` for numbers below 1 or groups that do not divide both channels,
  ///         `size_error`, `memory::out_of_memory`.
  [[nodiscard]] static conv2d make(std::int64_t in, std::int64_t out,
                                   std::array<std::int64_t, 2> window,
                                   const window_options& how = {}, std::int64_t parts = 1,
                                   bool with_bias = true) {
    detail::require_positive("conv2d", "the number of inputs", in);
    detail::require_positive("conv2d", "the number of outputs", out);
    detail::require_positive("conv2d", "the number of groups", parts);
    detail::require_positive("conv2d", "the height of the window", window[0]);
    detail::require_positive("conv2d", "the width of the window", window[1]);
    if (in % parts != 0 || out % parts != 0) {
      throw argument_error("ashlar::nn::conv2d", std::to_string(parts) +
                                                     " groups; they must divide inputs and "
                                                     "outputs");
    }
    conv2d made;
    made.weight = zeros<parameter>({out, in / parts, window[0], window[1]});
    if (with_bias) {
      made.bias = zeros<parameter>({out});
    }
    made.options = how;
    made.groups = parts;
    return made;
  }
};

}  // namespace ashlar::nn
