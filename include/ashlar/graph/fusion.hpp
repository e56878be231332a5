// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "ashlar/graph/detail/fuser.hpp"
#include "ashlar/graph/fused.hpp"
#include "ashlar/graph/fusion_options.hpp"
#include "ashlar/graph/graph.hpp"

/// Fusion: calls that work on the same elements become one kernel.
namespace ashlar::graph {

/// Makes one kernel of chip `C` from elementwise calls that follow each other, with broadcasting,
/// and from reductions of rows, softmax and normalisation with what comes before and after them.
///
/// A group is convex: nothing that it gives comes back to it. No call moves over a write.
/// Cost: a few microseconds for each call; programs are written when kernels first run.
template <class C>
[[nodiscard]] graph fuse(const graph& g, const fusion_options& options = {}) {
  detail::fusion_target target{.fold = std::numeric_limits<std::int64_t>::max(),
                               .longest = detail::longest_row<C>(),
                               .blocks = options.host_blocks};
  if constexpr (RunsTiles<C>) {
    target = {.fold = chip::blocks_of<C>::fold,
              .longest = detail::longest_row<C>(),
              .products = true,
              // The operators' kernels have blocks for any size, and pass over rows several times.
              .alone = C::description.dma_engines > 0};
  }
  const detail::fuser found(g, options, target);
  graph made;
  copier to(g, made);
  for (const std::int32_t i : found.order()) {
    const std::int32_t group = found.group_of(static_cast<std::size_t>(i));
    if (group < 0) {
      to.copy(g.nodes[static_cast<std::size_t>(i)]);
      continue;
    }
    std::vector<value_id> in;
    std::vector<value_id> out;
    auto kernel = std::make_shared<const fused_kernel<C>>(found.calls_of(group, in, out));
    std::vector<tensor_spec> specs;
    for (const value_id v : out) {
      specs.push_back(g.spec(v));
    }
    for (value_id& v : in) {
      v = to(v);
    }
    const std::int32_t place = made.add({.op = std::move(kernel),
                                         .in = std::move(in),
                                         .where = g.nodes[static_cast<std::size_t>(i)].where},
                                        specs);
    for (std::size_t k = 0; k < out.size(); ++k) {
      to.set(out[k], made.nodes[static_cast<std::size_t>(place)].out[k]);
    }
  }
  to.copy_outputs();
  return made;
}

}  // namespace ashlar::graph
