// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/io/error.hpp"

namespace ashlar::io::detail {

using json = nlohmann::json;

/// At most 60 printable characters of a name from a file, for use in a message.
inline std::string printable(std::string_view name) {
  std::string shown;
  for (const char c : name.substr(0, 60)) {
    shown += c >= ' ' && c != 0x7f ? c : '?';
  }
  return name.size() > 60 ? shown + "..." : shown;
}

/// Parses one JSON object.
///
/// Throws: `format_error` at `field` for bad syntax, nesting deeper than 64, and repeated keys.
inline json parse_json(std::string_view text, const std::string& format, const std::string& field) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') {
    throw format_error(format, field, "it does not begin a JSON object");
  }
  if (text.find('\0') != std::string_view::npos) {  // the parser would take it for the end
    throw format_error(format, field, "a byte of it is zero");
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > 64) {
      throw format_error(format, field, "JSON nests deeper than 64");
    }
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw format_error(format, field, "key '" + printable(key) + "' appears twice");
      }
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& e) {
    throw format_error(format, field, e.what());
  }
}

/// A place in a JSON document that knows its path, so that every complaint names the field.
class json_field {
 public:
  json_field(const json& value, const std::string& format, std::string path = {})
      : value_(&value), format_(&format), path_(std::move(path)) {}

  [[nodiscard]] const json& value() const { return *value_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw format_error(*format_, path_.empty() ? "document" : path_, reason);
  }

  /// Null counts as absent: writers spell "no value" both ways.
  [[nodiscard]] bool has(const std::string& key) const {
    const auto at = object().find(key);
    return at != value_->end() && !at->is_null();
  }
  [[nodiscard]] json_field operator[](const std::string& key) const {
    const auto at = object().find(key);
    const std::string path = path_.empty() ? key : path_ + "." + key;
    if (at == value_->end()) {
      throw format_error(*format_, path, "it is missing");
    }
    return {*at, *format_, path};
  }
  [[nodiscard]] json_field operator[](std::size_t i) const {
    return {(*value_)[i], *format_, path_ + "[" + std::to_string(i) + "]"};
  }
  [[nodiscard]] std::size_t size() const { return array().size(); }

  [[nodiscard]] const json& object() const {
    if (!value_->is_object()) {
      fail("it is not an object");
    }
    return *value_;
  }
  [[nodiscard]] const json& array() const {
    if (!value_->is_array()) {
      fail("it is not an array");
    }
    return *value_;
  }
  [[nodiscard]] const std::string& text() const {
    if (!value_->is_string()) {
      fail("it is not a string");
    }
    return value_->get_ref<const std::string&>();
  }
  [[nodiscard]] bool boolean() const {
    if (!value_->is_boolean()) {
      fail("it is neither true nor false");
    }
    return value_->get<bool>();
  }
  [[nodiscard]] std::int64_t integer(
      std::int64_t least, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    if (!value_->is_number_integer()) {
      fail("it is not an integer");
    }
    // nlohmann keeps what was written without a sign as unsigned
    const bool large = value_->is_number_unsigned() &&
                       value_->get<std::uint64_t>() >
                           static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const std::int64_t number = large ? 0 : value_->get<std::int64_t>();
    if (large || number < least || number > most) {
      fail(value_->dump() + " is not between " + std::to_string(least) + " and " +
           std::to_string(most));
    }
    return number;
  }
  [[nodiscard]] double number() const {
    if (!value_->is_number()) {
      fail("it is not a number");
    }
    return value_->get<double>();
  }

 private:
  const json* value_;
  const std::string* format_;
  std::string path_;
};

}  // namespace ashlar::io::detail
