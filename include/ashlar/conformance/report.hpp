// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/trace/chrome.hpp"

/// What a run of the kit found: a table of operators and element types, as text, JSON and HTML.
namespace ashlar::conformance {

enum class verdict : std::uint8_t { pass, fail, unsupported };

constexpr std::string_view name_of(verdict v) {
  return v == verdict::pass ? "pass" : v == verdict::fail ? "fail" : "unsupported";
}

/// One operator in one element type.
struct cell {
  std::string_view op;
  dtype type = dtype::float32;
  verdict result = verdict::unsupported;
  int samples = 0;     ///< that were run
  int failed = 0;      ///< samples with a failure
  int first = -1;      ///< the first sample that failed
  std::string what{};  ///< how; where unsupported, why

  /// What stands in the table.
  [[nodiscard]] std::string text() const {
    return result == verdict::pass   ? "pass " + std::to_string(samples)
           : result == verdict::fail ? "FAIL " + std::to_string(failed)
                                     : "-";
  }
};

struct report {
  std::string chip;
  std::string program = "conformance";  ///< of the lines that reproduce a failure
  std::vector<cell> cells{};            ///< operator by operator

  [[nodiscard]] std::size_t count(verdict v) const {
    return static_cast<std::size_t>(
        std::count_if(cells.begin(), cells.end(), [v](const cell& c) { return c.result == v; }));
  }
  /// Whether no operator failed.
  [[nodiscard]] bool ok() const { return count(verdict::fail) == 0; }
  /// Whether nothing was there to run.
  [[nodiscard]] bool is_empty() const {
    return std::all_of(cells.begin(), cells.end(), [](const cell& c) {
      return c.samples == 0 && c.result != verdict::unsupported;
    });
  }
  /// Null where it was not run.
  [[nodiscard]] const cell* find(std::string_view op, dtype type) const {
    const auto at = std::find_if(cells.begin(), cells.end(),
                                 [&](const cell& c) { return c.op == op && c.type == type; });
    return at == cells.end() ? nullptr : &*at;
  }
  /// The command that runs the first failing sample of a cell alone.
  [[nodiscard]] std::string reproduce(const cell& c) const {
    return program + " --op " + std::string(c.op) + " --dtype " + std::string(name_of(c.type)) +
           " --sample " + std::to_string(c.first);
  }

  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string json() const;
  /// One file with nothing outside it.
  [[nodiscard]] std::string html() const;

 private:
  [[nodiscard]] std::vector<std::string_view> operators() const {
    std::vector<std::string_view> all;
    for (const cell& c : cells) {
      if (std::find(all.begin(), all.end(), c.op) == all.end()) {
        all.push_back(c.op);
      }
    }
    return all;
  }
  [[nodiscard]] std::vector<dtype> columns() const {
    std::vector<dtype> all;
    for (const cell& c : cells) {
      if (std::find(all.begin(), all.end(), c.type) == all.end()) {
        all.push_back(c.type);
      }
    }
    std::sort(all.begin(), all.end(), std::greater<>{});
    return all;
  }
  [[nodiscard]] std::string summary() const {
    return std::to_string(count(verdict::pass)) + " pass, " + std::to_string(count(verdict::fail)) +
           " fail, " + std::to_string(count(verdict::unsupported)) + " unsupported";
  }
};

inline std::string report::text() const {
  constexpr std::size_t width = 12;
  std::size_t first = 10;
  for (const cell& c : cells) {
    first = std::max(first, c.op.size() + 2);
  }
  const auto pad = [](std::string s, std::size_t to) {
    s.resize(std::max(s.size() + 1, to), ' ');
    return s;
  };
  std::string all = chip + ": " + summary() + "\n";
  std::string line = pad("", first);
  for (const dtype d : columns()) {
    line += pad(std::string(name_of(d)), width);
  }
  const auto end_line = [&] {
    line.erase(line.find_last_not_of(' ') + 1);
    all += line + "\n";
  };
  end_line();
  for (const std::string_view op : operators()) {
    line = pad(std::string(op), first);
    for (const dtype d : columns()) {
      const cell* c = find(op, d);
      line += pad(c == nullptr ? "" : c->text(), width);
    }
    end_line();
  }
  for (const cell& c : cells) {
    if (c.result == verdict::fail) {
      all += reproduce(c) + "\n    " + c.what + "\n";
    }
  }
  return all;
}

inline std::string report::json() const {
  std::string all = "{\"chip\":";
  trace::append_json_string(all, chip);
  all += ",\"pass\":" + std::to_string(count(verdict::pass)) +
         ",\"fail\":" + std::to_string(count(verdict::fail)) +
         ",\"unsupported\":" + std::to_string(count(verdict::unsupported)) + ",\"cells\":[";
  const char* separator = "\n";
  for (const cell& c : cells) {
    all += separator;
    separator = ",\n";
    all += "{\"op\":";
    trace::append_json_string(all, c.op);
    all += ",\"dtype\":\"" + std::string(name_of(c.type)) + "\",\"result\":\"" +
           std::string(name_of(c.result)) + "\",\"samples\":" + std::to_string(c.samples);
    if (c.result == verdict::fail) {
      all += ",\"failed\":" + std::to_string(c.failed) + ",\"reproduce\":";
      trace::append_json_string(all, reproduce(c));
    }
    if (!c.what.empty()) {
      all += ",\"what\":";
      trace::append_json_string(all, c.what);
    }
    all += '}';
  }
  return all + "\n]}\n";
}

inline std::string report::html() const {
  const auto escaped = [](std::string_view text) {
    std::string all;
    for (const char c : text) {
      c == '&'   ? all += "&amp;"
      : c == '<' ? all += "&lt;"
      : c == '>' ? all += "&gt;"
      : c == '"' ? all += "&quot;"
                 : all += c;
    }
    return all;
  };
  std::string all =
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>" + escaped(chip) +
      "</title>\n<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
      "td,th{padding:2px 10px;border:1px solid #ccc;text-align:left}.pass{background:#d8f0d8}"
      ".fail{background:#f6c4c4}.unsupported{color:#888}code{white-space:pre-wrap}</style>\n<h1>" +
      escaped(chip) + "</h1>\n<p>" + summary() + "</p>\n<table><tr><th>operator</th>";
  for (const dtype d : columns()) {
    all += "<th>" + std::string(name_of(d)) + "</th>";
  }
  all += "</tr>\n";
  for (const std::string_view op : operators()) {
    all += "<tr><th>" + escaped(op) + "</th>";
    for (const dtype d : columns()) {
      const cell* c = find(op, d);
      if (c == nullptr) {
        all += "<td></td>";
        continue;
      }
      const std::string title =
          c->result == verdict::fail ? reproduce(*c) + "\n" + c->what : c->what;
      all += std::string("<td class=\"") + std::string(name_of(c->result)) + "\" title=\"" +
             escaped(title) + "\">" + c->text() + "</td>";
    }
    all += "</tr>\n";
  }
  all += "</table>\n";
  if (!ok()) {
    all += "<h2>Failures</h2>\n";
  }
  for (const cell& c : cells) {
    if (c.result == verdict::fail) {
      all += "<p><code>" + escaped(reproduce(c)) + "</code><br>" + escaped(c.what) + "</p>\n";
    }
  }
  return all + "</html>\n";
}

}  // namespace ashlar::conformance
