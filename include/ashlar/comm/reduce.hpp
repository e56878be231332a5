// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/core/dtype.hpp"

namespace ashlar::comm {

/// What collectives reduce: every element type of the library.
template <class T>
concept Element = Scalar<T>;

/// A commutative operation on two elements.
template <class Op>
concept ReduceOp = requires(const Op op, float f, std::int64_t i) {
  { op(f, f) } -> std::same_as<float>;
  { op(i, i) } -> std::same_as<std::int64_t>;
};

namespace detail {
/// An operation on whole numbers that wraps around, or one in `compute_type<T>`, rounded to `T`.
template <Element T, class F>
constexpr T in_element(T a, T b, F f) {
  if constexpr (std::integral<T>) {
    using bits = std::uint64_t;  // no operand is promoted to a signed type
    return static_cast<T>(f(static_cast<bits>(a), static_cast<bits>(b)));
  } else {
    using wide = compute_type<T>;
    return static_cast<T>(f(static_cast<wide>(a), static_cast<wide>(b)));
  }
}
}  // namespace detail

/// Integers wrap around; elements of 8 and 16 bits are rounded after every addition; of `bool`, or.
struct sum_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    return detail::in_element(a, b, [](auto x, auto y) { return x + y; });
  }
};

/// As `sum_op`; of `bool`, and.
struct prod_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    return detail::in_element(a, b, [](auto x, auto y) { return x * y; });
  }
};

/// The sum, divided by the number of ranks at the end; integers are cut off towards 0. Not of
/// `bool`.
struct avg_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    static_assert(!std::same_as<T, bool>,
                  "ashlar::comm::avg: of `bool` there is no average; take "
                  "the sum of `int32`");
    return sum_op{}(a, b);
  }
  template <Element T>
  constexpr T finish(T sum, int ranks) const {
    using wide = std::conditional_t<std::integral<T>, std::int64_t, compute_type<T>>;
    return static_cast<T>(static_cast<wide>(sum) / static_cast<wide>(ranks));
  }
};

/// A NaN on either side wins.
struct min_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    return b < a || b != b ? b : a;
  }
};

/// A NaN on either side wins.
struct max_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    return a < b || b != b ? b : a;
  }
};

inline constexpr sum_op sum{};
inline constexpr prod_op prod{};
inline constexpr avg_op avg{};
inline constexpr min_op min{};
inline constexpr max_op max{};

/// `into[i] = op(left[i], right[i])` for `n` elements of a type that only it knows.
///
/// `into` may be `left` or `right`, and is apart from them else.
using reducer = void (*)(std::byte* into, const std::byte* left, const std::byte* right,
                         std::size_t n);

template <Element T, ReduceOp Op>
inline constexpr reducer reducer_of =
    [](std::byte* into, const std::byte* left, const std::byte* right, std::size_t n) {
      const Op op{};
      auto* const to = reinterpret_cast<T*>(into);
      const auto* const a = reinterpret_cast<const T*>(left);
      const auto* const b = reinterpret_cast<const T*>(right);
      for (std::size_t i = 0; i < n; ++i) {
        to[i] = op(a[i], b[i]);
      }
    };

/// Rank `rank`'s share of `count` elements, as `[first, last)`.
///
/// The shares follow each other in order of rank; the first `count % ranks` have one more element.
struct chunk {
  std::size_t first;
  std::size_t last;

  [[nodiscard]] constexpr std::size_t size() const { return last - first; }
  friend constexpr bool operator==(const chunk&, const chunk&) = default;
};

constexpr chunk chunk_of(std::size_t count, int ranks, int rank) {
  const auto p = static_cast<std::size_t>(ranks);
  const auto r = static_cast<std::size_t>(rank);
  const std::size_t small = count / p;
  const std::size_t longer = count % p;
  const std::size_t first = r * small + (r < longer ? r : longer);
  return {first, first + small + (r < longer ? 1 : 0)};
}

}  // namespace ashlar::comm
