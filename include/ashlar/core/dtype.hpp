// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "ashlar/core/float8.hpp"

namespace ashlar {

namespace detail {

/// IEEE 754 binary32 -> binary16, round to nearest even, subnormals kept.
constexpr std::uint16_t half_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));  // quiet NaN
  }
  if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    return static_cast<std::uint16_t>(sign | 0x7c00u);
  }
  std::uint32_t half = 0;
  std::uint32_t rest = 0;  // what is cut off, scaled so that a tie is 2^31
  if (magnitude >= 0x38800000u) {
    half = (magnitude - 0x38000000u) >> 13;
    rest = magnitude << 19;
  } else if (magnitude >= 0x33000000u) {
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126u - (magnitude >> 23);  // 14..24
    half = mantissa >> shift;
    rest = mantissa << (32u - shift);
  }
  half += (rest > 0x80000000u || (rest == 0x80000000u && (half & 1u) != 0u)) ? 1u : 0u;
  return static_cast<std::uint16_t>(sign | half);
}

constexpr float half_value(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude >= 0x400u) {
    return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  }
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// binary32 -> its upper half, round to nearest even.
constexpr std::uint16_t brain_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace detail

/// IEEE 754 binary16 as a storage type: arithmetic happens in `float`.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  constexpr explicit float16(float value) : bits(detail::half_bits(value)) {}
  constexpr operator float() const { return detail::half_value(bits); }
};

/// The upper half of a binary32 as a storage type: arithmetic happens in `float`.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  constexpr explicit bfloat16(float value) : bits(detail::brain_bits(value)) {}
  constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

/// Element type as a value; `scalar_of` and `dtype_of` lead to the type and back.
enum class dtype : std::uint8_t {
  boolean,
  uint8,
  int8,
  int32,
  int64,
  float8_e4m3,
  float8_e5m2,
  float16,
  bfloat16,
  float32,
  float64
};

/// The element types in the order of `dtype`.
using scalar_types =
    std::tuple<bool, std::uint8_t, std::int8_t, std::int32_t, std::int64_t, ashlar::float8_e4m3,
               ashlar::float8_e5m2, ashlar::float16, ashlar::bfloat16, float, double>;
inline constexpr int dtype_count = std::tuple_size_v<scalar_types>;

template <dtype D>
using scalar_of = std::tuple_element_t<static_cast<std::size_t>(D), scalar_types>;

namespace detail {
template <class T>
consteval int dtype_index() {
  return []<class... S>(std::type_identity<std::tuple<S...>>) {
    int i = 0;
    const bool found = ((std::same_as<S, T> || (++i, false)) || ...);
    return found ? i : -1;
  }(std::type_identity<scalar_types>{});
}
}  // namespace detail

/// A type that a tensor can hold.
template <class T>
concept Scalar = detail::dtype_index<T>() >= 0;

template <Scalar T>
inline constexpr dtype dtype_of = static_cast<dtype>(detail::dtype_index<T>());

/// The formats of 8 and 16 bits, which are stored and computed with in `float`.
template <class T>
concept NarrowFloating = std::same_as<T, float16> || std::same_as<T, bfloat16> ||
                         std::same_as<T, float8_e4m3> || std::same_as<T, float8_e5m2>;

/// float, double and the narrow formats.
template <class T>
concept Floating = std::floating_point<T> || NarrowFloating<T>;

constexpr bool is_floating(dtype d) { return d >= dtype::float8_e4m3; }
constexpr bool is_narrow_floating(dtype d) {
  return d >= dtype::float8_e4m3 && d <= dtype::bfloat16;
}
constexpr bool is_integral(dtype d) { return d <= dtype::int64; }

constexpr std::size_t size_of(dtype d) {
  constexpr std::array<std::size_t, dtype_count> bytes{1, 1, 1, 4, 8, 1, 1, 2, 2, 4, 8};
  return bytes[static_cast<std::size_t>(d)];
}

namespace detail {
/// The bits of the largest number of a narrow format.
constexpr std::uint16_t largest_bits(dtype d) {
  return d == dtype::float8_e4m3   ? e4m3_format.largest
         : d == dtype::float8_e5m2 ? e5m2_format.largest
         : d == dtype::float16     ? 0x7bff
                                   : 0x7f7f;
}
}  // namespace detail

constexpr std::string_view name_of(dtype d) {
  constexpr std::array<std::string_view, dtype_count> names{
      "bool",        "uint8",   "int8",     "int32",   "int64",  "float8_e4m3",
      "float8_e5m2", "float16", "bfloat16", "float32", "float64"};
  return names[static_cast<std::size_t>(d)];
}

/// The type in which sums and products of `T` are formed: `float` for the narrow formats.
template <Scalar T>
using compute_type = std::conditional_t<NarrowFloating<T>, float, T>;

namespace detail {
template <class First, class... Rest>
struct common_compute {
  using type = compute_type<First>;
};
template <class Second, class... Rest>
struct common_compute<bool, Second, Rest...> : common_compute<Second, Rest...> {};
}  // namespace detail

/// The type in which a function of elements `S...` is computed: that of the first that is not
/// `bool`, since `bool` beside others is a condition.
template <Scalar... S>
using common_compute_type = typename detail::common_compute<S...>::type;

/// The element type of an operation on two tensors.
///
/// As in PyTorch: the wider category wins (boolean < integral < floating), then the wider type;
/// two different formats of one narrow size meet in float32. uint8 and int8 meet in int32, since
/// the library has no int16.
constexpr dtype promote(dtype a, dtype b) {
  if (a == b) {
    return a;
  }
  const dtype low = a < b ? a : b;
  const dtype high = a < b ? b : a;
  if (low == dtype::uint8 && high == dtype::int8) {
    return dtype::int32;
  }
  if ((low == dtype::float16 && high == dtype::bfloat16) ||
      (low == dtype::float8_e4m3 && high == dtype::float8_e5m2)) {
    return dtype::float32;
  }
  return high;
}

/// The type of integers where something floating is made of them: quotients, roots.
inline constexpr dtype default_floating = dtype::float32;

namespace detail {
/// 0 for boolean, 1 for integral, 2 for floating.
constexpr int category_of(dtype d) { return d == dtype::boolean ? 0 : is_integral(d) ? 1 : 2; }
}  // namespace detail

/// `strong` beside what only counts where it is of a wider category: a plain number, and at run
/// time a tensor without dimensions beside one that has some.
constexpr dtype promote_category(dtype strong, dtype weak) {
  return detail::category_of(weak) > detail::category_of(strong) ? weak : strong;
}

/// The element type of an operation on a tensor of type `x` and a plain number.
///
/// As in PyTorch: a number of a wider category (boolean < integral < floating) brings the default
/// type of its category, int64 or float32; any other number takes the tensor's type.
template <class Number>
  requires std::is_arithmetic_v<Number>
constexpr dtype promote_with_number(dtype x) {
  constexpr dtype number = std::is_floating_point_v<Number> ? default_floating
                           : std::is_same_v<Number, bool>   ? dtype::boolean
                                                            : dtype::int64;
  return promote_category(x, number);
}

/// Element types met one by one, as PyTorch's `result_type` meets them: tensors with dimensions
/// before those without, which count only where they are of a wider category.
class met_types {
 public:
  constexpr void meet(dtype d, int rank) {
    dtype& joined = rank > 0 ? with_ : without_;
    bool& any = rank > 0 ? any_with_ : any_without_;
    joined = any ? promote(joined, d) : d;
    any = true;
  }
  /// `boolean` where nothing was met.
  [[nodiscard]] constexpr dtype type() const {
    return !any_with_ ? without_ : any_without_ ? promote_category(with_, without_) : with_;
  }

 private:
  dtype with_ = dtype::boolean;
  dtype without_ = dtype::boolean;
  bool any_with_ = false;
  bool any_without_ = false;
};

/// Whether a result of type `from` may be written to an output of type `to`: not to a narrower
/// category, as in PyTorch.
constexpr bool can_cast(dtype from, dtype to) {
  return detail::category_of(from) <= detail::category_of(to);
}

template <Scalar A, Scalar B>
using promoted = scalar_of<promote(dtype_of<A>, dtype_of<B>)>;

}  // namespace ashlar
