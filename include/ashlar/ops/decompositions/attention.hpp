// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <limits>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/detail/from_prims.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

/// Attention in terms of the core set.
namespace ashlar {

template <>
struct decomposition<ops::scaled_dot_product_attention> : detail::parts::from_prims {
  auto operator()(const auto& q, const auto& k, const auto& v, bool causal, double factor) const {
    const auto weights = ops::detail::attention_weights(q, k, causal, factor);
    return reshape(matmul(weights, v), shape(q.shape()));
  }
};
template <>
struct decomposition<ops::paged_attention> : detail::parts::from_prims {
  auto operator()(const auto& q, const auto& key_cache, const auto& value_cache,
                  const auto& block_tables, const auto& sequence, const auto& position,
                  double factor) const {
    using ops::detail::places;
    using ops::detail::scalar_like;
    const std::int64_t rows = q.extent(0);
    const std::int64_t heads = key_cache.extent(1);
    const std::int64_t width = key_cache.extent(2);
    const std::int64_t length = key_cache.extent(3);
    const std::int64_t blocks = block_tables.extent(1);
    const std::int64_t group = heads == 0 ? 0 : q.extent(1) / heads;
    const auto last = unsqueeze(ops::detail::in_type<std::int64_t>(position), 1);
    // Blocks past the last position need not exist: any other stands for them.
    const auto begins = scale(places(q, blocks), static_cast<double>(length));
    const auto tables = ops::detail::in_type<std::int64_t>(embedding(block_tables, sequence));
    const auto ids = where(le(begins, last), tables, scalar_like(tables, 0.0));
    const auto fetch = [&](const auto& cache, const shape& block, const shape& order,
                           const shape& to) {
      const std::int64_t columns = heads * width * length;
      const auto flat = embedding(reshape(cache, shape{cache.extent(0), columns}), ids);
      shape extents{rows, blocks};
      for (const std::int64_t e : block) {
        extents.push_back(e);
      }
      return reshape(permute(reshape(flat, extents), order), to);
    };
    const std::int64_t tokens = blocks * length;
    const auto keys = fetch(key_cache, shape{heads, width, length}, shape{0, 2, 3, 1, 4},
                            shape{rows, heads, width, tokens});
    const auto values = fetch(value_cache, shape{heads, length, width}, shape{0, 2, 1, 3, 4},
                              shape{rows, heads, tokens, width});
    const auto sees = reshape(le(places(q, tokens), last), shape{rows, 1, 1, tokens});
    const auto scores = scale(matmul(reshape(q, shape{rows, heads, group, width}), keys), factor);
    const auto weights = softmax(
        where(sees, scores, scalar_like(scores, -std::numeric_limits<double>::infinity())), -1);
    // Nobody may have written what lies behind the last position.
    const auto seen =
        where(reshape(sees, shape{rows, 1, tokens, 1}), values, scalar_like(values, 0.0));
    return reshape(matmul(weights, seen), shape(q.shape()));
  }
};

}  // namespace ashlar
