// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"

/// What a call says beside its tensors, as a value.
namespace ashlar::graph {

/// An attribute that is not of the type that was asked for.
struct attribute_error final : error {
  std::string is, asked;

  attribute_error(std::string_view kind, std::string_view wanted,
                  std::source_location at = std::source_location::current())
      : error(at), is(kind), asked(wanted) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph::attribute: it is " + is + ", and " + asked +
           " was asked for; look at kind() first";
  }
};

/// A number, a truth, a list of extents, or a value of the operator's own type.
///
/// Real numbers are equal where their bits are: 0 is not -0. Two of an operator's own type are
/// equal where they are one object, or the type has `==` and says so.
class attribute {
 public:
  enum class kind : std::uint8_t { integer, real, boolean, extents, own };

  attribute() = default;
  template <class T>
    requires(!std::same_as<T, attribute>)
  explicit attribute(const T& value) {
    if constexpr (std::same_as<T, bool>) {
      value_ = value;
    } else if constexpr (std::integral<T> || std::is_enum_v<T>) {
      value_ = static_cast<std::int64_t>(value);
    } else if constexpr (std::floating_point<T>) {
      value_ = static_cast<double>(value);
    } else if constexpr (std::same_as<T, shape>) {
      value_ = value;
    } else {
      value_ = own{std::make_shared<const T>(value), &type_id<T>, &same<T>};
    }
  }

  [[nodiscard]] kind what() const { return static_cast<kind>(value_.index()); }

  /// The value as the operator's parameter has it. Throws: `attribute_error`.
  template <class T>
  [[nodiscard]] T as() const {
    if constexpr (std::same_as<T, bool> || std::same_as<T, shape>) {
      return get<T>();
    } else if constexpr (std::integral<T> || std::is_enum_v<T>) {
      return static_cast<T>(get<std::int64_t>());
    } else if constexpr (std::floating_point<T>) {
      return static_cast<T>(get<double>());
    } else {
      const own& mine = get<own>();
      if (mine.type != &type_id<T>) {
        throw attribute_error("of another type", "one of the operator's own");
      }
      return *static_cast<const T*>(mine.object.get());
    }
  }

  friend bool operator==(const attribute& a, const attribute& b) {
    const double* const x = std::get_if<double>(&a.value_);
    const double* const y = std::get_if<double>(&b.value_);
    return x != nullptr && y != nullptr
               ? std::bit_cast<std::uint64_t>(*x) == std::bit_cast<std::uint64_t>(*y)
               : a.value_ == b.value_;
  }

 private:
  template <class T>
  static constexpr char type_id = 0;
  template <class T>
  static bool same(const void* a, const void* b) {
    if constexpr (std::equality_comparable<T>) {
      return *static_cast<const T*>(a) == *static_cast<const T*>(b);
    } else {
      return a == b;
    }
  }
  struct own {
    std::shared_ptr<const void> object;
    const char* type = nullptr;
    bool (*equal)(const void*, const void*) = nullptr;

    friend bool operator==(const own& a, const own& b) {
      return a.type == b.type && (a.object == b.object || a.equal(a.object.get(), b.object.get()));
    }
  };
  template <class T>
  [[nodiscard]] const T& get() const {
    if (const T* const found = std::get_if<T>(&value_)) {
      return *found;
    }
    constexpr std::string_view names[]{"a whole number", "a real number", "a truth value",
                                       "a list of extents", "a value of its own type"};
    throw attribute_error(names[value_.index()],
                          names[std::variant<std::int64_t, double, bool, shape, own>(T{}).index()]);
  }

  std::variant<std::int64_t, double, bool, shape, own> value_;
};

}  // namespace ashlar::graph
