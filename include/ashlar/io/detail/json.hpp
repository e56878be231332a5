// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
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

enum class json_kind : std::uint8_t {
  null,
  boolean,
  integer,  ///< written with a minus sign
  natural,  ///< written without
  real,
  string,
  array,
  object
};

/// A value of a parsed document; lighter for the compiler than the parser's own.
struct json_value {
  json_kind kind = json_kind::null;
  std::string key;   ///< of a member of an object
  std::string text;  ///< of a string; of a real number as it was written
  union {
    std::int64_t integer = 0;
    std::uint64_t natural;
    double real;
    bool boolean;
  };
  std::vector<json_value> items;  ///< elements, or members in the order of their keys

  [[nodiscard]] double number() const {
    return kind == json_kind::real      ? real
           : kind == json_kind::natural ? static_cast<double>(natural)
                                        : static_cast<double>(integer);
  }
  [[nodiscard]] bool is_number() const {
    return kind == json_kind::integer || kind == json_kind::natural || kind == json_kind::real;
  }
  [[nodiscard]] bool is(std::string_view other) const {
    return kind == json_kind::string && text == other;
  }
  [[nodiscard]] bool is(bool other) const { return kind == json_kind::boolean && boolean == other; }
  [[nodiscard]] bool is(double other) const { return is_number() && number() == other; }
};

inline std::string json_quoted(std::string_view text) {
  constexpr std::string_view named = "\"\\\b\f\n\r\t";
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    if (const auto at = named.find(c); at != std::string_view::npos) {
      out += '\\';
      out += std::string_view("\"\\bfnrt")[at];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += digits[static_cast<std::size_t>(c) >> 4];
      out += digits[static_cast<std::size_t>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// The value as JSON text without spaces.
inline std::string to_text(const json_value& value) {
  switch (value.kind) {
    case json_kind::null:
      return "null";
    case json_kind::boolean:
      return value.boolean ? "true" : "false";
    case json_kind::integer:
      return std::to_string(value.integer);
    case json_kind::natural:
      return std::to_string(value.natural);
    case json_kind::real:
      return value.text;
    case json_kind::string:
      return json_quoted(value.text);
    default:
      break;
  }
  const bool object = value.kind == json_kind::object;
  std::string out(1, object ? '{' : '[');
  for (const json_value& item : value.items) {
    out += out.size() > 1 ? "," : "";
    out += object ? json_quoted(item.key) + ":" : "";
    out += to_text(item);
  }
  return out + (object ? '}' : ']');
}

/// Builds a `json_value` from what the parser finds.
///
/// Throws: `format_error` for bad syntax, nesting deeper than 64, and repeated keys.
class json_builder {
 public:
  json_builder(const std::string& format, const std::string& field)
      : format_(format), field_(field) {}

  bool null() {
    add(json_kind::null);
    return true;
  }
  bool boolean(bool value) {
    add(json_kind::boolean).boolean = value;
    return true;
  }
  bool number_integer(std::int64_t value) {
    add(json_kind::integer).integer = value;
    return true;
  }
  bool number_unsigned(std::uint64_t value) {
    add(json_kind::natural).natural = value;
    return true;
  }
  bool number_float(double value, const std::string& written) {
    json_value& added = add(json_kind::real);
    added.real = value;
    added.text = written;
    return true;
  }
  bool string(std::string& value) {
    add(json_kind::string).text = std::move(value);
    return true;
  }
  bool start_object(std::size_t) {
    open_.push_back(std::move(add(json_kind::object)));
    return true;
  }
  bool start_array(std::size_t) {
    open_.push_back(std::move(add(json_kind::array)));
    return true;
  }
  bool key(std::string& name) {
    check_depth();
    key_ = std::move(name);
    return true;
  }
  bool end_array() {
    json_value done = std::move(open_.back());
    open_.pop_back();
    (open_.empty() ? root_ : open_.back().items.back()) = std::move(done);
    return true;
  }
  bool end_object() {
    std::vector<json_value>& members = open_.back().items;
    std::sort(members.begin(), members.end(),
              [](const json_value& a, const json_value& b) { return a.key < b.key; });
    for (std::size_t i = 1; i < members.size(); ++i) {
      if (members[i].key == members[i - 1].key) {
        fail("key '" + printable(members[i].key) + "' appears twice");
      }
    }
    return end_array();
  }
  bool binary(json::binary_t&) { return false; }  // JSON text has none
  bool parse_error(std::size_t, const std::string&, const json::exception& e) { fail(e.what()); }

  [[nodiscard]] json_value result() { return std::move(root_); }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw format_error(format_, field_, reason);
  }
  void check_depth() const {
    if (open_.size() > 64) {
      fail("JSON nests deeper than 64");
    }
  }
  json_value& add(json_kind kind) {
    check_depth();
    json_value& added = open_.empty() ? root_ : open_.back().items.emplace_back();
    added.kind = kind;
    added.key = std::move(key_);
    key_.clear();
    return added;
  }

  const std::string& format_;
  const std::string& field_;
  json_value root_;
  std::string key_;
  std::vector<json_value> open_;  // moved out of their parents until they end
};

/// Parses one JSON object.
///
/// Throws: `format_error` at `field` for bad syntax, nesting deeper than 64, and repeated keys.
inline json_value parse_json(std::string_view text, const std::string& format,
                             const std::string& field) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') {
    throw format_error(format, field, "it does not begin a JSON object");
  }
  if (text.find('\0') != std::string_view::npos) {  // the parser would take it for the end
    throw format_error(format, field, "a byte of it is zero");
  }
  json_builder builder(format, field);
  json::sax_parse(text.data(), text.data() + text.size(), &builder);
  return builder.result();
}

/// A place in a JSON document that knows its path, so that every complaint names the field.
class json_field {
 public:
  json_field(const json_value& value, const std::string& format, std::string path = {})
      : value_(&value), format_(&format), path_(std::move(path)) {}

  [[nodiscard]] const json_value& value() const { return *value_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw format_error(*format_, path_.empty() ? "document" : path_, reason);
  }

  /// Null counts as absent: writers spell "no value" both ways.
  [[nodiscard]] bool has(std::string_view key) const {
    const json_value* found = find(key);
    return found != nullptr && found->kind != json_kind::null;
  }
  [[nodiscard]] json_field operator[](std::string_view key) const {
    const json_value* found = find(key);
    const std::string path = (path_.empty() ? "" : path_ + ".") + std::string(key);
    if (found == nullptr) {
      throw format_error(*format_, path, "it is missing");
    }
    return {*found, *format_, path};
  }
  [[nodiscard]] json_field operator[](std::size_t i) const {
    return {value_->items[i], *format_, path_ + "[" + std::to_string(i) + "]"};
  }
  [[nodiscard]] std::size_t size() const {
    if (value_->kind != json_kind::array) {
      fail("it is not an array");
    }
    return value_->items.size();
  }
  [[nodiscard]] const std::vector<json_value>& members() const {
    if (value_->kind != json_kind::object) {
      fail("it is not an object");
    }
    return value_->items;
  }
  [[nodiscard]] const std::string& text() const {
    if (value_->kind != json_kind::string) {
      fail("it is not a string");
    }
    return value_->text;
  }
  [[nodiscard]] bool boolean() const {
    if (value_->kind != json_kind::boolean) {
      fail("it is neither true nor false");
    }
    return value_->boolean;
  }
  [[nodiscard]] std::int64_t integer(
      std::int64_t least, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const bool natural = value_->kind == json_kind::natural;
    if (!natural && value_->kind != json_kind::integer) {
      fail("it is not an integer");
    }
    const bool large = natural && value_->natural > static_cast<std::uint64_t>(
                                                        std::numeric_limits<std::int64_t>::max());
    const std::int64_t number = large     ? 0
                                : natural ? static_cast<std::int64_t>(value_->natural)
                                          : value_->integer;
    if (large || number < least || number > most) {
      fail(to_text(*value_) + " is not between " + std::to_string(least) + " and " +
           std::to_string(most));
    }
    return number;
  }
  [[nodiscard]] double number() const {
    if (!value_->is_number()) {
      fail("it is not a number");
    }
    return value_->number();
  }

 private:
  [[nodiscard]] const json_value* find(std::string_view key) const {
    for (const json_value& member : members()) {
      if (member.key == key) {
        return &member;
      }
    }
    return nullptr;
  }

  const json_value* value_;
  const std::string* format_;
  std::string path_;
};

}  // namespace ashlar::io::detail
