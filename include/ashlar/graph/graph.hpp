// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/operation.hpp"

/// A program as data: calls of operators in order, and the values between them.
namespace ashlar::graph {

enum class node_kind : std::uint8_t {
  placeholder,  ///< an argument of the captured function
  parameter,    ///< a tensor from outside, which later calls may find changed
  constant,     ///< a tensor that is the graph's own
  call,
};

/// One step. Nodes stand in an order in which they can run.
struct node {
  node_kind kind = node_kind::call;
  operation_ref op{};                   ///< of a call
  std::vector<value_id> in{};           ///< tensor arguments, in the schema's order
  std::vector<attribute> attributes{};  ///< in the order of `meta`
  std::vector<value_id> out{};          ///< one for each result
  std::string name{};                   ///< of a placeholder or parameter
  tensor_handle data{};                 ///< of a parameter or constant
  std::source_location where{};         ///< the user's call; line 0 where a pass has made it
};

/// What flows: made by one node, read by any number after it.
struct value {
  tensor_spec spec;
  std::int32_t node = -1;  ///< that makes it
  std::int32_t place = 0;  ///< among that node's results
};

/// A graph that breaks a rule.
struct graph_error final : error {
  std::int32_t node;  ///< at fault; -1: the graph as a whole
  std::string rule;   ///< a sentence

  graph_error(std::int32_t at_node, std::string broken,
              std::source_location at = std::source_location::current())
      : error(at), node(at_node), rule(std::move(broken)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph: " + (node < 0 ? "" : "node " + std::to_string(node) + ": ") + rule;
  }
};

/// Nodes in an order in which they can run, the values between them, and which of those come out.
///
/// A value type: passes take one and return another. Ids are places in the lists.
struct graph {
  std::vector<node> nodes;
  std::vector<value> values;
  std::vector<value_id> outputs;

  /// Appends a node and the values it makes. Returns: its place.
  std::int32_t add(node n, std::span<const tensor_spec> results) {
    const auto place = static_cast<std::int32_t>(nodes.size());
    n.out.clear();
    for (const tensor_spec& s : results) {
      n.out.push_back(static_cast<value_id>(values.size()));
      values.push_back({s, place, static_cast<std::int32_t>(n.out.size() - 1)});
    }
    nodes.push_back(std::move(n));
    return place;
  }
  /// Appends a call. Returns: its results. Throws: what the operation's `meta` throws.
  std::vector<value_id> call(operation_ref op, std::vector<value_id> in,
                             std::vector<attribute> attributes = {},
                             std::source_location where = {}) {
    std::vector<tensor_spec> specs;
    for (const value_id v : in) {
      specs.push_back(spec(v));
    }
    const std::vector<tensor_spec> results = op->meta(specs, attributes);
    return nodes[static_cast<std::size_t>(add({.op = std::move(op),
                                               .in = std::move(in),
                                               .attributes = std::move(attributes),
                                               .where = where},
                                              results))]
        .out;
  }

  [[nodiscard]] const tensor_spec& spec(value_id v) const {
    return values[static_cast<std::size_t>(v)].spec;
  }
  [[nodiscard]] const node& maker(value_id v) const {
    return nodes[static_cast<std::size_t>(values[static_cast<std::size_t>(v)].node)];
  }
  [[nodiscard]] bool is_output(value_id v) const {
    return std::find(outputs.begin(), outputs.end(), v) != outputs.end();
  }
  /// The nodes that read each value, in order; a node that reads one twice stands there twice.
  [[nodiscard]] std::vector<std::vector<std::int32_t>> users() const {
    std::vector<std::vector<std::int32_t>> readers(values.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      for (const value_id v : nodes[i].in) {
        readers[static_cast<std::size_t>(v)].push_back(static_cast<std::int32_t>(i));
      }
    }
    return readers;
  }
  [[nodiscard]] std::vector<value_id> made_by(node_kind kind) const {
    std::vector<value_id> found;
    for (const node& n : nodes) {
      if (n.kind == kind) {
        found.push_back(n.out[0]);
      }
    }
    return found;
  }
};

/// Whether a node is a call of `Op`, whatever the types and the form.
template <class Op>
[[nodiscard]] bool is_call_of(const node& n) {
  return n.kind == node_kind::call && n.op->id == &op_id<Op>;
}

/// Throws: `graph_error` where a node reads what is not made before it, has arguments of other
/// types or numbers than its operation, results other than its `meta`, or the lists contradict each
/// other.
inline void verify(const graph& g) {
  const auto fail = [](std::size_t at, std::string rule) {
    throw graph_error(static_cast<std::int32_t>(at), std::move(rule));
  };
  std::size_t made = 0;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    for (const value_id v : n.in) {
      if (v < 0 || static_cast<std::size_t>(v) >= g.values.size() ||
          g.values[static_cast<std::size_t>(v)].node >= static_cast<std::int32_t>(i)) {
        fail(i, "it reads value " + std::to_string(v) + ", which no node before it makes");
      }
    }
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      const auto v = static_cast<std::size_t>(n.out[r]);
      if (n.out[r] < 0 || v >= g.values.size() ||
          g.values[v].node != static_cast<std::int32_t>(i) ||
          g.values[v].place != static_cast<std::int32_t>(r)) {
        fail(i, "value " + std::to_string(n.out[r]) + " does not say that this node makes it");
      }
      ++made;
    }
    if (n.kind != node_kind::call) {
      if (n.out.size() != 1 || !n.in.empty() || n.op) {
        fail(i, "what is no call has one result, no arguments and no operation");
      }
      const bool needs_data = n.kind != node_kind::placeholder;
      if (needs_data != static_cast<bool>(n.data)) {
        fail(i,
             needs_data ? "a parameter or constant has its tensor" : "a placeholder has no tensor");
      }
      continue;
    }
    if (!n.op) {
      fail(i, "a call has an operation");
    }
    if (n.in.size() != n.op->argument_types.size() ||
        n.attributes.size() != n.op->attribute_kinds.size() ||
        n.out.size() != n.op->result_types.size()) {
      fail(i, std::string(n.op->name) +
                  " has another number of arguments, attributes or results than its operation");
    }
    std::vector<tensor_spec> specs;
    for (std::size_t a = 0; a < n.in.size(); ++a) {
      specs.push_back(g.spec(n.in[a]));
      if (specs.back().type != n.op->argument_types[a]) {
        fail(i, "argument " + std::to_string(a) + " of " + std::string(n.op->name) + " is " +
                    std::string(name_of(specs.back().type)) + ", not " +
                    std::string(name_of(n.op->argument_types[a])));
      }
    }
    for (std::size_t a = 0; a < n.attributes.size(); ++a) {
      if (n.attributes[a].what() != n.op->attribute_kinds[a]) {
        fail(i, "attribute " + std::to_string(a) + " of " + std::string(n.op->name) +
                    " is of another kind than its operation takes");
      }
    }
    const std::vector<tensor_spec> results = n.op->meta(specs, n.attributes);
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      const tensor_spec& said = g.spec(n.out[r]);
      if (results[r].type != said.type || !same_shape(results[r], said)) {
        fail(i, "result " + std::to_string(r) + " of " + std::string(n.op->name) + " is " +
                    to_string(said.shape()) + ", and its meta says " +
                    to_string(results[r].shape()));
      }
    }
  }
  if (made != g.values.size()) {
    throw graph_error(-1, "there are values that no node makes");
  }
  for (const value_id v : g.outputs) {
    if (v < 0 || static_cast<std::size_t>(v) >= g.values.size()) {
      throw graph_error(-1, "output " + std::to_string(v) + " is no value");
    }
  }
}

/// Copies nodes of one graph to another one, value by value: what most passes are made of.
class copier {
 public:
  copier(const graph& from, graph& to)
      : from_(&from), to_(&to), map_(from.values.size(), no_value) {}

  /// What stands for a value of the old graph in the new one. Requires: it was copied or set.
  [[nodiscard]] value_id operator()(value_id v) const { return map_[static_cast<std::size_t>(v)]; }
  void set(value_id old, value_id now) { map_[static_cast<std::size_t>(old)] = now; }

  /// Appends a node as it is, with what stands for its arguments. Returns: its place.
  std::int32_t copy(const node& n) {
    node now = n;
    std::vector<tensor_spec> specs;
    for (value_id& v : now.in) {
      v = (*this)(v);
    }
    for (const value_id v : n.out) {
      specs.push_back(from_->spec(v));
    }
    const std::int32_t place = to_->add(std::move(now), specs);
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      set(n.out[r], to_->nodes[static_cast<std::size_t>(place)].out[r]);
    }
    return place;
  }
  /// After the last node.
  void copy_outputs() {
    for (const value_id v : from_->outputs) {
      to_->outputs.push_back((*this)(v));
    }
  }

 private:
  const graph* from_;
  graph* to_;
  std::vector<value_id> map_;
};

}  // namespace ashlar::graph
