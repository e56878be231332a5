// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "ashlar/trace/timeline.hpp"

namespace ashlar::trace {

namespace detail {

/// Length of the UTF-8 sequence at the start of `text`, 0 where there is none.
inline int utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  const int length = lead < 0x80                   ? 1
                     : lead >= 0xc2 && lead < 0xe0 ? 2
                     : lead >= 0xe0 && lead < 0xf0 ? 3
                     : lead >= 0xf0 && lead < 0xf5 ? 4
                                                   : 0;
  if (length == 0 || text.size() < static_cast<std::size_t>(length)) {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if ((at(static_cast<std::size_t>(i)) & 0xc0u) != 0x80u) {
      return 0;
    }
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF.
  const unsigned char second = length > 1 ? at(1) : static_cast<unsigned char>(0x80);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) ||
      (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90)) {
    return 0;
  }
  return length;
}

/// Microseconds, in the shortest decimal form that reads back as the same number.
inline void append_number(std::string& out, double value) {
  std::array<char, 32> buffer{};
  const auto done = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  out.append(buffer.data(), done.ptr);
}

}  // namespace detail

/// Appends `text` as a JSON string, quotes included.
///
/// Bytes that are no UTF-8 become U+FFFD, so that a viewer accepts any name.
inline void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  out += '"';
  while (!text.empty()) {
    const char c = text.front();
    const int length = detail::utf8_length(text);
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += digits[static_cast<unsigned char>(c) >> 4];
      out += digits[static_cast<unsigned char>(c) & 15u];
    } else {
      out += text.substr(0, static_cast<std::size_t>(length));
    }
    text.remove_prefix(length == 0 ? 1 : static_cast<std::size_t>(length));
  }
  out += '"';
}

/// Returns: the timeline as a JSON document in Chrome's trace event format, which
/// `chrome://tracing` and Perfetto open.
///
/// Cost: one pass; about 120 bytes per event.
/// Source: "Trace Event Format" (Google): complete events `X` and metadata events `M`.
inline std::string to_chrome_trace(const timeline& t) {
  const double scale = t.ticks_per_microsecond > 0 ? t.ticks_per_microsecond : 1.0;
  std::string out = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";
  const char* separator = "\n";
  const auto open = [&](const char* phase, int process, int lane) {
    out += separator;
    separator = ",\n";
    out += "{\"ph\":\"";
    out += phase;
    out += "\",\"pid\":" + std::to_string(process) + ",\"tid\":" + std::to_string(lane);
  };
  for (const timeline::lane_name& lane : t.lanes()) {
    open("M", lane.process, lane.lane);
    out += ",\"name\":\"thread_name\",\"args\":{\"name\":";
    append_json_string(out, lane.name);
    out += "}}";
    open("M", lane.process, lane.lane);
    out += ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":" + std::to_string(lane.lane);
    out += "}}";
  }
  for (const event& e : t.events()) {
    open("X", e.process, e.lane);
    out += ",\"ts\":";
    detail::append_number(out, static_cast<double>(e.start) / scale);
    out += ",\"dur\":";
    detail::append_number(out, static_cast<double>(e.duration) / scale);
    out += ",\"name\":";
    append_json_string(out, e.name);
    if (!e.category.empty()) {
      out += ",\"cat\":";
      append_json_string(out, e.category);
    }
    if (!e.details.empty()) {
      out += ",\"args\":{";
      const char* comma = "";
      for (const auto& [key, value] : e.details) {
        out += comma;
        comma = ",";
        append_json_string(out, key);
        out += ':';
        append_json_string(out, value);
      }
      out += '}';
    }
    out += '}';
  }
  out += "\n]}\n";
  return out;
}

}  // namespace ashlar::trace
