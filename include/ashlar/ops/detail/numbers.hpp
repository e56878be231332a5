// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/dispatch/call.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"

/// Plain numbers beside tensors.
namespace ashlar::ops::detail {

/// A number in the element type that a tensor has beside it.
///
/// Integers are exact among integers, modulo 2^bits, and are rounded once to floating types, as in
/// PyTorch.
class number_beside {
 public:
  template <class S>
    requires std::is_arithmetic_v<S>
  constexpr number_beside(S number, dtype type)
      : floating_(std::integral<S> && type != dtype::float64
                      ? static_cast<double>(static_cast<float>(number))
                      : static_cast<double>(number)),
        whole_(is_floating(type) ? 0 : cut(static_cast<std::int64_t>(number), type)),
        type_(type) {}

  [[nodiscard]] constexpr double value() const {
    return is_floating(type_) ? floating_ : static_cast<double>(whole_);
  }
  /// Whether `value()` is the number.
  [[nodiscard]] constexpr bool is_value() const {
    constexpr std::int64_t most = std::int64_t{1} << 53;
    return -most <= whole_ && whole_ <= most;
  }
  /// `upper() + lower()` is the integer, whatever its size.
  [[nodiscard]] constexpr double upper() const { return static_cast<double>(whole_ & ~low); }
  [[nodiscard]] constexpr double lower() const { return static_cast<double>(whole_ & low); }
  /// The same number beside floating elements, those of a quotient: of its whole size.
  [[nodiscard]] constexpr number_beside floating() const {
    return is_floating(type_) ? *this : number_beside(floating_, default_floating);
  }
  /// -1, be it that of unsigned elements.
  [[nodiscard]] constexpr number_beside minus_one() const { return {-1, type_}; }
  [[nodiscard]] constexpr number_beside operator-() const {
    if (is_floating(type_)) {
      return {-floating_, type_};
    }
    return {static_cast<std::int64_t>(-static_cast<std::uint64_t>(whole_)), type_};
  }

 private:
  static constexpr std::int64_t low = 0xffff'ffff;

  static constexpr std::int64_t cut(std::int64_t n, dtype to) {
    switch (to) {
      case dtype::boolean:
        return n != 0 ? 1 : 0;
      case dtype::uint8:
        return static_cast<std::uint8_t>(n);
      case dtype::int8:
        return static_cast<std::int8_t>(n);
      case dtype::int32:
        return static_cast<std::int32_t>(n);
      default:
        return n;
    }
  }

  double floating_;
  std::int64_t whole_;
  dtype type_;
};

/// The number as a tensor without dimensions beside `x`, also at run time.
template <class X>
[[nodiscard]] X number_like(const X& x, const number_beside& number) {
  if constexpr (ashlar::detail::is_any<X>) {
    return x.visit([&](const auto& typed) { return X(number_like(typed, number), 0); });
  } else {
    if constexpr (std::is_same_v<typename X::value_type, std::int64_t>) {
      if (!number.is_value()) {
        return call<scale>(scalar_like(x, number.upper()), 1.0, number.lower());
      }
    }
    return scalar_like(x, number.value());
  }
}

}  // namespace ashlar::ops::detail
