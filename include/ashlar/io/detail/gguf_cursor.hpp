// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "ashlar/io/error.hpp"
#include "ashlar/io/gguf_value.hpp"

namespace ashlar::io::detail {

/// Takes values off the front of a GGUF file; every read checks the bytes left and names a field.
class gguf_cursor {
 public:
  explicit gguf_cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[noreturn]] void fail(const std::string& field, const std::string& reason) const {
    throw format_error("gguf", field, reason);
  }
  [[nodiscard]] std::size_t position() const { return at_; }
  [[nodiscard]] std::size_t left() const { return bytes_.size() - at_; }

  template <class T>
  T number(const std::string& field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field), sizeof(T));
    return value;
  }

  std::string_view text(const std::string& field) {
    const auto length = number<std::uint64_t>(field);
    if (length > left()) {
      fail(field, "a string of " + std::to_string(length) + " bytes, but " +
                      std::to_string(left()) + " are left");
    }
    const auto* characters =
        reinterpret_cast<const char*>(take(static_cast<std::size_t>(length), field));
    return {characters, static_cast<std::size_t>(length)};
  }

  gguf_type type(const std::string& field) {
    const auto number_of = number<std::uint32_t>(field);
    if (number_of > 12) {
      fail(field, "value type " + std::to_string(number_of) + " is unknown");
    }
    return static_cast<gguf_type>(number_of);
  }

  gguf_value value(gguf_type type, const std::string& field) {
    const std::size_t begin = at_;
    check(type, field, 0);
    return {type, std::string(reinterpret_cast<const char*>(bytes_.data()) + begin, at_ - begin)};
  }

 private:
  static constexpr int max_nesting = 16;  // recursion: a hostile file must not choose its depth

  const std::byte* take(std::size_t count, const std::string& field) {
    if (count > left()) {
      fail(field, "the file ends inside it");
    }
    const std::byte* here = bytes_.data() + at_;
    at_ += count;
    return here;
  }

  /// Steps over one value.
  void check(gguf_type type, const std::string& field, int depth) {
    if (type == gguf_type::array) {
      check_array(field, depth);
    } else if (type == gguf_type::string) {
      text(field);
    } else if (type == gguf_type::boolean) {
      const auto byte = number<std::uint8_t>(field);
      if (byte > 1) {
        fail(field, "a bool of " + std::to_string(byte));
      }
    } else {
      take(gguf_least_bytes(type), field);
    }
  }

  void check_array(const std::string& field, int depth) {
    if (depth == max_nesting) {
      fail(field, "arrays nest deeper than " + std::to_string(max_nesting));
    }
    const gguf_type of = type(field + ".type");
    const auto count = number<std::uint64_t>(field + ".count");
    if (count > left() / gguf_least_bytes(of)) {
      fail(field + ".count", std::to_string(count) + " elements do not fit into the " +
                                 std::to_string(left()) + " bytes left");
    }
    if (of != gguf_type::string && of != gguf_type::array && of != gguf_type::boolean) {
      take(static_cast<std::size_t>(count) * gguf_least_bytes(of), field);
      return;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      check(of, field, depth + 1);
    }
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

}  // namespace ashlar::io::detail
