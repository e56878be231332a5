// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/detail/picture_page.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/print.hpp"
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/page.hpp"

/// Graphs as pictures.
namespace ashlar::graph {

namespace detail {

/// What a node does, with its attributes: `scale 2.0, 0.0`.
inline std::string label_of(const node& n) {
  std::string text = target_of(n);
  for (const attribute& a : n.attributes) {
    text.append(&a == n.attributes.data() ? " " : ", ").append(text_of(a));
  }
  return text;
}

}  // namespace detail

/// Returns: the graph in the language of Graphviz: `dot -Tsvg`.
[[nodiscard]] inline std::string to_dot(const graph& g) {
  constexpr std::array<std::string_view, 4> colours{"#dbe9f6", "#fde9c9", "#eeeeee", "#ffffff"};
  const spelling s = spell(g);
  const auto label = [](std::initializer_list<std::string_view> lines) {
    std::string text = "[label=\"";
    for (const std::string_view line : lines) {
      for (const char c : line) {
        if (c == '"' || c == '\\') {
          text += '\\';
        }
        text += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
      }
      text += "\\n";
    }
    text.resize(text.size() - 2);
    return text + '"';
  };
  const auto edge = [&](value_id v, const std::string& to) -> std::string {
    if (v < 0 || static_cast<std::size_t>(v) >= g.values.size()) {
      return {};
    }
    return "  n" + std::to_string(g.values[static_cast<std::size_t>(v)].node) + " -> " + to + " " +
           label({text_of(g.spec(v))}) + "];\n";
  };
  std::string text =
      "digraph {\n  node [shape=box, style=filled, fontname=\"monospace\"];\n"
      "  edge [fontname=\"monospace\", fontsize=10];\n";
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    const std::string here = "n" + std::to_string(i);
    text += "  " + here + " " +
            label({n.kind != node_kind::call && !n.name.empty() ? n.name : s.nodes[i],
                   detail::label_of(n)}) +
            ", fillcolor=\"" + std::string(colours[static_cast<std::size_t>(n.kind)]) + "\"];\n";
    for (const value_id v : n.in) {
      text += edge(v, here);
    }
  }
  text += "  output [shape=ellipse, fillcolor=\"#d9ead3\"];\n";
  for (const value_id v : g.outputs) {
    text += edge(v, "output");
  }
  return text + "}\n";
}

/// Returns: one HTML file that shows the graph: nodes in rows, with what each reads and who reads
/// it, its line of text and of the source, and a search. It needs a browser and no network.
[[nodiscard]] inline std::string to_html(const graph& g, std::string title = "Graph") {
  const spelling s = spell(g);
  std::string nodes;
  std::string edges;
  const auto member = [](std::string& to, std::string_view key, std::string_view text) {
    to.append(to.back() == '{' ? "\"" : ",\"").append(key).append("\":");
    trace::append_json_string(to, text);
  };
  const auto edge = [&](value_id v, std::size_t to) {
    if (v >= 0 && static_cast<std::size_t>(v) < g.values.size()) {
      const value& from = g.values[static_cast<std::size_t>(v)];
      if (from.node < 0) {
        return;  // of a broken graph
      }
      edges +=
          (edges.empty() ? "[" : ",[") + std::to_string(from.node) + "," + std::to_string(to) + ",";
      trace::append_json_string(edges, text_of(from.spec));
      edges += "]";
    }
  };
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    nodes += "{";
    member(nodes, "kind", name_of(n.kind));
    member(nodes, "name", n.kind != node_kind::call && !n.name.empty() ? n.name : s.nodes[i]);
    std::string label = detail::label_of(n);
    for (const value_id v : n.out) {
      if (v >= 0 && static_cast<std::size_t>(v) < g.values.size()) {
        label.append(v == n.out[0] ? " : " : ", ").append(text_of(g.spec(v)));
      }
    }
    member(nodes, "label", label);
    member(nodes, "text", detail::line_of(g, i, s));
    member(nodes, "where", detail::where_of(n));
    nodes += n.op && n.op->writes != 0 ? ",\"writes\":true}," : "},";
    for (const value_id v : n.in) {
      edge(v, i);
    }
  }
  nodes += "{";
  member(nodes, "kind", "output");
  member(nodes, "name", "output");
  member(nodes, "label", "");
  member(nodes, "text", "return " + detail::outputs_text(g, s, "%"));
  member(nodes, "where", "");
  for (const value_id v : g.outputs) {
    edge(v, g.nodes.size());
  }
  return trace::to_html({std::move(title), detail::picture_body,
                         "{\"nodes\":[" + nodes + "}],\"edges\":[" + edges + "]}",
                         detail::picture_script, detail::picture_style});
}

}  // namespace ashlar::graph
