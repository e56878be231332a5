// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/print.hpp"

/// What names in a text stand for.
namespace ashlar::graph {

/// `add.out(f32, f32, f32) -> f32`
[[nodiscard]] inline std::string signature_of(const operation& op) {
  constexpr std::string_view kinds[]{"integer", "real", "boolean", "extents", "own"};
  std::string text = text_of(op) + "(";
  std::string_view comma;
  for (const dtype d : op.argument_types) {
    text.append(comma).append(tile::short_name_of(d));
    comma = ", ";
  }
  for (const attribute::kind k : op.attribute_kinds) {
    text.append(comma).append(kinds[static_cast<std::size_t>(k)]);
    comma = ", ";
  }
  text += ")";
  comma = " -> ";
  for (const dtype d : op.result_types) {
    text.append(comma).append(tile::short_name_of(d));
    comma = ", ";
  }
  return text;
}

/// Operations to be found by what a text says of them: name, form, element types, attributes.
class vocabulary {
 public:
  /// The operations of a graph.
  [[nodiscard]] static vocabulary of(const graph& g) {
    vocabulary v;
    v.add(g);
    return v;
  }
  /// What `f` calls, of which nothing is run: the operations of its capture.
  template <class F, class... A>
  [[nodiscard]] static vocabulary learn(const F& f, const A&... examples) {
    return of(capture(f, examples...));
  }

  void add(const graph& g) {
    for (const node& n : g.nodes) {
      if (n.op) {
        add(n.op);
      }
    }
  }
  /// Of operations that a text cannot tell apart, the first of each chip stays.
  void add(operation_ref op) {
    const std::string name = text_of(*op);
    const auto [from, to] = all_.equal_range(name);
    const bool known = std::any_of(from, to, [&](const auto& entry) {
      const operation& o = *entry.second;
      return o.chip == op->chip && std::ranges::equal(o.argument_types, op->argument_types) &&
             std::ranges::equal(o.attribute_kinds, op->attribute_kinds) &&
             std::ranges::equal(o.result_types, op->result_types);
    });
    if (!known) {
      all_.emplace_hint(to, name, std::move(op));
    }
  }
  [[nodiscard]] std::size_t size() const { return all_.size(); }

  /// What was found, or why not.
  struct answer {
    operation_ref op;
    std::string complaint;  ///< empty where there is `op`
  };

  /// Looks an operation up by its name with form, as `text_of` writes it.
  ///
  /// Effects: whole numbers become real ones where the operation takes those.
  [[nodiscard]] answer find(std::string_view name, std::span<const dtype> arguments,
                            std::span<attribute> attributes, std::span<const dtype> results) const {
    answer found;
    bool exact = false;
    const auto [from, to] = all_.equal_range(name);
    for (auto at = from; at != to; ++at) {
      const operation& o = *at->second;
      if (!std::ranges::equal(o.argument_types, arguments) ||
          !std::ranges::equal(o.result_types, results) || !fits(o, attributes)) {
        continue;
      }
      const bool better =
          std::ranges::equal(o.attribute_kinds, attributes, {}, {}, &attribute::what);
      if (found.op && better == exact && o.chip != found.op->chip) {
        return {nullptr, "it is there for the chips " + std::string(found.op->chip) + " and " +
                             std::string(o.chip) + ", and text does not say which"};
      }
      if (!found.op || (better && !exact)) {
        found.op = at->second;
        exact = better;
      }
    }
    if (!found.op) {
      found.complaint = from == to ? "no operation of the vocabulary has this name"
                                   : "the vocabulary has it with other types: ";
      for (auto at = from; at != to; ++at) {
        found.complaint += (at == from ? "" : "; ") + signature_of(*at->second);
      }
      return found;
    }
    for (std::size_t i = 0; i < attributes.size(); ++i) {
      if (attributes[i].what() != found.op->attribute_kinds[i]) {
        attributes[i] = attribute(static_cast<double>(attributes[i].as<std::int64_t>()));
      }
    }
    return found;
  }

 private:
  static bool fits(const operation& o, std::span<const attribute> given) {
    return std::ranges::equal(
        o.attribute_kinds, given, [](attribute::kind takes, const attribute& a) {
          return a.what() == takes ||
                 (takes == attribute::kind::real && a.what() == attribute::kind::integer);
        });
  }

  std::multimap<std::string, operation_ref, std::less<>> all_;
};

/// The tensors of a graph's parameters and constants, called as in its text.
[[nodiscard]] inline named_tensors tensors_of(const graph& g) {
  const spelling s = spell(g);
  named_tensors all;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].data) {
      all.emplace_back(s.nodes[i], g.nodes[i].data);
    }
  }
  return all;
}

namespace detail {

/// What a text says of a node, whatever the kind of text.
struct said_node {
  struct result {
    tensor_spec spec{};
    bool placed = false;  ///< strides or offset were said; else they are the operation's
  };
  node_kind kind = node_kind::call;
  std::string target{};  ///< of a call: as `text_of` writes the operation
  std::string name{};
  std::string called{};  ///< in the text, where that is another name
  std::vector<value_id> in{};
  std::vector<attribute> attributes{};
  std::vector<result> results{};
};

/// Returns: the spec, or a complaint. Nothing that it counts is beyond what an address can be.
inline std::string lay_out(said_node::result& r, dtype type, const shape& extents,
                           const shape* strides, std::int64_t offset) {
  try {
    r.spec = contiguous_spec(type, extents.span());
  } catch (const error& e) {
    return e.what();
  }
  if (strides != nullptr) {
    if (strides->rank() != extents.rank()) {
      return "there is a stride for each extent";
    }
    std::copy(strides->begin(), strides->end(), r.spec.stride.begin());
    r.spec.contiguous = is_dense(r.spec);
  }
  double first = static_cast<double>(offset);
  double last = first;
  for (int axis = 0; axis < r.spec.rank && r.spec.size > 0; ++axis) {
    const double way =
        static_cast<double>(r.spec[axis] - 1) * static_cast<double>(r.spec.stride_of(axis));
    (way < 0 ? first : last) += way;
  }
  if (first < 0 || last > 0x1p58) {
    return "strides and offset lead out of any memory";
  }
  r.spec.offset = offset;
  return {};
}

/// Appends what was said to a graph. Returns: why it cannot be, or nothing.
inline std::string append(graph& g, said_node& said, const vocabulary& words,
                          const named_tensors& tensors) {
  const auto same_layout = [](const tensor_spec& a, const tensor_spec& b) {
    return a.type == b.type && same_shape(a, b) && same_shape(a.strides(), b.strides());
  };
  if (said.kind != node_kind::call) {
    if (said.results.size() != 1 || !said.in.empty() || !said.attributes.empty()) {
      return "what is no call has one result, and no arguments";
    }
    tensor_spec spec = said.results[0].spec;
    tensor_handle data;
    if (said.kind != node_kind::placeholder) {
      std::string other;
      for (const std::string& name : {said.called.empty() ? said.name : said.called, said.name}) {
        for (const auto& [known, x] : tensors) {
          if (known == name && x && !data) {
            (same_layout(x.spec(), spec) ? static_cast<void>(data = x)
                                         : static_cast<void>(other = text_of(x.spec())));
          }
        }
      }
      if (!data) {
        return other.empty() ? "no tensor of this name was given"
                             : "the tensor of this name is " + other;
      }
      spec = data.spec();
    }
    g.add({.kind = said.kind, .name = std::move(said.name), .data = std::move(data)},
          std::array{spec});
    return {};
  }
  std::vector<tensor_spec> in;
  std::vector<dtype> in_types;
  std::vector<dtype> out_types;
  for (const value_id v : said.in) {
    in.push_back(g.spec(v));
    in_types.push_back(in.back().type);
  }
  for (const said_node::result& r : said.results) {
    out_types.push_back(r.spec.type);
  }
  auto [op, complaint] = words.find(said.target, in_types, said.attributes, out_types);
  if (!op) {
    return complaint;
  }
  std::vector<tensor_spec> results;
  try {
    results = op->meta(in, said.attributes);
  } catch (const std::exception& e) {
    return e.what();
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const said_node::result& r = said.results[i];
    if (!same_shape(results[i], r.spec)) {
      return "result " + std::to_string(i) + " is " + text_of(results[i]);
    }
    if (r.placed) {
      results[i] = r.spec;
    }
  }
  g.add({.op = std::move(op), .in = std::move(said.in), .attributes = std::move(said.attributes)},
        results);
  return {};
}

}  // namespace detail

}  // namespace ashlar::graph
