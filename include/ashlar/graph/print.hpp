// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/tile/print.hpp"

/// Graphs as text.
///
/// ```
/// %x0 = placeholder : f32[5, 7]
/// %w = parameter : f32[7]
/// %mul = mul %x0, %w : f32[5, 7]
/// %select = select %mul, 0, 1 : f32[7] strides [1] offset 7
/// scale.in_place %select, 2.0, 1.0
/// return %mul
/// ```
/// One node a line: results, operator, form where it is not the functional one, arguments,
/// attributes, and what comes out. Values are called by what makes them. `parse` reads it back.
namespace ashlar::graph {

/// What nodes and values are called in text, each by a name of its own.
struct spelling {
  std::vector<std::string> nodes;   ///< that of the result, where there is one
  std::vector<std::string> values;  ///< results of a node with several: `sort.0`, `sort.1`
};

namespace detail {

constexpr bool stands_in_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.';
}
/// What cannot stand in a name of the text becomes `_`, and nothing at its end.
inline std::string plain_name(std::string_view text) {
  const auto stands = std::find_if(text.rbegin(), text.rend(), stands_in_name);
  std::string name(text.substr(0, static_cast<std::size_t>(text.rend() - stands)));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !stands_in_name(c); }, '_');
  return name;
}

class names_taken {
 public:
  std::string claim(std::string base) {
    const auto [at, fresh] = next_.try_emplace(base, 1);
    if (fresh) {
      return base;
    }
    int& number = at->second;  // stays where it is while the table grows
    std::string name = base + "_" + std::to_string(number++);
    while (!next_.try_emplace(name, 1).second) {
      name = base + "_" + std::to_string(number++);
    }
    return name;
  }

 private:
  std::unordered_map<std::string, int> next_;
};

/// `text` in quotes, as `parse` reads it.
inline std::string in_quotes(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.append(1, '\\').append(1, c);
    } else if (byte < 0x20 || byte == 0x7f) {
      out.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15u]);
    } else {
      out += c;
    }
  }
  return out + '"';
}

/// Whether an operation's name stands in the text without quotes: `add`, `my_lib::add`.
inline bool is_word(std::string_view name) {
  const auto letter = [](char c) { return stands_in_name(c) && c != '.'; };
  if (name == "return" || name == "placeholder" || name == "parameter" || name == "constant") {
    return false;  // they begin other lines
  }
  bool starts = true;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (!starts && name.substr(i, 2) == "::") {
      starts = true;
      ++i;
    } else if (!letter(name[i]) || (starts && name[i] >= '0' && name[i] <= '9')) {
      return false;
    } else {
      starts = false;
    }
  }
  return !starts;
}

/// `model.cpp:33`; nothing where a pass has made the node.
inline std::string where_of(const node& n) {
  const std::string_view path = n.where.file_name();
  return n.where.line() == 0 ? ""
                             : std::string(path.substr(path.find_last_of("/\\") + 1)) + ":" +
                                   std::to_string(n.where.line());
}

}  // namespace detail

constexpr std::string_view name_of(node_kind kind) {
  constexpr std::array<std::string_view, 4> names{"placeholder", "parameter", "constant", "call"};
  return names[static_cast<std::size_t>(kind)];
}
constexpr std::string_view name_of(form f) {
  constexpr std::array<std::string_view, 3> names{"functional", "out", "in_place"};
  return names[static_cast<std::size_t>(f)];
}

/// Returns: names made of letters, digits, `_` and `.`; the same for equal graphs.
[[nodiscard]] inline spelling spell(const graph& g) {
  spelling s;
  s.values.assign(g.values.size(), "?");  // of a broken graph: nobody makes it
  detail::names_taken taken;
  for (const node& n : g.nodes) {
    std::string_view base = n.name;
    if (n.op) {
      base = n.op->name;
      const std::size_t scope = base.rfind("::");
      base.remove_prefix(scope != base.npos && detail::is_word(base) ? scope + 2 : 0);
    }
    std::string name = detail::plain_name(base);
    s.nodes.push_back(taken.claim(name.empty() ? std::string(name_of(n.kind)) : std::move(name)));
    for (std::size_t r = 0; r < n.out.size(); ++r) {
      const auto v = static_cast<std::size_t>(n.out[r]);
      if (v < s.values.size()) {
        s.values[v] = n.out.size() == 1 ? s.nodes.back()
                                        : taken.claim(s.nodes.back() + "." + std::to_string(r));
      }
    }
  }
  return s;
}

/// `7`, `0.5`, `true`, `[2, 3]`; `own` for a value of the operator's own type. Numbers read back to
/// the same bits.
[[nodiscard]] inline std::string text_of(const attribute& a) {
  switch (a.what()) {
    case attribute::kind::integer:
      return std::to_string(a.as<std::int64_t>());
    case attribute::kind::real: {
      std::array<char, 32> buffer{};
      const auto done = std::to_chars(buffer.data(), buffer.data() + buffer.size(), a.as<double>());
      std::string text(buffer.data(), done.ptr);
      return text + (text.find_first_of(".ein") == std::string::npos ? ".0" : "");
    }
    case attribute::kind::boolean:
      return a.as<bool>() ? "true" : "false";
    case attribute::kind::extents:
      return ashlar::to_string(a.as<shape>());
    default:
      return "own";
  }
}

/// `f32[5, 7]`, and what differs from elements row by row: `strides [1, 5] offset 2`.
[[nodiscard]] inline std::string text_of(const tensor_spec& s) {
  std::string text(tile::short_name_of(s.type));
  text += ashlar::to_string(s.shape());
  if (!s.contiguous) {
    text += " strides " + ashlar::to_string(s.strides());
  }
  if (s.offset != 0) {
    text += " offset " + std::to_string(s.offset);
  }
  return text;
}

/// `add`, `scale.in_place`; a name that is no word stands in quotes.
[[nodiscard]] inline std::string text_of(const operation& op) {
  std::string text = detail::is_word(op.name) ? std::string(op.name) : detail::in_quotes(op.name);
  if (op.form != form::functional) {
    text.append(1, '.').append(name_of(op.form));
  }
  return text;
}

namespace detail {

inline std::string name_in(const spelling& s, value_id v) {
  return v >= 0 && static_cast<std::size_t>(v) < s.values.size()
             ? s.values[static_cast<std::size_t>(v)]
             : "?" + std::to_string(v);
}

/// `%a, %b, 0.5`: tensors, then attributes.
inline std::string arguments_text(const node& n, const spelling& s, std::string_view before) {
  std::string text;
  for (const value_id v : n.in) {
    text.append(text.empty() ? "" : ", ").append(before).append(name_in(s, v));
  }
  for (const attribute& a : n.attributes) {
    text.append(text.empty() ? "" : ", ").append(text_of(a));
  }
  return text;
}

/// What a node does: its kind, or the operation that it calls.
inline std::string target_of(const node& n) {
  return n.kind == node_kind::call ? (n.op ? text_of(*n.op) : "?") : std::string(name_of(n.kind));
}

inline std::string line_of(const graph& g, std::size_t i, const spelling& s) {
  const node& n = g.nodes[i];
  std::string text;
  std::string results;
  for (const value_id v : n.out) {
    text.append(text.empty() ? "%" : ", %").append(name_in(s, v));
    results.append(results.empty() ? " : " : ", ");
    results += v >= 0 && static_cast<std::size_t>(v) < g.values.size() ? text_of(g.spec(v)) : "?";
  }
  text.append(text.empty() ? "" : " = ").append(target_of(n));
  if (n.kind != node_kind::call && !n.name.empty() && n.name != s.nodes[i]) {
    text.append(1, ' ').append(in_quotes(n.name));
  }
  const std::string given = arguments_text(n, s, "%");
  return text + (given.empty() ? "" : " ") + given + results;
}

inline std::string outputs_text(const graph& g, const spelling& s, std::string_view before) {
  std::string text;
  for (const value_id v : g.outputs) {
    text.append(text.empty() ? "" : ", ").append(before).append(name_in(s, v));
  }
  return text;
}

}  // namespace detail

/// Returns: a line for each node and one for what comes out; of broken graphs, too.
[[nodiscard]] inline std::string to_text(const graph& g) {
  const spelling s = spell(g);
  std::string text;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    text += detail::line_of(g, i, s) + "\n";
  }
  const std::string out = detail::outputs_text(g, s, "%");
  return text + "return" + (out.empty() ? "" : " ") + out + "\n";
}

/// Returns: a row for each node: kind, name, target, arguments, users, results, line of the source.
[[nodiscard]] inline std::string to_table(const graph& g) {
  constexpr std::size_t columns = 7;
  using row = std::array<std::string, columns>;
  const spelling s = spell(g);
  std::vector<std::string> users(g.nodes.size());
  const auto use = [&](value_id v, const std::string& name) {
    if (v >= 0 && static_cast<std::size_t>(v) < g.values.size() &&
        static_cast<std::size_t>(g.values[static_cast<std::size_t>(v)].node) < users.size()) {
      std::string& list =
          users[static_cast<std::size_t>(g.values[static_cast<std::size_t>(v)].node)];
      list.append(list.empty() ? "" : ", ").append(name);
    }
  };
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    for (std::size_t a = 0; a < g.nodes[i].in.size(); ++a) {
      const auto& in = g.nodes[i].in;
      const auto here = in.begin() + static_cast<std::ptrdiff_t>(a);
      if (std::find(in.begin(), here, *here) == here) {
        use(*here, s.nodes[i]);
      }
    }
  }
  for (const value_id v : g.outputs) {
    use(v, "output");
  }
  std::vector<row> rows{{"opcode", "name", "target", "args", "users", "spec", "line"}};
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    std::string specs;
    for (const value_id v : n.out) {
      specs.append(specs.empty() ? "" : ", ");
      specs += v >= 0 && static_cast<std::size_t>(v) < g.values.size() ? text_of(g.spec(v)) : "?";
    }
    rows.push_back({std::string(name_of(n.kind)), s.nodes[i],
                    n.kind == node_kind::call ? detail::target_of(n) : n.name,
                    detail::arguments_text(n, s, ""), users[i], specs, detail::where_of(n)});
  }
  rows.push_back({"output", "output", "", detail::outputs_text(g, s, ""), "", "", ""});
  std::array<std::size_t, columns> width{};
  for (const row& r : rows) {
    for (std::size_t c = 0; c < columns; ++c) {
      width[c] = std::max(width[c], r[c].size());
    }
  }
  std::string text;
  const auto append = [&](const row& r) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c) {
      line += r[c] + std::string(width[c] - r[c].size() + 2, ' ');
    }
    text.append(line, 0, line.find_last_not_of(' ') + 1).append(1, '\n');
  };
  append(rows[0]);
  row rule;
  for (std::size_t c = 0; c < columns; ++c) {
    rule[c] = std::string(width[c], '-');
  }
  append(rule);
  for (std::size_t i = 1; i < rows.size(); ++i) {
    append(rows[i]);
  }
  return text;
}

}  // namespace ashlar::graph
