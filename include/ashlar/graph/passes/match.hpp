// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"

/// Finding one graph within another.
namespace ashlar::graph {

/// A pattern or replacement that is none.
struct pattern_error final : error {
  std::string rule;  ///< a sentence

  explicit pattern_error(std::string broken,
                         std::source_location at = std::source_location::current())
      : error(at), rule(std::move(broken)) {}

 private:
  [[nodiscard]] std::string message() const override { return "ashlar::graph::pattern: " + rule; }
};

/// A place where a graph is like a pattern.
struct match {
  std::int32_t anchor = -1;         ///< the node that makes the pattern's output
  value_id output = no_value;       ///< the value found for that output
  std::vector<std::int32_t> nodes;  ///< for each node of the pattern the one found; -1: an argument
  std::vector<value_id> values;     ///< for each value of the pattern the one found
  std::vector<value_id> arguments;  ///< for each placeholder of the pattern the value found
};

/// What a match needs beside equal calls.
struct match_options {
  /// Whether a match counts: a look at shapes, numbers, users.
  std::function<bool(const graph&, const match&)> guard{};
  /// Whether attribute `which` of a pattern's call may differ from that of the call found.
  std::function<bool(const node& pattern, const node& found, std::size_t which)> wildcard{};
};
/// A wildcard for every attribute.
inline constexpr auto any_attribute = [](const node&, const node&, std::size_t) { return true; };

namespace detail {

/// Calls of one operator on the same element types, whatever the keys of the tensors were.
[[nodiscard]] inline bool same_operation(const operation& a, const operation& b) {
  return &a == &b || (a.id != nullptr && a.id == b.id && a.form == b.form &&
                      std::equal(a.argument_types.begin(), a.argument_types.end(),
                                 b.argument_types.begin(), b.argument_types.end()) &&
                      std::equal(a.result_types.begin(), a.result_types.end(),
                                 b.result_types.begin(), b.result_types.end()));
}

/// Looks for one pattern in one graph.
class matcher {
 public:
  matcher(const graph& g, const graph& pattern) : g_(g), of_(g), users_(g.users()) { use(pattern); }

  /// Takes another pattern.
  /// Throws: `pattern_error` for no output or several, no call, or calls that write.
  void use(const graph& pattern) {
    pattern_ = &pattern;
    if (pattern.outputs.size() != 1) {
      throw pattern_error("it has " + std::to_string(pattern.outputs.size()) +
                          " outputs; a pattern has one");
    }
    if (pattern.maker(pattern.outputs[0]).kind != node_kind::call) {
      throw pattern_error("its output is no call; a pattern has at least one");
    }
    for (const node& n : pattern.nodes) {
      if (n.kind == node_kind::call && n.op->writes != 0) {
        throw pattern_error("it writes to its arguments (" + std::string(n.op->name) +
                            "); use functional calls");
      }
    }
  }

  /// The match whose output is made by node `anchor`. Attributes that are extents count only where
  /// `exact`. Returns: whether there is one.
  [[nodiscard]] bool at(std::int32_t anchor, const match_options& options, bool exact, match& m) {
    options_ = &options;
    exact_ = exact;
    m = {.anchor = anchor,
         .output = no_value,
         .nodes = std::vector<std::int32_t>(pattern_->nodes.size(), -1),
         .values = std::vector<value_id>(pattern_->values.size(), no_value),
         .arguments = {}};
    const value_id output = pattern_->outputs[0];
    const value& root = pattern_->values[static_cast<std::size_t>(output)];
    const node& found = g_.nodes[static_cast<std::size_t>(anchor)];
    if (found.kind != node_kind::call || static_cast<std::size_t>(root.place) >= found.out.size() ||
        !like(output, found.out[static_cast<std::size_t>(root.place)], m) || !closed(m)) {
      return false;
    }
    for (const value_id v : pattern_->made_by(node_kind::placeholder)) {
      m.arguments.push_back(m.values[static_cast<std::size_t>(v)]);
    }
    m.output = m.values[static_cast<std::size_t>(output)];
    return true;
  }
  [[nodiscard]] const effects& elements() const { return of_; }

 private:
  [[nodiscard]] bool like(value_id p, value_id v, match& m) const {
    value_id& seen = m.values[static_cast<std::size_t>(p)];
    if (seen != no_value) {
      return seen == v;
    }
    const node& wanted = pattern_->maker(p);
    const std::int32_t wanted_at = pattern_->values[static_cast<std::size_t>(p)].node;
    const value& made = g_.values[static_cast<std::size_t>(v)];
    const node& found = g_.nodes[static_cast<std::size_t>(made.node)];
    if (made.spec.type != pattern_->spec(p).type) {
      return false;
    }
    if (wanted.kind == node_kind::placeholder) {
      seen = v;
      return true;
    }
    if (wanted.kind != node_kind::call) {
      seen = v;
      return found.data && &found.data.body()->root() == &wanted.data.body()->root() &&
             found.data.spec() == wanted.data.spec();
    }
    if (found.kind != node_kind::call ||
        made.place != pattern_->values[static_cast<std::size_t>(p)].place ||
        !same_operation(*wanted.op, *found.op) || found.in.size() != wanted.in.size() ||
        !same_attributes(wanted, found)) {
      return false;
    }
    std::int32_t& node_seen = m.nodes[static_cast<std::size_t>(wanted_at)];
    if (node_seen >= 0 && node_seen != made.node) {
      return false;
    }
    node_seen = made.node;
    seen = v;
    for (std::size_t a = 0; a < wanted.in.size(); ++a) {
      if (!like(wanted.in[a], found.in[a], m)) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool same_attributes(const node& wanted, const node& found) const {
    for (std::size_t a = 0; a < wanted.attributes.size(); ++a) {
      const bool loose = !exact_ && wanted.attributes[a].what() == attribute::kind::extents;
      if (!loose && wanted.attributes[a] != found.attributes[a] &&
          !(options_->wildcard && options_->wildcard(wanted, found, a))) {
        return false;
      }
    }
    return true;
  }
  /// Whether what is inside is nobody else's, and is the same where the anchor stands.
  [[nodiscard]] bool closed(const match& m) const {
    const auto is_inside = [&](std::int32_t n) {
      return std::find(m.nodes.begin(), m.nodes.end(), n) != m.nodes.end();
    };
    for (const std::int32_t i : m.nodes) {
      if (i < 0) {
        continue;
      }
      const node& n = g_.nodes[static_cast<std::size_t>(i)];
      for (const value_id v : n.in) {
        if (of_.writes_before(v, i) != of_.writes_before(v, m.anchor)) {
          return false;
        }
      }
      const value_id result = m.values[static_cast<std::size_t>(pattern_->outputs[0])];
      for (const value_id v : n.out) {
        if (v == result) {
          continue;
        }
        if (g_.is_output(v)) {
          return false;
        }
        for (const std::int32_t user : users_[static_cast<std::size_t>(v)]) {
          if (!is_inside(user)) {
            return false;
          }
        }
      }
    }
    return true;
  }

  const graph& g_;
  effects of_;
  std::vector<std::vector<std::int32_t>> users_;
  const graph* pattern_ = nullptr;
  const match_options* options_ = nullptr;
  bool exact_ = true;
};

/// `accept(m)` decides on each match in the order of anchors; those that share a node with an
/// accepted one are not asked about.
template <class F>
std::vector<match> matches_in_order(const graph& g, matcher& find, const match_options& options,
                                    bool exact, const F& accept) {
  std::vector<match> found;
  std::vector<bool> taken(g.nodes.size());
  match m;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (!find.at(static_cast<std::int32_t>(i), options, exact, m)) {
      continue;
    }
    bool overlaps = false;
    for (const std::int32_t n : m.nodes) {
      overlaps = overlaps || (n >= 0 && taken[static_cast<std::size_t>(n)]);
    }
    if (overlaps || !accept(m)) {
      continue;
    }
    for (const std::int32_t n : m.nodes) {
      if (n >= 0) {
        taken[static_cast<std::size_t>(n)] = true;
      }
    }
    found.push_back(m);
  }
  return found;
}

}  // namespace detail

/// Every match of `pattern`, a graph, whose nodes are in no match before it; in the order of their
/// anchors.
///
/// A call matches a call of the same operator on the same element types with equal attributes;
/// placeholders match any value of their element type, the same one each time; a parameter or
/// constant matches the same tensor. What is inside a match, its output aside, has no readers
/// outside, is no output, and nothing was written to what it read before the anchor.
/// Throws: `pattern_error` where the pattern has not one output, no call, or writes.
[[nodiscard]] inline std::vector<match> find_matches(const graph& g, const graph& pattern,
                                                     const match_options& options = {}) {
  detail::matcher find(g, pattern);
  return detail::matches_in_order(g, find, options, true, [&](const match& m) {
    return !options.guard || options.guard(g, m);
  });
}

}  // namespace ashlar::graph
