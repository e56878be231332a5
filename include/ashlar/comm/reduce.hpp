// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace ashlar::comm {

/// What collectives reduce.
template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, double> ||
                  std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t>;

/// A commutative operation on two elements.
template <class Op>
concept ReduceOp = requires(const Op op, float f, std::int64_t i) {
  { op(f, f) } -> std::same_as<float>;
  { op(i, i) } -> std::same_as<std::int64_t>;
};

/// Integers wrap around.
struct sum_op {
  template <Element T>
  constexpr T operator()(T a, T b) const {
    if constexpr (std::integral<T>) {
      using bits = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<bits>(a) + static_cast<bits>(b));
    } else {
      return a + b;
    }
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
inline constexpr min_op min{};
inline constexpr max_op max{};

/// `into[i] = op(into[i], from[i])`. Requires: equal sizes.
template <Element T, ReduceOp Op>
void reduce_into(std::span<T> into, std::span<const T> from, Op op) {
  for (std::size_t i = 0; i < into.size(); ++i) {
    into[i] = op(into[i], from[i]);
  }
}

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
