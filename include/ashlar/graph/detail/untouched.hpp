// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

namespace ashlar::graph::detail {

/// Elements from outside that a graph writes to: what they were when this was made, they are again
/// when it is gone.
class untouched {
 public:
  explicit untouched(const graph& g) {
    const effects of(g);
    for (const node& n : g.nodes) {
      if (n.data && of.base(n.out[0]) == n.out[0] && of.written(n.out[0])) {
        tensor_body& root = n.data.body()->root();
        kept_.push_back({n.data, {root.data, root.data + root.bytes}, root.version});
      }
    }
  }
  ~untouched() {
    for (const kept& k : kept_) {
      tensor_body& root = k.of.body()->root();
      std::copy(k.bytes.begin(), k.bytes.end(), root.data);
      root.version = k.version;
    }
  }
  untouched(const untouched&) = delete;
  untouched& operator=(const untouched&) = delete;

  [[nodiscard]] bool has(const tensor_body& root) const {
    return std::any_of(kept_.begin(), kept_.end(),
                       [&](const kept& k) { return &k.of.body()->root() == &root; });
  }

 private:
  struct kept {
    tensor_handle of;
    std::vector<std::byte> bytes;
    std::uint32_t version;
  };
  std::vector<kept> kept_{};
};

}  // namespace ashlar::graph::detail
