// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>

#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/passes/match.hpp"
#include "ashlar/graph/passes/replace_pattern.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/views.hpp"

namespace ashlar::graph {

/// Weights as a chip's `dot` reads them: (K, N), row by row.
///
/// `linear` keeps weights as (N, K), so that a tile of K x N is read across the rows of memory,
/// element by element where a chip's code has no better way. Here constants are turned and copied
/// once, and products read them as they lie.
/// `X`: of the tensors, on the chip of the graph. `most_bytes`: larger weights stay as they are.
/// Requires: weights are constants (`freeze`); others are left alone, and so are products of one
///           vector.
/// Effects:  runs kernels. Bits do not change where `linear` and `matmul` add up in one order, as
///           the operators' programs do.
template <Tensor X>
[[nodiscard]] graph pack_weights(const graph& g, std::int64_t most_bytes = 64 << 20) {
  const auto weight = [&](const graph& of, const match& m) {
    const value_id w = m.arguments[1];
    const auto size = static_cast<std::int64_t>(size_of(of.spec(w).type));
    return of.spec(m.arguments[0]).rank >= 2 && of.maker(w).kind == node_kind::constant &&
           of.spec(w).contiguous && of.spec(w).size * size <= most_bytes;
  };
  const X like = ones<X>({1, 1});
  const replaced now = replace_pattern(
      g, [](const auto& x, const auto& w) { return call<ops::linear>(x, w); },
      [](const auto& x, const auto& w) {
        const auto turned = call<ops::transpose>(w, std::int64_t{0}, std::int64_t{1});
        return call<ops::matmul>(x, call<ops::clone>(turned));
      },
      match_options{.guard = weight}, like, like);
  return fold_constants(now.result, most_bytes);
}

}  // namespace ashlar::graph
