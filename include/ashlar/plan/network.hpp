// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

/// How ranks are wired, and what it costs when they all talk at once.
namespace ashlar::plan {

/// One direction of a cable: of two that go through a switch, each has its own latency.
struct wire {
  double bandwidth = 1e9;  ///< [bytes/s]
  double latency = 1e-6;   ///< [s]
  friend constexpr bool operator==(const wire&, const wire&) = default;
};

/// Places for ranks, directed links between them, and one route from each to each.
///
/// A link is a number; nothing is stored per link or route, so 10,000 places cost nothing. Where a
/// `comm::topology` of rings, or of one star, has the same dimensions, both have the same routes,
/// latencies and bandwidths.
class network {
 public:
  /// A grid whose lines are closed to rings, ranks numbered along the first dimension first;
  /// messages go along it first, too, each time the shorter way. One extent: a ring.
  ///
  /// Throws: `argument_error` where an extent or the bandwidth is not positive.
  [[nodiscard]] static network torus(std::vector<int> extents, wire w) {
    network n;
    for (const int e : extents) {
      n.require(e > 0 && e <= std::numeric_limits<int>::max() / n.size_, "an extent", e);
      n.size_ *= e;
    }
    n.extents_ = std::move(extents);
    n.require(w.bandwidth > 0 && w.latency >= 0, "the bandwidth", w.bandwidth);
    n.inside_ = n.outside_ = w;
    return n;
  }
  [[nodiscard]] static network ring(int ranks, wire w) { return torus({ranks}, w); }

  /// Nodes of `per_node` ranks around a switch, joined by a network that is never the limit beyond
  /// a node's `adapters`, which its ranks share evenly; 0: each has its own.
  ///
  /// Throws: `argument_error` where a number is not positive or adapters are shared unevenly.
  [[nodiscard]] static network nodes(int count, int per_node, wire inside, wire outside,
                                     int adapters = 0) {
    network n;
    n.require(count > 0, "the number of nodes", count);
    n.require(per_node > 0 && per_node <= std::numeric_limits<int>::max() / count,
              "the number of ranks per node", per_node);
    adapters = adapters == 0 ? per_node : adapters;
    n.require(adapters > 0 && per_node % adapters == 0, "the number of adapters per node",
              adapters);
    n.require(inside.bandwidth > 0 && inside.latency >= 0, "the bandwidth", inside.bandwidth);
    n.require(outside.bandwidth > 0 && outside.latency >= 0, "the bandwidth", outside.bandwidth);
    n.size_ = count * per_node;
    n.per_node_ = per_node;
    n.sharing_ = per_node / adapters;
    n.inside_ = inside;
    n.outside_ = outside;
    return n;
  }

  [[nodiscard]] int size() const { return size_; }
  /// Ranks that a switch joins; 1 where there are no nodes.
  [[nodiscard]] int per_node() const { return per_node_; }
  /// Links are numbered below this.
  [[nodiscard]] std::size_t links() const {
    return static_cast<std::size_t>(size_) * (extents_.empty() ? 4 : 2 * extents_.size());
  }
  [[nodiscard]] wire of_link(std::size_t link) const {
    return extents_.empty() && link % 4 >= 2 ? outside_ : inside_;
  }
  /// The bandwidth of the fastest link.
  [[nodiscard]] double fastest() const {
    return per_node_ == 1 && extents_.empty() ? outside_.bandwidth
                                              : std::max(inside_.bandwidth, outside_.bandwidth);
  }

  /// Calls `visit(link)` for the links on the way, in order; none where `from` is `to`.
  /// Requires: both are below `size()`.
  template <class Visit>
  void route(int from, int to, const Visit& visit) const {
    if (from == to) {
      return;
    }
    if (extents_.empty()) {
      const bool near = from / per_node_ == to / per_node_;
      const auto at = [&](int rank) {  // the first of those that share an adapter stands for it
        return static_cast<std::size_t>(near ? rank : rank - rank % per_node_ % sharing_) * 4;
      };
      visit(at(from) + (near ? 0 : 2));
      visit(at(to) + (near ? 1 : 3));
      return;
    }
    int stride = 1;
    for (std::size_t d = 0; d < extents_.size(); ++d) {
      const int extent = extents_[d];
      const int here = from / stride % extent, there = to / stride % extent;
      const int up = (there - here + extent) % extent;
      const bool ascending = 2 * up <= extent;
      for (int left = ascending ? up : extent - up, at = here; left > 0; --left) {
        visit((static_cast<std::size_t>(from + (at - here) * stride) * extents_.size() + d) * 2 +
              (ascending ? 0 : 1));
        at = (at + (ascending ? 1 : extent - 1)) % extent;
      }
      from += (there - here) * stride;
      stride *= extent;
    }
  }

 private:
  template <class N>
  void require(bool holds, const char* what, N given) const {
    if (!holds) {
      throw argument_error(
          "ashlar::plan::network",
          std::string(what) + " is " + std::to_string(given) + "; that makes no network");
    }
  }

  std::vector<int> extents_;  // of a torus
  int size_ = 1, per_node_ = 1, sharing_ = 1;
  wire inside_, outside_;
};

/// What it costs to send messages of one size between many pairs at once.
struct traffic {
  double per_byte = 0;  ///< of each message, where the busiest link is shared [s]
  double latency = 0;   ///< of the longest route [s]
  double slowest = std::numeric_limits<double>::infinity();  ///< link that is crossed [bytes/s]
  int hops = 0;                                              ///< of the longest route

  [[nodiscard]] double seconds(double bytes) const { return latency + bytes * per_byte; }
};

/// Cost: the links of all routes.
[[nodiscard]] inline traffic all_at_once(const network& net,
                                         std::span<const std::pair<int, int>> pairs) {
  traffic t;
  std::vector<int> load(net.links());
  for (const auto& [from, to] : pairs) {
    double latency = 0;
    int hops = 0;
    net.route(from, to, [&](std::size_t link) {
      const wire w = net.of_link(link);
      t.per_byte = std::max(t.per_byte, ++load[link] / w.bandwidth);
      t.slowest = std::min(t.slowest, w.bandwidth);
      latency += w.latency;
      ++hops;
    });
    t.latency = std::max(t.latency, latency);
    t.hops = std::max(t.hops, hops);
  }
  return t;
}

/// Groups of ranks, all of one shape, whose members lie `stride` apart: as the groups along a
/// dimension of a mesh do. What collectives cost them when all groups do the same at once.
///
/// Around a ring, or where each group has several members in each of several nodes, in two levels:
/// within the nodes, then between them with every member's share; whichever takes less.
class group_cost {
 public:
  /// Requires: `stride * size` divides the network's size.
  group_cost(const network& net, int stride, int size) : size_(size) {
    if (size <= 1) {
      return;
    }
    flat_ = around(net, stride, size);
    const int inside = std::max(1, net.per_node() / stride);
    if (inside > 1 && inside < size && size % inside == 0 && net.per_node() % stride == 0) {
      inner_size_ = inside;
      inner_ = around(net, stride, inside);
      outer_ = around(net, stride * inside, size / inside);
    }
  }

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] const traffic& neighbours() const { return flat_; }
  /// Every member ends with `bytes`, of which it had its share.
  [[nodiscard]] double all_gather(double bytes) const {
    const double ring = pass(flat_, size_, bytes);
    if (inner_size_ == 0) {
      return ring;
    }
    const double two =
        pass(outer_, size_ / inner_size_, bytes / inner_size_) + pass(inner_, inner_size_, bytes);
    return std::min(ring, two);
  }
  [[nodiscard]] double reduce_scatter(double bytes) const { return all_gather(bytes); }
  [[nodiscard]] double all_reduce(double bytes) const { return 2 * all_gather(bytes); }

 private:
  static traffic around(const network& net, int stride, int size) {
    std::vector<std::pair<int, int>> pairs;
    pairs.reserve(static_cast<std::size_t>(net.size()));
    for (int rank = 0; rank < net.size(); ++rank) {
      const int place = rank / stride % size;
      pairs.emplace_back(rank, place + 1 < size ? rank + stride : rank - place * stride);
    }
    return all_at_once(net, pairs);
  }
  static double pass(const traffic& t, int size, double bytes) {
    return (size - 1) * t.seconds(bytes / size);
  }

  int size_ = 1, inner_size_ = 0;
  traffic flat_, inner_, outer_;
};

}  // namespace ashlar::plan
