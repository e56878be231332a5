// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ashlar/core/spec.hpp"
#include "ashlar/graph/fused.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/ops/fwd.hpp"

/// What a graph moves between memory and the chip, by the specs of its values.
namespace ashlar::graph {

/// The bytes of a value that stand in memory: what is repeated counts once.
[[nodiscard]] inline std::int64_t bytes_of(const tensor_spec& s) {
  std::int64_t elements = s.size == 0 ? 0 : 1;
  for (int i = 0; elements > 0 && i < s.rank; ++i) {
    elements *= s[i] > 1 && s.stride_of(i) == 0 ? 1 : s[i];
  }
  return elements * static_cast<std::int64_t>(size_of(s.type));
}

/// Whether a call is a product of matrices, attention included.
[[nodiscard]] inline bool is_product(const node& n) {
  return is_call_of<ops::matmul>(n) || is_call_of<ops::linear>(n) ||
         is_call_of<ops::linear_bias>(n) || is_call_of<ops::dense<void>>(n) ||
         is_call_of<ops::scaled_dot_product_attention>(n) || is_call_of<ops::conv2d>(n);
}

/// The bytes that calls read and write, each call each of its arguments and results once; views
/// move none, and of products nothing counts: neither what only they read, of a fused kernel, nor
/// what they give.
template <class C>
[[nodiscard]] std::int64_t bytes_outside_products(const graph& g) {
  std::int64_t moved = 0;
  for (const node& n : g.nodes) {
    if (n.kind != node_kind::call || n.op->view || is_product(n)) {
      continue;
    }
    const auto* const kernel = fused_kernel<C>::from(*n.op);
    const graph* const body = kernel == nullptr ? nullptr : &kernel->calls().body;
    for (std::size_t k = 0; k < n.in.size(); ++k) {
      bool counts = body == nullptr;
      for (std::size_t i = 0; body != nullptr && i < body->nodes.size(); ++i) {
        const node& call = body->nodes[i];
        counts =
            counts || (!is_product(call) && std::find(call.in.begin(), call.in.end(),
                                                      static_cast<value_id>(k)) != call.in.end());
      }
      moved += counts ? bytes_of(g.spec(n.in[k])) : 0;
    }
    for (std::size_t k = 0; k < n.out.size(); ++k) {
      const bool counts = body == nullptr || !is_product(body->maker(body->outputs[k]));
      moved += counts ? bytes_of(g.spec(n.out[k])) : 0;
    }
  }
  return moved;
}

}  // namespace ashlar::graph
