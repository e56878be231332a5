// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/graph.hpp"

/// The backend that runs a graph node by node.
namespace ashlar::graph {

/// Arguments that a compiled graph was not made for.
struct guard_error final : error {
  std::string guard;  ///< what must hold

  explicit guard_error(std::string must_hold,
                       std::source_location at = std::source_location::current())
      : error(at), guard(std::move(must_hold)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph: the graph was not captured for these arguments: " + guard;
  }
};

namespace detail {

/// The argument for a placeholder. Throws: `guard_error` where it is not like the placeholder.
inline const tensor_handle& argument(const graph& g, const node& n,
                                     std::span<const tensor_handle> arguments, std::size_t place) {
  if (place >= arguments.size()) {
    throw guard_error("argument " + n.name + " is missing");
  }
  const tensor_handle& x = arguments[place];
  const tensor_spec& wanted = g.spec(n.out[0]);
  if (!x) {
    throw guard_error("argument " + n.name + " is no tensor");
  }
  if (x.spec().type != wanted.type || !same_shape(x.spec(), wanted)) {
    throw guard_error(n.name + " is " + std::string(name_of(wanted.type)) +
                      to_string(wanted.shape()) + ", not " + std::string(name_of(x.spec().type)) +
                      to_string(x.shape()));
  }
  return x;
}

}  // namespace detail

/// A graph that can be called: tensors in the order of the placeholders, results in the order of
/// the outputs. Not to be called from two threads at once.
class interpreted {
 public:
  explicit interpreted(graph g) : graph_(std::move(g)), dies_after_(graph_.nodes.size()) {
    verify(graph_);
    std::vector<std::int32_t> last(graph_.values.size(), -1);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const value_id v : graph_.nodes[i].in) {
        last[static_cast<std::size_t>(v)] = static_cast<std::int32_t>(i);
      }
      for (const value_id v : graph_.nodes[i].out) {
        last[static_cast<std::size_t>(v)] = static_cast<std::int32_t>(i);
      }
    }
    for (const value_id v : graph_.outputs) {
      last[static_cast<std::size_t>(v)] = -1;
    }
    for (std::size_t v = 0; v < last.size(); ++v) {
      if (last[v] >= 0) {
        dies_after_[static_cast<std::size_t>(last[v])].push_back(static_cast<value_id>(v));
      }
    }
  }

  [[nodiscard]] const graph& source() const { return graph_; }

  /// Throws: `guard_error` for another number of arguments, or other element types or shapes than
  /// the graph has; what the operations throw.
  [[nodiscard]] std::vector<tensor_handle> operator()(std::span<const tensor_handle> arguments) {
    std::vector<tensor_handle> at(graph_.values.size());
    std::vector<tensor_handle> in;
    std::vector<tensor_handle> out;
    std::size_t next = 0;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const node& n = graph_.nodes[i];
      if (n.kind == node_kind::placeholder) {
        at[static_cast<std::size_t>(n.out[0])] = detail::argument(graph_, n, arguments, next++);
      } else if (n.kind != node_kind::call) {
        at[static_cast<std::size_t>(n.out[0])] = n.data;
      } else {
        in.clear();
        for (const value_id v : n.in) {
          in.push_back(at[static_cast<std::size_t>(v)]);
        }
        out.assign(n.out.size(), {});
        n.op->run(in, n.attributes, out);
        for (std::size_t r = 0; r < out.size(); ++r) {
          at[static_cast<std::size_t>(n.out[r])] = std::move(out[r]);
        }
        in.clear();
      }
      for (const value_id v : dies_after_[i]) {
        at[static_cast<std::size_t>(v)] = {};
      }
    }
    if (next != arguments.size()) {
      throw guard_error("it takes " + std::to_string(next) + " tensors, not " +
                        std::to_string(arguments.size()));
    }
    std::vector<tensor_handle> results;
    for (const value_id v : graph_.outputs) {
      results.push_back(at[static_cast<std::size_t>(v)]);
    }
    return results;
  }
  template <Tensor... X>
  [[nodiscard]] std::vector<tensor_handle> operator()(const X&... arguments) {
    const std::array<tensor_handle, sizeof...(X)> all{arguments...};
    return (*this)(std::span<const tensor_handle>(all));
  }

 private:
  graph graph_;
  std::vector<std::vector<value_id>> dies_after_;
};

/// Runs each call by the kernel that it would have reached: the interpreter of graphs.
struct eager {
  [[nodiscard]] interpreted compile(graph g) const { return interpreted(std::move(g)); }
};

}  // namespace ashlar::graph
