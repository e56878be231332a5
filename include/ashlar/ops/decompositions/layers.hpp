// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/views.hpp"

/// Layers in terms of the core set.
namespace ashlar {

template <>
struct decomposition<ops::linear> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight) const {
    return matmul(x, transpose(weight, 0, 1));  // a row is a matrix there, too
  }
};
template <>
struct decomposition<ops::linear_bias> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, const auto& bias) const {
    return add(linear(x, weight), bias);
  }
};
template <>
struct decomposition<ops::embedding> : detail::parts::from_prims {
  auto operator()(const auto& weight, const auto& ids) const {
    const std::int64_t columns = weight.extent(1);
    const auto index = expand(reshape(ids, shape{ids.size(), 1}), shape{ids.size(), columns});
    shape to(ids.shape());
    to.push_back(columns);
    return reshape(gather(weight, 0, index), to);
  }
};
template <>
struct decomposition<ops::embedding_backward> : detail::parts::from_prims {
  auto operator()(const auto& g, const auto& ids, std::int64_t rows) const {
    const std::int64_t columns = g.extent(-1);
    const auto index = expand(reshape(ids, shape{ids.size(), 1}), shape{ids.size(), columns});
    return scatter_add(ops::detail::spread_zeros(g, shape{rows, columns}), 0, index,
                       reshape(g, shape{ids.size(), columns}));
  }
};

template <>
struct decomposition<ops::rms_norm> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, double eps) const {
    return mul(mul(x, ops::detail::inverse_rms(x, eps)), weight);
  }
};
template <>
struct decomposition<ops::layer_norm> : detail::parts::from_prims {
  auto operator()(const auto& x, const auto& weight, const auto& bias, double eps) const {
    return add(rms_norm(sub(x, ops::detail::channel_mean(x)), weight, eps), bias);
  }
};

}  // namespace ashlar
