// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/ops/fwd.hpp"

/// Which values look at the same elements, who writes to those, and what has to happen before what.
namespace ashlar::graph {

/// `f(value)` for each argument that a node writes to.
template <class F>
void each_written(const node& n, const F& f) {
  if (n.kind == node_kind::call) {
    for (std::size_t a = 0; a < n.in.size() && a < 32; ++a) {
      if ((n.op->writes >> a & 1u) != 0) {
        f(n.in[a]);
      }
    }
  }
}
/// Whether a node is a call that changes nothing and whose results have elements of their own.
[[nodiscard]] inline bool is_pure(const node& n) {
  return n.kind == node_kind::call && n.op->writes == 0 && !n.op->view;
}

/// Whether a node is a call of `cast`, to whatever type.
[[nodiscard]] inline bool is_cast(const node& n) {
  return []<class... T>(const node& call, std::type_identity<std::tuple<T...>>) {
    return (is_call_of<ops::cast<T>>(call) || ...);
  }(n, std::type_identity<scalar_types>{});
}
/// A tensor that nobody has written to yet.
[[nodiscard]] inline bool is_blank(const node& n) {
  return n.kind == node_kind::call && n.op->id == nullptr && n.op->name == "blank";
}
/// Whether a call takes no more than the geometry of its tensor.
[[nodiscard]] inline bool takes_geometry(const node& n) {
  return is_call_of<ops::fill>(n) || is_call_of<ops::arange>(n) || is_call_of<ops::uniform>(n) ||
         is_call_of<ops::normal>(n);
}

/// The elements behind values. A view has those of its first argument, parameters may share theirs;
/// two placeholders do not. The graph must not change while this is used.
class effects {
 public:
  explicit effects(const graph& g)
      : graph_(&g), base_(g.values.size()), writers_(g.values.size()), shown_(g.values.size()) {
    std::unordered_map<const tensor_body*, value_id> outside;
    for (std::size_t i = 0; i < g.nodes.size(); ++i) {
      const node& n = g.nodes[i];
      for (const value_id v : n.out) {
        value_id& b = base_[static_cast<std::size_t>(v)];
        b = v;
        if (n.data) {
          b = outside.emplace(&n.data.body()->root(), v).first->second;
        } else if (n.op && n.op->view) {
          b = base(n.in[0]);
        }
      }
      each_written(n, [&](value_id v) {
        writers_[static_cast<std::size_t>(base(v))].push_back(static_cast<std::int32_t>(i));
      });
    }
    for (const value_id v : g.outputs) {
      shown_[static_cast<std::size_t>(base(v))] = true;
    }
  }

  /// The value whose elements `v` looks at: the first one with them.
  [[nodiscard]] value_id base(value_id v) const { return base_[static_cast<std::size_t>(v)]; }
  /// The nodes that write to the elements of `v`, in order; one that writes twice stands there
  /// twice.
  [[nodiscard]] const std::vector<std::int32_t>& writers(value_id v) const {
    return writers_[static_cast<std::size_t>(base(v))];
  }
  [[nodiscard]] bool written(value_id v) const { return !writers(v).empty(); }
  /// How many writes to the elements of `v` stand before the node in place `at`.
  [[nodiscard]] std::size_t writes_before(value_id v, std::int32_t at) const {
    const auto& all = writers(v);
    return static_cast<std::size_t>(std::lower_bound(all.begin(), all.end(), at) - all.begin());
  }
  /// Whether the elements are there before the graph runs, and after.
  [[nodiscard]] bool outside(value_id v) const {
    return graph_->maker(base(v)).kind != node_kind::call;
  }
  /// Whether an output looks at the elements.
  [[nodiscard]] bool shown(value_id v) const { return shown_[static_cast<std::size_t>(base(v))]; }

 private:
  const graph* graph_;
  std::vector<value_id> base_;
  std::vector<std::vector<std::int32_t>> writers_;  // of a base
  std::vector<bool> shown_;                         // of a base
};

/// For each node those that must have run before it: who makes its arguments, who wrote to their
/// elements, and, for one that writes, who has read what was there. Any order that keeps these
/// computes the same.
[[nodiscard]] inline std::vector<std::vector<std::int32_t>> dependencies(const graph& g,
                                                                         const effects& of) {
  std::vector<std::vector<std::int32_t>> before(g.nodes.size());
  std::vector<std::int32_t> last_write(g.values.size(), -1);        // of a base
  std::vector<std::vector<std::int32_t>> readers(g.values.size());  // since then
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    auto& mine = before[i];
    for (const value_id v : n.in) {
      mine.push_back(g.values[static_cast<std::size_t>(v)].node);
      const auto b = static_cast<std::size_t>(of.base(v));
      if (n.op->view) {
        continue;  // looks without reading
      }
      if (last_write[b] >= 0) {
        mine.push_back(last_write[b]);
      }
      readers[b].push_back(static_cast<std::int32_t>(i));
    }
    each_written(n, [&](value_id v) {
      const auto b = static_cast<std::size_t>(of.base(v));
      mine.insert(mine.end(), readers[b].begin(), readers[b].end());
      last_write[b] = static_cast<std::int32_t>(i);
      readers[b].clear();
    });
    std::sort(mine.begin(), mine.end());
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
    std::erase(mine, static_cast<std::int32_t>(i));
  }
  return before;
}
[[nodiscard]] inline std::vector<std::vector<std::int32_t>> dependencies(const graph& g) {
  return dependencies(g, effects(g));
}

/// The same graph with its nodes in another order.
/// Requires: `order` names each node once and keeps `dependencies`.
[[nodiscard]] inline graph in_order(const graph& g, const std::vector<std::int32_t>& order) {
  graph now;
  copier to(g, now);
  for (const std::int32_t i : order) {
    to.copy(g.nodes[static_cast<std::size_t>(i)]);
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph
