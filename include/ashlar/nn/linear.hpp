// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/matmul.hpp"

namespace ashlar::nn {

/// `y = x weight^T + bias`.
///
/// Shapes: `weight`: (out, in), as in PyTorch's files; `bias`: (out), or an empty handle; `x`:
///         (..., in); `y`: (..., out).
template <class Stack>
struct linear {
  using parameter = parameter_of<Stack>;
  BOOST_HANA_DEFINE_STRUCT(linear, (parameter, weight), (parameter, bias));

  auto operator()(const auto& x) const {
    return bias ? ashlar::linear(x, weight, bias) : ashlar::linear(x, weight);
  }

  /// Parameters of zeros; `initialize` gives them values.
  /// Throws: `argument_error` for extents below 1, `size_error`, `memory::out_of_memory`.
  [[nodiscard]] static linear make(std::int64_t in, std::int64_t out, bool with_bias = true) {
    detail::require_positive("linear", "the number of inputs", in);
    detail::require_positive("linear", "the number of outputs", out);
    linear made;
    made.weight = zeros<parameter>({out, in});
    if (with_bias) {
      made.bias = zeros<parameter>({out});
    }
    return made;
  }
};

}  // namespace ashlar::nn
