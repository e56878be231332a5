// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

/// A joint graph of a forward and a backward pass in two.
namespace ashlar::graph {

/// Two graphs that compute what one did.
struct split {
  graph forward;   ///< makes its outputs, then the saved values
  graph backward;  ///< takes the saved values, then its own arguments; makes the other outputs
  std::vector<value_id> saved;   ///< of the joint graph
  std::int64_t saved_bytes = 0;  ///< what is kept between the two
  std::int64_t read_bytes = 0;   ///< what would be if nothing was computed again
};

namespace detail {

/// Maximum flow by shortest augmenting paths in levels. Source: Dinic (1970).
class flow_network {
 public:
  static constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max() / 4;

  explicit flow_network(std::size_t nodes) : edges_of_(nodes), level_(nodes), next_(nodes) {}

  void connect(std::size_t from, std::size_t to, std::int64_t capacity) {
    edges_of_[from].push_back(edges_.size());
    edges_.push_back({to, capacity});
    edges_of_[to].push_back(edges_.size());
    edges_.push_back({from, 0});
  }
  /// Sends what goes. Returns: for each node whether more could come there.
  std::vector<bool> cut(std::size_t source, std::size_t sink) {
    while (find_levels(source, sink)) {
      std::fill(next_.begin(), next_.end(), 0);
      while (send(source, sink, no_limit) > 0) {
      }
    }
    std::vector<bool> reached(level_.size());
    std::transform(level_.begin(), level_.end(), reached.begin(), [](int l) { return l >= 0; });
    return reached;
  }

 private:
  struct edge {
    std::size_t to;
    std::int64_t left;
  };

  bool find_levels(std::size_t source, std::size_t sink) {
    std::fill(level_.begin(), level_.end(), -1);
    level_[source] = 0;
    std::vector<std::size_t> ahead{source};
    for (std::size_t i = 0; i < ahead.size(); ++i) {
      for (const std::size_t e : edges_of_[ahead[i]]) {
        const std::size_t to = edges_[e].to;
        if (edges_[e].left > 0 && level_[to] < 0) {
          level_[to] = level_[ahead[i]] + 1;
          ahead.push_back(to);
        }
      }
    }
    return level_[sink] >= 0;
  }
  std::int64_t send(std::size_t from, std::size_t sink, std::int64_t most) {
    if (from == sink) {
      return most;
    }
    for (std::size_t& i = next_[from]; i < edges_of_[from].size(); ++i) {
      const std::size_t e = edges_of_[from][i];
      if (edges_[e].left > 0 && level_[edges_[e].to] == level_[from] + 1) {
        const std::int64_t sent = send(edges_[e].to, sink, std::min(most, edges_[e].left));
        if (sent > 0) {
          edges_[e].left -= sent;
          edges_[e ^ 1].left += sent;
          return sent;
        }
      }
    }
    return 0;
  }

  std::vector<edge> edges_;  // each followed by its way back
  std::vector<std::vector<std::size_t>> edges_of_;
  std::vector<int> level_;
  std::vector<std::size_t> next_;
};

/// Which nodes some values need; `stop` says where to go no further.
template <class Stop>
std::vector<bool> needed(const graph& g, std::span<const value_id> by, const Stop& stop) {
  std::vector<bool> nodes(g.nodes.size());
  std::vector<value_id> ahead(by.begin(), by.end());
  while (!ahead.empty()) {
    const value_id v = ahead.back();
    ahead.pop_back();
    const std::int32_t i = g.values[static_cast<std::size_t>(v)].node;
    if (!stop(v) && !nodes[static_cast<std::size_t>(i)]) {
      nodes[static_cast<std::size_t>(i)] = true;
      const node& n = g.nodes[static_cast<std::size_t>(i)];
      ahead.insert(ahead.end(), n.in.begin(), n.in.end());
    }
  }
  return nodes;
}

}  // namespace detail

/// Whether computing a call again is cheaper than keeping its result: elementwise calls and views.
[[nodiscard]] inline bool is_cheap(const node& n) {
  return n.kind == node_kind::call && (n.op->elementwise || n.op->view || is_blank(n));
}

/// Cuts a joint graph in a forward graph that saves values and a backward graph that takes them.
///
/// The first `forward_outputs` outputs are the forward pass's; what they do not need is the
/// backward's, and so are the last `backward_arguments` placeholders. Of the values between the two
/// those are saved that have the fewest bytes together, where `may_recompute` calls may run a
/// second time in the backward graph: a minimum cut. Views are never saved, what they look at is.
/// Parameters and constants are read where they are.
/// Requires: nobody writes: `functionalise` first, and keep updates of arguments out of the graph.
/// Throws:   `graph_error` where a call writes, or forward outputs need a backward argument.
/// Cost:     a maximum flow over the values.
/// Source:   the cut of AOTAutograd (Ansel et al., "PyTorch 2", 2024).
[[nodiscard]] inline split split_joint(
    const graph& g, std::size_t forward_outputs, std::size_t backward_arguments = 0,
    const std::function<bool(const node&)>& may_recompute = is_cheap) {
  const effects of(g);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    each_written(g.nodes[i], [&](value_id) {
      throw graph_error(static_cast<std::int32_t>(i),
                        "it writes; a joint graph that is split does not");
    });
  }
  const auto nowhere = [](value_id) { return false; };
  const std::span<const value_id> outputs = g.outputs;
  const std::vector<bool> ahead =
      detail::needed(g, outputs.first(std::min(forward_outputs, outputs.size())), nowhere);
  const std::span<const value_id> gradients =
      outputs.subspan(std::min(forward_outputs, outputs.size()));
  const std::vector<bool> behind = detail::needed(g, gradients, nowhere);
  const std::vector<value_id> placeholders = g.made_by(node_kind::placeholder);
  std::vector<bool> late(g.values.size());
  for (std::size_t i = 0; i < std::min(backward_arguments, placeholders.size()); ++i) {
    const value_id v = placeholders[placeholders.size() - 1 - i];
    late[static_cast<std::size_t>(v)] = true;
    if (const std::int32_t n = g.values[static_cast<std::size_t>(v)].node;
        ahead[static_cast<std::size_t>(n)]) {
      throw graph_error(n, "the forward outputs need this argument of the backward pass");
    }
  }
  const auto is_early = [&](value_id v) {  // there when the backward pass begins
    const node& n = g.maker(v);
    return ahead[static_cast<std::size_t>(g.values[static_cast<std::size_t>(v)].node)] ||
           (n.kind == node_kind::placeholder && !late[static_cast<std::size_t>(v)]);
  };
  const auto bytes = [&](value_id v) {
    return g.spec(v).size * static_cast<std::int64_t>(size_of(g.spec(v).type));
  };

  // Each value is an edge from where it is made, 2v, to where it is read, 2v + 1.
  const auto made = [](value_id v) { return 2 * static_cast<std::size_t>(v); };
  const auto read = [](value_id v) { return 2 * static_cast<std::size_t>(v) + 1; };
  const std::size_t source = 2 * g.values.size();
  detail::flow_network net(source + 2);
  std::vector<bool> is_read(g.values.size());  // of a base, by the backward pass
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    for (const value_id v : n.out) {
      if (!is_early(v) || n.data) {
        continue;
      }
      // Of cuts with the same bytes the one with fewer values.
      const auto price = bytes(v) * static_cast<std::int64_t>(g.values.size() + 1) + 1;
      net.connect(made(v), read(v), n.op && n.op->view ? detail::flow_network::no_limit : price);
      if (n.kind == node_kind::placeholder || !may_recompute(n)) {
        net.connect(source, made(v), detail::flow_network::no_limit);
      }
      for (const value_id x : n.in) {
        net.connect(read(x), made(v), detail::flow_network::no_limit);
      }
    }
  }
  const auto to_sink = [&](value_id v) {
    if (is_early(v) && !g.maker(v).data) {
      net.connect(read(v), source + 1, detail::flow_network::no_limit);
      is_read[static_cast<std::size_t>(of.base(v))] = !g.maker(of.base(v)).data;
    }
  };
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (behind[i] && !ahead[i]) {
      std::for_each(g.nodes[i].in.begin(), g.nodes[i].in.end(), to_sink);
    }
  }
  std::for_each(gradients.begin(), gradients.end(), to_sink);
  const std::vector<bool> reached = net.cut(source, source + 1);

  split two;
  std::vector<bool> is_saved(g.values.size());
  for (std::size_t u = 0; u < g.values.size(); ++u) {
    const auto v = static_cast<value_id>(u);
    if (is_early(v) && !g.maker(v).data && reached[made(v)] && !reached[read(v)]) {
      is_saved[u] = true;
      two.saved.push_back(v);
      two.saved_bytes += bytes(v);
    }
    two.read_bytes += is_read[u] ? bytes(v) : 0;
  }

  copier forward(g, two.forward);
  std::vector<value_id> ends(
      outputs.begin(),
      outputs.begin() + static_cast<std::ptrdiff_t>(std::min(forward_outputs, outputs.size())));
  ends.insert(ends.end(), two.saved.begin(), two.saved.end());
  const std::vector<bool> runs_ahead = detail::needed(g, ends, nowhere);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    if (n.kind == node_kind::placeholder ? !late[static_cast<std::size_t>(n.out[0])]
                                         : runs_ahead[i]) {
      forward.copy(n);
    }
  }
  for (const value_id v : ends) {
    two.forward.outputs.push_back(forward(v));
  }

  copier backward(g, two.backward);
  const std::vector<bool> runs_behind = detail::needed(
      g, gradients, [&](value_id v) { return is_saved[static_cast<std::size_t>(v)]; });
  for (std::size_t i = 0; i < two.saved.size(); ++i) {
    const value_id v = two.saved[i];
    const std::int32_t place =
        two.backward.add({.kind = node_kind::placeholder, .name = "saved" + std::to_string(i)},
                         std::span(&g.spec(v), 1));
    backward.set(v, two.backward.nodes[static_cast<std::size_t>(place)].out[0]);
  }
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    if (n.kind == node_kind::placeholder ? late[static_cast<std::size_t>(n.out[0])]
                                         : runs_behind[i]) {
      backward.copy(n);
    }
  }
  for (const value_id v : gradients) {
    two.backward.outputs.push_back(backward(v));
  }
  return two;
}

}  // namespace ashlar::graph
