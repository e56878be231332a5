// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// How the nodes of one dimension are joined.
enum class wiring : std::uint8_t {
  ring,      ///< neighbours, and the last with the first
  line,      ///< neighbours
  full,      ///< a link from each to each
  star,      ///< a switch: a link up and one down for each
  fat_tree,  ///< switches of `arity` ports down, as wide upwards as below
};

/// One dimension of a network; every link has two directions that do not disturb each other.
struct dimension {
  wiring how = wiring::full;
  int size = 1;
  double latency = 1e-6;    ///< [s] per link
  double bandwidth = 1e10;  ///< [bytes/s] per link and direction
  int arity = 2;            ///< of a fat tree
};

/// One link on a message's way.
struct hop {
  std::uint64_t link;
  double latency;
  double bandwidth;
};

/// Ranks on a grid of dimensions, the first one fastest; messages go dimension by dimension.
///
/// One dimension is a ring, a switch and so on; several rings are a torus, several lines a mesh,
/// and different ones a cluster of nodes. `plan::network`, which counts how many routes share a
/// link but runs nothing, means the same by order, link and latency.
class topology {
 public:
  /// Throws: `argument_error` for a dimension without nodes, a link without bandwidth, or more than
  ///         2^31 - 1 ranks.
  explicit topology(std::vector<dimension> dimensions) : dimensions_(std::move(dimensions)) {
    for (const dimension& d : dimensions_) {
      if (d.size < 1 || !(d.bandwidth > 0) || !(d.latency >= 0) || d.arity < 2) {
        throw argument_error("ashlar::comm::topology",
                             "a dimension has " + std::to_string(d.size) + " nodes, latency " +
                                 std::to_string(d.latency) + ", bandwidth " +
                                 std::to_string(d.bandwidth) + ", arity " +
                                 std::to_string(d.arity) +
                                 "; give it nodes, bandwidth and an arity of 2 or more");
      }
      if (d.size > std::numeric_limits<int>::max() / ranks_) {
        throw argument_error("ashlar::comm::topology", "more than 2^31 - 1 ranks");
      }
      ranks_ *= d.size;
    }
  }

  [[nodiscard]] int ranks() const { return ranks_; }
  [[nodiscard]] const std::vector<dimension>& dimensions() const { return dimensions_; }

  /// Effects: `out` holds the links from one rank to another, in order; none to itself.
  void route(int from, int to, std::vector<hop>& out) const {
    out.clear();
    int stride = 1;
    int at = from;
    for (std::size_t i = 0; i < dimensions_.size(); ++i) {
      const dimension& d = dimensions_[i];
      const int a = at / stride % d.size;
      const int b = to / stride % d.size;
      if (a != b) {
        across(i, d, at, a, b, stride, out);
      }
      at += (b - a) * stride;
      stride *= d.size;
    }
  }

 private:
  static std::uint64_t name(std::size_t dimension, int sort, std::int64_t node) {
    return (static_cast<std::uint64_t>(dimension) << 56) |
           (static_cast<std::uint64_t>(sort) << 48) | static_cast<std::uint64_t>(node);
  }

  void across(std::size_t i, const dimension& d, int at, int a, int b, int stride,
              std::vector<hop>& out) const {
    const auto link = [&](int sort, std::int64_t node, double width = 1) {
      out.push_back({name(i, sort, node), d.latency, d.bandwidth * width});
    };
    switch (d.how) {
      case wiring::ring:
      case wiring::line: {
        const int ahead = (b - a + d.size) % d.size;
        const bool forward = d.how == wiring::line ? b > a : ahead * 2 <= d.size;
        for (int k = a; k != b; k = (k + (forward ? 1 : d.size - 1)) % d.size) {
          link(forward ? 0 : 1, at + (k - a) * stride);
        }
        break;
      }
      case wiring::full:
        link(0, static_cast<std::int64_t>(at) * d.size + b);
        break;
      case wiring::star:
        link(0, at);
        link(1, at + (b - a) * stride);
        break;
      case wiring::fat_tree: {
        // A switch is named by its level and the first node below it.
        const int base = at - a * stride;
        std::int64_t below = 1;
        int level = 0;
        for (; a / below != b / below; below *= d.arity, ++level) {
          link(2 * level, base + a / below * below * stride, static_cast<double>(below));
        }
        const std::size_t up = out.size();
        below = 1;
        for (int k = 0; k < level; ++k, below *= d.arity) {
          link(2 * k + 1, base + b / below * below * stride, static_cast<double>(below));
        }
        std::reverse(out.begin() + static_cast<std::ptrdiff_t>(up), out.end());
        break;
      }
    }
  }

  std::vector<dimension> dimensions_;
  int ranks_ = 1;
};

/// A topology and what work costs beside it.
struct network {
  topology wires;
  double overhead = 0;     ///< [s] per message, before its first link
  double reduce_cost = 0;  ///< [s/byte] of what is reduced
  /// Messages wait for links; a link carries one at a time. Where false they cut through, and do
  /// not meet each other: `overhead + latencies + bytes / least bandwidth`.
  bool contention = true;
  /// With contention, how much of a message a node must have before it passes it on: 0 stores
  /// whole messages at every hop, a network's packet lets them cut through where links are free.
  /// Source: virtual cut-through (Kermani and Kleinrock, 1979).
  double packet_bytes = 0;
};

namespace presets {

inline topology ring(int ranks, double latency, double bandwidth) {
  return topology({{wiring::ring, ranks, latency, bandwidth}});
}
inline topology fully_connected(int ranks, double latency, double bandwidth) {
  return topology({{wiring::full, ranks, latency, bandwidth}});
}
inline topology switched(int ranks, double latency, double bandwidth) {
  return topology({{wiring::star, ranks, latency, bandwidth}});
}
inline topology fat_tree(int ranks, double latency, double bandwidth, int arity = 2) {
  return topology({{wiring::fat_tree, ranks, latency, bandwidth, arity}});
}
inline topology grid(const std::vector<int>& sizes, double latency, double bandwidth, bool wraps) {
  std::vector<dimension> d;
  for (const int size : sizes) {
    d.push_back({wraps ? wiring::ring : wiring::line, size, latency, bandwidth});
  }
  return topology(std::move(d));
}

}  // namespace presets

}  // namespace ashlar::comm
