// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ashlar::io {

/// The types of values in a GGUF file, with the file's numbers.
enum class gguf_type : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64
};

constexpr std::string_view name_of(gguf_type type) {
  constexpr std::string_view names[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                        "int32",  "float32", "bool",   "string", "array",
                                        "uint64", "int64",   "float64"};
  return names[static_cast<std::size_t>(type)];
}

class gguf_array;

namespace detail {

class gguf_cursor;

/// Bytes of one element of a type; for strings and arrays the least that they can take.
constexpr std::size_t gguf_least_bytes(gguf_type type) {
  constexpr std::uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return bytes[static_cast<std::size_t>(type)];
}

template <class T>
constexpr gguf_type gguf_number() {
  static_assert(
      sizeof(T) <= 8 && (std::integral<T> || std::same_as<T, float> || std::same_as<T, double>),
      "ashlar::io::gguf_value: the format has no number of this type; convert it to an "
      "integer of at most 64 bits, float or double");
  if constexpr (std::same_as<T, bool>) {
    return gguf_type::boolean;
  } else if constexpr (std::floating_point<T>) {
    return sizeof(T) == 4 ? gguf_type::float32 : gguf_type::float64;
  } else {
    constexpr gguf_type of_unsigned = sizeof(T) == 1   ? gguf_type::uint8
                                      : sizeof(T) == 2 ? gguf_type::uint16
                                      : sizeof(T) == 4 ? gguf_type::uint32
                                                       : gguf_type::uint64;
    return static_cast<gguf_type>(static_cast<std::uint32_t>(of_unsigned) +
                                  std::signed_integral<T>);
  }
}

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <class T>
T gguf_load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <class T>
void gguf_append(std::string& bytes, T number) {
  char own[sizeof(T)];
  std::memcpy(own, &number, sizeof(T));
  bytes.append(own, sizeof(T));
}

}  // namespace detail

/// A value of a GGUF file's metadata, held as the bytes that the file holds.
///
/// Made from numbers, `bool`, text, and vectors of these. Values are equal where type and bytes
/// are: a NaN equals itself, and 0 differs from -0.
class gguf_value {
 public:
  gguf_value() : gguf_value(std::uint8_t{0}) {}
  template <class T>
    requires std::is_arithmetic_v<T>
  gguf_value(T number) : type_(detail::gguf_number<T>()) {
    detail::gguf_append(bytes_, number);
  }
  template <std::convertible_to<std::string_view> Text>
  gguf_value(const Text& text) : type_(gguf_type::string) {
    const std::string_view characters(text);
    detail::gguf_append(bytes_, std::uint64_t{characters.size()});
    bytes_ += characters;
  }
  gguf_value(const gguf_array& array);
  template <class T>
  gguf_value(const std::vector<T>& elements);

  [[nodiscard]] gguf_type type() const { return type_; }
  /// The bytes of the value as they lie in a file.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

  /// Returns: the value as `T`, or nothing where it is something else. Integers fit any integer
  ///          type that holds the number, floats either width; `std::vector<E>` wants the file's
  ///          element type.
  template <class T>
  [[nodiscard]] std::optional<T> as() const;

  friend bool operator==(const gguf_value& a, const gguf_value& b) {
    return a.type_ == b.type_ && a.bytes_ == b.bytes_;
  }

 private:
  friend class detail::gguf_cursor;

  /// Requires: the bytes are whole, as the reader has checked.
  gguf_value(gguf_type type, std::string bytes) : type_(type), bytes_(std::move(bytes)) {}

  /// The number of an integer type; a uint64 keeps its bits.
  [[nodiscard]] std::int64_t integer() const {
    const char* const from = bytes_.data();
    switch (type_) {
      case gguf_type::uint8:
        return detail::gguf_load<std::uint8_t>(from);
      case gguf_type::int8:
        return detail::gguf_load<std::int8_t>(from);
      case gguf_type::uint16:
        return detail::gguf_load<std::uint16_t>(from);
      case gguf_type::int16:
        return detail::gguf_load<std::int16_t>(from);
      case gguf_type::uint32:
        return detail::gguf_load<std::uint32_t>(from);
      case gguf_type::int32:
        return detail::gguf_load<std::int32_t>(from);
      default:
        return detail::gguf_load<std::int64_t>(from);
    }
  }
  [[nodiscard]] bool is_integer() const {
    return type_ <= gguf_type::int32 || type_ == gguf_type::uint64 || type_ == gguf_type::int64;
  }

  gguf_type type_;
  std::string bytes_;
};

/// An array of a GGUF file: all elements have one type; arrays nest.
///
/// Equal as values are.
class gguf_array {
 public:
  gguf_array() : gguf_array(std::vector<std::uint8_t>()) {}
  template <class T>
  gguf_array(const std::vector<T>& elements) {
    if constexpr (std::is_arithmetic_v<T>) {
      begin(detail::gguf_number<T>(), elements.size());
    } else {
      begin(std::same_as<T, gguf_array> ? gguf_type::array : gguf_type::string, elements.size());
    }
    for (const auto& element : elements) {
      if constexpr (std::same_as<T, gguf_array>) {
        bytes_ += element.bytes_;
      } else if constexpr (std::is_arithmetic_v<T>) {
        detail::gguf_append<T>(bytes_, element);
      } else {
        bytes_ += gguf_value(element).bytes();
      }
    }
  }

  /// The elements' type.
  [[nodiscard]] gguf_type type() const {
    return static_cast<gguf_type>(detail::gguf_load<std::uint32_t>(bytes_.data()));
  }
  [[nodiscard]] std::size_t size() const {
    return static_cast<std::size_t>(detail::gguf_load<std::uint64_t>(bytes_.data() + 4));
  }
  /// Type, count and elements as they lie in a file.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

  /// Returns: the elements, or nothing where they are not of the type `T`.
  template <class T>
  [[nodiscard]] std::optional<std::vector<T>> as() const {
    return read<T>(bytes_);
  }

  friend bool operator==(const gguf_array& a, const gguf_array& b) { return a.bytes_ == b.bytes_; }

 private:
  friend class gguf_value;

  /// Requires: the bytes are whole.
  explicit gguf_array(std::string bytes) : bytes_(std::move(bytes)) {}

  void begin(gguf_type of, std::size_t count) {
    detail::gguf_append(bytes_, static_cast<std::uint32_t>(of));
    detail::gguf_append(bytes_, std::uint64_t{count});
  }

  /// Bytes of the array that begins `bytes`.
  static std::size_t extent(const char* bytes) {
    const auto of = static_cast<gguf_type>(detail::gguf_load<std::uint32_t>(bytes));
    const auto count = static_cast<std::size_t>(detail::gguf_load<std::uint64_t>(bytes + 4));
    std::size_t size = 12;
    if (of != gguf_type::string && of != gguf_type::array) {
      return size + count * detail::gguf_least_bytes(of);
    }
    for (std::size_t i = 0; i < count; ++i) {
      size += of == gguf_type::array ? extent(bytes + size) : text_at(bytes + size).size() + 8;
    }
    return size;
  }
  static std::string_view text_at(const char* bytes) {
    return {bytes + 8, static_cast<std::size_t>(detail::gguf_load<std::uint64_t>(bytes))};
  }

  template <class T>
  static std::optional<std::vector<T>> read(std::string_view bytes) {
    constexpr bool is_text = std::same_as<T, std::string>;
    constexpr bool is_array = std::same_as<T, gguf_array>;
    gguf_type wanted = is_text ? gguf_type::string : gguf_type::array;
    if constexpr (!is_text && !is_array) {
      wanted = detail::gguf_number<T>();
    }
    if (detail::gguf_load<std::uint32_t>(bytes.data()) != static_cast<std::uint32_t>(wanted)) {
      return std::nullopt;
    }
    const auto count = static_cast<std::size_t>(detail::gguf_load<std::uint64_t>(bytes.data() + 4));
    const char* at = bytes.data() + 12;
    std::vector<T> elements;
    elements.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (is_text) {
        elements.emplace_back(text_at(at));
        at += elements.back().size() + 8;
      } else if constexpr (is_array) {
        elements.push_back(gguf_array(std::string(at, extent(at))));
        at += elements.back().bytes_.size();
      } else {
        elements.push_back(detail::gguf_load<T>(at));
        at += sizeof(T);
      }
    }
    return elements;
  }

  std::string bytes_;
};

inline gguf_value::gguf_value(const gguf_array& array)
    : type_(gguf_type::array), bytes_(array.bytes()) {}

template <class T>
gguf_value::gguf_value(const std::vector<T>& elements) : gguf_value(gguf_array(elements)) {}

template <class T>
std::optional<T> gguf_value::as() const {
  if constexpr (std::same_as<T, bool>) {
    return type_ == gguf_type::boolean ? std::optional(bytes_[0] != 0) : std::nullopt;
  } else if constexpr (std::same_as<T, std::string>) {
    return type_ == gguf_type::string ? std::optional(bytes_.substr(8)) : std::nullopt;
  } else if constexpr (std::same_as<T, gguf_array>) {
    return type_ == gguf_type::array ? std::optional(gguf_array(bytes_)) : std::nullopt;
  } else if constexpr (detail::is_vector<T>) {
    return type_ == gguf_type::array ? gguf_array::read<typename T::value_type>(bytes_)
                                     : std::nullopt;
  } else if constexpr (std::floating_point<T>) {
    const char* const from = bytes_.data();
    if (type_ == gguf_type::float32) {
      return static_cast<T>(detail::gguf_load<float>(from));
    }
    return type_ == gguf_type::float64
               ? std::optional(static_cast<T>(detail::gguf_load<double>(from)))
               : std::nullopt;
  } else {
    const std::int64_t number = is_integer() ? integer() : 0;
    const bool fits = type_ == gguf_type::uint64
                          ? std::in_range<T>(static_cast<std::uint64_t>(number))
                          : std::in_range<T>(number);
    return is_integer() && fits ? std::optional(static_cast<T>(number)) : std::nullopt;
  }
}

struct gguf_pair {
  std::string key;
  gguf_value value;

  friend bool operator==(const gguf_pair&, const gguf_pair&) = default;
};

}  // namespace ashlar::io
