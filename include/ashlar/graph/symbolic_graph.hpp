// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/expression.hpp"
#include "ashlar/graph/graph.hpp"

/// A graph whose sizes have names: what `capture` with symbols makes.
namespace ashlar::graph {

/// A size with a name: an extent of one or several arguments that takes any value in a range.
struct symbol {
  struct place {
    int argument;  ///< among the tensors
    int axis;
  };
  std::string name;
  std::int64_t least = 1, most = 1;
  std::vector<place> places{};

  /// Returns: the same size as one more extent, axis `axis` of tensor `argument`.
  [[nodiscard]] symbol of(int argument, int axis) const {
    symbol more = *this;
    more.places.push_back({argument, axis});
    return more;
  }
};
/// `dim("T", 1, 2048).of(0, 1)`: axis 1 of the first argument.
[[nodiscard]] inline symbol dim(std::string name, std::int64_t least, std::int64_t most) {
  return {std::move(name), least, most};
}

/// What must hold for a graph to be the right one.
struct guard {
  std::string holds;    ///< `T == 16`
  std::string because;  ///< how the graph is another one otherwise
};

/// A graph, and how its attributes follow from sizes.
struct symbolic_graph {
  /// An attribute of a node, or one extent of it, that is not the same at all sizes.
  struct varying {
    std::size_t node, attribute;
    int extent;  ///< -1: the attribute itself
    expression is;
  };

  graph base;                   ///< at the sizes of the examples
  std::vector<symbol> symbols;  ///< with the ranges that the graph is for
  std::vector<varying> attributes;
  std::vector<guard> guards;  ///< where a range is less than was asked for

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const symbol& s : symbols) {
      all.push_back(s.name);
    }
    return all;
  }
  /// A node's attributes at some sizes.
  [[nodiscard]] std::vector<attribute> attributes_of(std::size_t node,
                                                     std::span<const std::int64_t> at) const {
    std::vector<attribute> all = base.nodes[node].attributes;
    for (const varying& v : attributes) {
      if (v.node != node) {
        continue;
      }
      attribute& a = all[v.attribute];
      if (v.extent >= 0) {
        auto extents = a.as<shape>();
        extents[v.extent] = v.is.whole(at);
        a = attribute(extents);
      } else if (v.is.real) {
        a = attribute(v.is.value(at));
      } else {
        a = attribute(v.is.whole(at));
      }
    }
    return all;
  }
  /// The graph at some sizes, which is what a capture there would give.
  ///
  /// Cost: a `meta` per node. Throws: what those throw.
  [[nodiscard]] graph at(std::span<const std::int64_t> size) const;
  /// Throws: `guard_error` where arguments disagree on a size or it is out of the graph's range.
  [[nodiscard]] sizes sizes_of(std::span<const tensor_handle> arguments) const;
};

inline graph symbolic_graph::at(std::span<const std::int64_t> size) const {
  graph g;
  int argument = 0;
  for (std::size_t i = 0; i < base.nodes.size(); ++i) {
    const node& n = base.nodes[i];
    if (n.kind == node_kind::call) {
      g.call(n.op, n.in, attributes_of(i, size), n.where);
      continue;
    }
    tensor_spec s = base.spec(n.out[0]);
    if (n.kind == node_kind::placeholder) {
      shape extents(s.shape());
      bool changed = false;
      for (std::size_t k = 0; k < symbols.size(); ++k) {
        for (const symbol::place& p : symbols[k].places) {
          if (p.argument == argument) {
            changed = changed || extents[p.axis] != size[k];
            extents[p.axis] = size[k];
          }
        }
      }
      if (changed) {
        s = contiguous_spec(s.type, extents.span());
      }
      ++argument;
    }
    g.add(n, std::array{s});
  }
  g.outputs = base.outputs;
  return g;
}

inline sizes symbolic_graph::sizes_of(std::span<const tensor_handle> arguments) const {
  sizes found;
  for (const symbol& s : symbols) {
    for (const symbol::place& p : s.places) {
      const auto a = static_cast<std::size_t>(p.argument);
      if (a >= arguments.size() || !arguments[a] || arguments[a].rank() <= p.axis) {
        throw guard_error(s.name + " is axis " + std::to_string(p.axis) + " of argument " +
                          std::to_string(p.argument));
      }
      const std::int64_t n = arguments[a].extent(p.axis);
      if (&p == &s.places[0]) {
        found.push_back(n);
      } else if (n != found.back()) {
        throw guard_error(s.name + " is one size, not " + std::to_string(found.back()) + " and " +
                          std::to_string(n));
      }
    }
    if (found.back() < s.least || found.back() > s.most) {
      std::string range = s.least == s.most ? s.name + " == " + std::to_string(s.least)
                                            : s.name + " from " + std::to_string(s.least) + " to " +
                                                  std::to_string(s.most);
      for (const guard& g : guards) {
        range += g.holds == range ? ", because " + g.because : "";
      }
      throw guard_error(range + "; it is " + std::to_string(found.back()));
    }
  }
  return found;
}

}  // namespace ashlar::graph
