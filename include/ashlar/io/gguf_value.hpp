// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ashlar::io {

/// An array of a GGUF file: all elements have one type; arrays nest.
///
/// The alternative's place is the element's type number in the file.
struct gguf_array {
  std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
               std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
               std::vector<float>, std::vector<bool>, std::vector<std::string>,
               std::vector<gguf_array>, std::vector<std::uint64_t>, std::vector<std::int64_t>,
               std::vector<double>>
      elements;

  friend bool operator==(const gguf_array&, const gguf_array&) = default;
};

/// A value of a GGUF file's metadata. The alternative's place is the type number in the file.
using gguf_value = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t,
                                std::uint32_t, std::int32_t, float, bool, std::string, gguf_array,
                                std::uint64_t, std::int64_t, double>;

struct gguf_pair {
  std::string key;
  gguf_value value;

  friend bool operator==(const gguf_pair&, const gguf_pair&) = default;
};

namespace detail {

inline constexpr std::uint32_t gguf_string = 8;
inline constexpr std::uint32_t gguf_array_type = 9;

/// Bytes of one element of a type number; for strings and arrays the least that they can take.
constexpr std::uint64_t gguf_least_bytes(std::uint32_t type) {
  constexpr std::uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return bytes[type];
}

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

/// A metadata value as `T`: integers of any width that hold the number, floats of either width,
/// else exactly the type. Nothing where it is something else.
template <class T>
std::optional<T> gguf_convert(const gguf_value& value) {
  if constexpr (std::same_as<T, bool> || std::same_as<T, std::string>) {
    const T* same = std::get_if<T>(&value);
    return same != nullptr ? std::optional(*same) : std::nullopt;
  } else if constexpr (is_vector<T>) {
    const gguf_array* array = std::get_if<gguf_array>(&value);
    const T* same = array != nullptr ? std::get_if<T>(&array->elements) : nullptr;
    return same != nullptr ? std::optional(*same) : std::nullopt;
  } else {
    return std::visit(
        [](const auto& v) -> std::optional<T> {
          using V = std::remove_cvref_t<decltype(v)>;
          if constexpr (std::floating_point<T> && std::floating_point<V>) {
            return static_cast<T>(v);
          } else if constexpr (std::integral<T> && std::integral<V> && !std::same_as<V, bool>) {
            return std::in_range<T>(v) ? std::optional(static_cast<T>(v)) : std::nullopt;
          } else {
            return std::nullopt;
          }
        },
        value);
  }
}

}  // namespace detail
}  // namespace ashlar::io
