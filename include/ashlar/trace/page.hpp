// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace ashlar::trace {

/// A picture for a browser: one file, and nothing that it would fetch.
struct page {
  std::string title;
  std::string_view body;    ///< HTML
  std::string data;         ///< JSON, which the script finds in `data`
  std::string_view script;  ///< draws it
  std::string_view style = {};
};

/// Appends `text` as HTML shows it.
inline void append_html(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
}

/// Returns: the page as one HTML document. The browser is told to load nothing from elsewhere.
///
/// Requires: `body`, `script` and `style` are the program's own; title and data may hold any names.
inline std::string to_html(const page& p) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>";
  append_html(out, p.title);
  out += "</title>\n<style>\nbody{font:14px system-ui,sans-serif;margin:1.5em;color:#222}\n";
  out += p.style;
  out += "</style>\n</head>\n<body>\n<h1>";
  append_html(out, p.title);
  out += "</h1>\n";
  out += p.body;
  out += "<script type=\"application/json\" id=\"data\">";
  for (const char c : p.data) {  // no name may end the script
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  out +=
      "</script>\n<script>\n'use strict';\n"
      "const data = JSON.parse(document.getElementById('data').textContent);\n";
  out += p.script;
  out += "</script>\n</body>\n</html>\n";
  return out;
}

}  // namespace ashlar::trace
