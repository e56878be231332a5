// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ashlar/io/error.hpp"
#include "ashlar/io/gguf_value.hpp"

namespace ashlar::io::detail {

inline std::string gguf_type_name(std::uint32_t type) {
  constexpr std::array<std::string_view, 13> names{
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return std::string(names[type]);
}

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

  std::uint32_t type(const std::string& field) {
    const auto number_of = number<std::uint32_t>(field);
    if (number_of > 12) {
      fail(field, "value type " + std::to_string(number_of) + " is unknown");
    }
    return number_of;
  }

  gguf_value value(std::uint32_t type_number, const std::string& field) {
    if (type_number == gguf_array_type) {
      return array(field, 0);
    }
    gguf_value result;
    pick(type_number, result,
         [&]<class T>(std::type_identity<T>) -> gguf_value { return element<T>(field); });
    return result;
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

  /// `into` = `make(type_identity<alternative>)` for the alternative at place `index`.
  template <class Make>
  static void pick(std::uint32_t index, gguf_value& into, Make make) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((I == index
            ? void(into = make(std::type_identity<std::variant_alternative_t<I, gguf_value>>{}))
            : void()),
       ...);
    }(std::make_index_sequence<std::variant_size_v<gguf_value>>{});
  }

  template <class T>
  T element(const std::string& field) {
    if constexpr (std::is_same_v<T, std::string>) {
      return std::string(text(field));
    } else if constexpr (std::is_same_v<T, gguf_array>) {
      return array(field, 0);
    } else if constexpr (std::is_same_v<T, bool>) {
      const auto byte = number<std::uint8_t>(field);
      if (byte > 1) {
        fail(field, "a bool of " + std::to_string(byte));
      }
      return byte != 0;
    } else {
      return number<T>(field);
    }
  }

  gguf_array array(const std::string& field, int depth) {
    if (depth == max_nesting) {
      fail(field, "arrays nest deeper than " + std::to_string(max_nesting));
    }
    const std::uint32_t of = type(field + ".type");
    const auto count = number<std::uint64_t>(field + ".count");
    if (count > left() / gguf_least_bytes(of)) {
      fail(field + ".count", std::to_string(count) + " elements do not fit into the " +
                                 std::to_string(left()) + " bytes left");
    }
    gguf_array result;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ((I == of ? void(fill<std::variant_alternative_t<I, gguf_value>>(
                      result, static_cast<std::size_t>(count), field, depth))
                : void()),
       ...);
    }(std::make_index_sequence<std::variant_size_v<gguf_value>>{});
    return result;
  }

  template <class T>
  void fill(gguf_array& into, std::size_t count, const std::string& field, int depth) {
    auto& elements = into.elements.emplace<std::vector<T>>();
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      elements.resize(count);
      if (count > 0) {
        std::memcpy(elements.data(), take(count * sizeof(T), field), count * sizeof(T));
      }
    } else {
      // no reserve: elements are wider in memory than the least they take in the file
      for (std::size_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<T, gguf_array>) {
          elements.push_back(array(field, depth + 1));
        } else {
          elements.push_back(element<T>(field));
        }
      }
    }
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

}  // namespace ashlar::io::detail
