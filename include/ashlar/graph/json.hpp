// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/print.hpp"
#include "ashlar/graph/vocabulary.hpp"

/// Graphs as JSON, for other programs.
///
/// ```
/// {"format":"ashlar.graph","version":1,"nodes":[
/// {"kind":"placeholder","name":"x0","out":[{"shape":[5,7],"type":"f32"}]},
/// {"attributes":[2.0,0.0],"call":"scale","in":[0],"out":[{"shape":[5,7],"type":"f32"}]}
/// ],"outputs":[1]}
/// ```
/// Values are numbered in the order in which nodes make them. An attribute is a number, a truth, a
/// list of extents, or one of the strings "inf", "-inf" and "nan".
namespace ashlar::graph {

/// JSON that is no graph.
struct json_error final : error {
  std::string path;    ///< `nodes[3].in[0]`; empty for the text as a whole
  std::string reason;  ///< what should stand there, or the rule that is broken

  json_error(std::string place, std::string why,
             std::source_location at = std::source_location::current())
      : error(at), path(std::move(place)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph::from_json: " + (path.empty() ? "the text" : path) + ": " + reason;
  }
};

namespace detail {

using json = nlohmann::json;

inline json json_of(const attribute& a) {
  switch (a.what()) {
    case attribute::kind::integer:
      return a.as<std::int64_t>();
    case attribute::kind::real: {
      const double x = a.as<double>();
      return std::isfinite(x) ? json(x) : json(text_of(a));
    }
    case attribute::kind::boolean:
      return a.as<bool>();
    default: {
      const auto extents = a.as<shape>();
      return std::vector<std::int64_t>(extents.begin(), extents.end());
    }
  }
}
inline json json_of(const tensor_spec& s) {
  const auto list = [](std::span<const std::int64_t> all) {
    return std::vector<std::int64_t>(all.begin(), all.end());
  };
  json r{{"type", std::string(tile::short_name_of(s.type))}, {"shape", list(s.shape())}};
  if (!s.contiguous) {
    r["strides"] = list(s.strides());
  }
  if (s.offset != 0) {
    r["offset"] = s.offset;
  }
  return r;
}

/// A place in a document that knows its path.
class json_place {
 public:
  json_place(const json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  [[noreturn]] void fail(std::string reason) const { throw json_error(path_, std::move(reason)); }
  [[nodiscard]] const json& operator*() const { return *value_; }
  [[nodiscard]] bool has(const char* key) const {
    return value_->is_object() && value_->contains(key);
  }
  [[nodiscard]] json_place operator[](const char* key) const {
    if (!has(key)) {
      fail(std::string("it should be an object with a member \"") + key + "\"");
    }
    return {*value_->find(key), path_.empty() ? key : path_ + "." + key};
  }
  /// Calls `f` for the elements of a list.
  template <class F>
  void each(const F& f) const {
    if (!value_->is_array()) {
      fail("a list should stand here");
    }
    for (std::size_t i = 0; i < value_->size(); ++i) {
      f(json_place((*value_)[i], path_ + "[" + std::to_string(i) + "]"));
    }
  }
  [[nodiscard]] const std::string& text() const {
    if (!value_->is_string()) {
      fail("a string should stand here");
    }
    return value_->get_ref<const std::string&>();
  }
  [[nodiscard]] std::int64_t integer() const {
    if (!value_->is_number_integer() ||
        (value_->is_number_unsigned() && value_->get<std::uint64_t>() >> 63 != 0)) {
      fail("a whole number of 64 bits should stand here");
    }
    return value_->get<std::int64_t>();
  }
  [[nodiscard]] shape extents() const {
    shape all;
    each([&](const json_place& e) {
      if (all.rank() == max_rank) {
        e.fail("a tensor has at most 8 dimensions");
      }
      all.push_back(e.integer());
    });
    return all;
  }
  [[nodiscard]] value_id value(const graph& g) const {
    const std::int64_t v = integer();
    if (v < 0 || static_cast<std::size_t>(v) >= g.values.size()) {
      fail("no node before this one makes this value");
    }
    return static_cast<value_id>(v);
  }
  [[nodiscard]] attribute literal() const {
    if (value_->is_boolean()) {
      return attribute(value_->get<bool>());
    }
    if (value_->is_number_float()) {
      return attribute(value_->get<double>());
    }
    if (value_->is_number()) {
      return attribute(integer());
    }
    if (value_->is_array()) {
      return attribute(extents());
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    constexpr std::array<std::pair<std::string_view, double>, 4> named{
        {{"inf", infinity}, {"-inf", -infinity}, {"nan", nan}, {"-nan", -nan}}};
    for (const auto& [name, x] : named) {
      if (value_->is_string() && text() == name) {
        return attribute(x);
      }
    }
    fail(
        "a number, true, false, a list of extents, \"inf\", \"-inf\" or \"nan\" should stand here");
  }
  [[nodiscard]] said_node::result result() const {
    said_node::result r;
    const std::string& name = (*this)["type"].text();
    int type = 0;
    while (type < dtype_count && tile::short_name_of(static_cast<dtype>(type)) != name) {
      ++type;
    }
    if (type == dtype_count) {
      (*this)["type"].fail("an element type should stand here, as \"f32\"");
    }
    const shape sizes = (*this)["shape"].extents();
    const bool strided = has("strides");
    const shape strides = strided ? (*this)["strides"].extents() : shape();
    r.placed = strided || has("offset");
    if (std::string complaint =
            lay_out(r, static_cast<dtype>(type), sizes, strided ? &strides : nullptr,
                    has("offset") ? (*this)["offset"].integer() : 0);
        !complaint.empty()) {
      fail(std::move(complaint));
    }
    return r;
  }

 private:
  const json* value_;
  std::string path_;
};

inline void read_node(graph& g, const json_place& at, const vocabulary& words,
                      const named_tensors& tensors) {
  said_node said;
  if (at.has("call")) {
    said.target = at["call"].text();
    at["in"].each([&](const json_place& v) { said.in.push_back(v.value(g)); });
    at["attributes"].each([&](const json_place& a) { said.attributes.push_back(a.literal()); });
  } else {
    const std::string& kind = at["kind"].text();
    for (const node_kind k : {node_kind::placeholder, node_kind::parameter, node_kind::constant}) {
      said.kind = kind == name_of(k) ? k : said.kind;
    }
    if (said.kind == node_kind::call) {
      at["kind"].fail("placeholder, parameter or constant should stand here");
    }
    said.called = at["name"].text();
    said.name = at.has("full_name") ? at["full_name"].text() : said.called;
  }
  at["out"].each([&](const json_place& r) { said.results.push_back(r.result()); });
  if (std::string complaint = append(g, said, words, tensors); !complaint.empty()) {
    at.fail(std::move(complaint));
  }
}

}  // namespace detail

/// Returns: the graph as JSON, a node a line.
///
/// Names that are not UTF-8 are written with U+FFFD. Lines of the user's source are left out.
/// Throws: `graph_error` naming the node for an attribute of the operator's own type.
[[nodiscard]] inline std::string to_json(const graph& g) {
  using detail::json;
  const spelling s = spell(g);
  std::vector<std::int64_t> number(g.values.size());  // in the order of nodes
  std::int64_t next = 0;
  std::string text = R"({"format":"ashlar.graph","version":1,"nodes":[)";
  const auto numbers = [&](const std::vector<value_id>& all) {
    json list = json::array();
    for (const value_id v : all) {
      list.push_back(number[static_cast<std::size_t>(v)]);
    }
    return list;
  };
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    json line;
    if (n.kind == node_kind::call) {
      line["call"] = text_of(*n.op);
      line["in"] = numbers(n.in);
      line["attributes"] = json::array();
      for (std::size_t a = 0; a < n.attributes.size(); ++a) {
        if (n.attributes[a].what() == attribute::kind::own) {
          throw graph_error(static_cast<std::int32_t>(i),
                            "attribute " + std::to_string(a) + " of " + std::string(n.op->name) +
                                " is of the operator's own type, which JSON cannot say");
        }
        line["attributes"].push_back(detail::json_of(n.attributes[a]));
      }
    } else {
      line["kind"] = std::string(name_of(n.kind));
      line["name"] = s.nodes[i];
      if (!n.name.empty() && n.name != s.nodes[i]) {
        line["full_name"] = n.name;
      }
    }
    line["out"] = json::array();
    for (const value_id v : n.out) {
      number[static_cast<std::size_t>(v)] = next++;
      line["out"].push_back(detail::json_of(g.spec(v)));
    }
    text += (i == 0 ? "\n" : ",\n") + line.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  return text + "\n],\"outputs\":" + numbers(g.outputs).dump() + "}\n";
}

/// The graph of a text that `to_json` has written; `words` and `tensors` as for `parse`.
///
/// Returns: a graph that `verify` finds right.
/// Throws:  `json_error`.
[[nodiscard]] inline graph from_json(std::string_view text, const vocabulary& words,
                                     const named_tensors& tensors = {}) {
  using detail::json;
  json document;
  try {
    document = json::parse(text.begin(), text.end(), [](int depth, json::parse_event_t, json&) {
      if (depth > 16) {
        throw json_error({}, "it nests deeper than 16");
      }
      return true;
    });
  } catch (const json::exception& e) {
    throw json_error({}, e.what());
  }
  const detail::json_place top(document, {});
  if (top["format"].text() != "ashlar.graph") {
    top["format"].fail("\"ashlar.graph\" should stand here");
  }
  if (top["version"].integer() != 1) {
    top["version"].fail("this reads version 1");
  }
  graph g;
  top["nodes"].each([&](const detail::json_place& n) { detail::read_node(g, n, words, tensors); });
  top["outputs"].each([&](const detail::json_place& v) { g.outputs.push_back(v.value(g)); });
  return g;
}

}  // namespace ashlar::graph
