// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/shape.hpp"

namespace ashlar {

/// Everything about a tensor but its elements: what `meta` functions take and return.
///
/// A plain value. Unused places of `extent` and `stride` are zero, so that `==` is memberwise.
struct tensor_spec {
  std::array<std::int64_t, max_rank> extent{};
  std::array<std::int64_t, max_rank> stride{};  ///< in elements
  std::int64_t size = 1;                        ///< number of elements
  std::int64_t offset = 0;  ///< of the first element, from where the base begins [elements]
  dtype type = dtype::float32;
  std::uint8_t rank = 0;
  bool contiguous = true;  ///< dense and row-major; strides of extents 0 and 1 do not count

  [[nodiscard]] constexpr std::span<const std::int64_t> shape() const {
    return {extent.data(), rank};
  }
  [[nodiscard]] constexpr std::span<const std::int64_t> strides() const {
    return {stride.data(), rank};
  }
  /// The extent of an axis; negative axes count from the back. Requires: the axis exists.
  [[nodiscard]] constexpr std::int64_t operator[](int axis) const {
    return extent[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
  }
  [[nodiscard]] constexpr std::int64_t stride_of(int axis) const {
    return stride[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
  }

  friend constexpr bool operator==(const tensor_spec&, const tensor_spec&) = default;
};

/// Where the element of `s` lies that goes into element `i` of a result, counted row by row, to
/// whose shape `s` broadcasts.
constexpr std::int64_t place_of(const tensor_spec& s, std::int64_t i,
                                std::span<const std::int64_t> result) {
  std::int64_t place = 0;
  const std::size_t missing = result.size() - s.rank;
  for (std::size_t axis = result.size(); axis-- > 0; i /= result[axis]) {
    if (axis >= missing && s.extent[axis - missing] != 1) {
      place += i % result[axis] * s.stride[axis - missing];
    }
  }
  return place;
}

/// A loop, since there are few: a call of `memcmp` takes longer.
constexpr bool same_shape(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) {
      return false;
    }
  }
  return true;
}
constexpr bool same_shape(const tensor_spec& a, const tensor_spec& b) {
  return same_shape(a.shape(), b.shape());
}

/// Whether the elements stand one after the other in row-major order.
constexpr bool is_dense(const tensor_spec& s) {
  std::int64_t expected = 1;
  for (int i = s.rank - 1; i >= 0; --i) {
    const auto u = static_cast<std::size_t>(i);
    if (s.extent[u] == 0) {
      return true;
    }
    if (s.extent[u] != 1 && s.stride[u] != expected) {
      return false;
    }
    expected *= s.extent[u];
  }
  return true;
}

/// A tensor of its own: row-major, from offset 0.
///
/// Throws: `rank_error`, `size_error`.
constexpr tensor_spec contiguous_spec(dtype type, std::span<const std::int64_t> extents) {
  if (extents.size() > static_cast<std::size_t>(max_rank)) {
    throw rank_error(extents.size());
  }
  tensor_spec s{.size = element_count(extents),
                .type = type,
                .rank = static_cast<std::uint8_t>(extents.size())};
  std::int64_t step = 1;
  for (std::size_t i = extents.size(); i-- > 0;) {
    s.extent[i] = extents[i];
    s.stride[i] = step;
    // Beside an extent of 0 the others may be of any size; their product need not be a number.
    const std::int64_t n = std::max<std::int64_t>(extents[i], 1);
    const bool fits = s.size != 0 || step <= std::numeric_limits<std::int64_t>::max() / n;
    step = fits ? step * n : step;
  }
  return s;
}

/// The same extents, row-major, as an element type of its own.
constexpr tensor_spec contiguous_like(const tensor_spec& s, dtype type) {
  if (s.contiguous && s.offset == 0) {
    if (s.type == type) [[likely]] {  // a store of one byte would stall the next copy of the whole
      return s;
    }
    tensor_spec same = s;
    same.type = type;
    return same;
  }
  return contiguous_spec(type, s.shape());
}

/// NumPy's broadcasting rule.
///
/// Returns: the contiguous spec of an elementwise result, with the promoted type.
/// Throws: `shape_error` naming `op`.
constexpr tensor_spec broadcast(std::string_view op, const tensor_spec& a, const tensor_spec& b) {
  const dtype type = promote(a.type, b.type);
  if (same_shape(a, b)) [[likely]] {
    return contiguous_like(a, type);
  }
  shape extents;
  const int rank = std::max(a.rank, b.rank);
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank);
    const int ib = i - (rank - b.rank);
    const std::int64_t m = ia >= 0 ? a[ia] : 1;
    const std::int64_t n = ib >= 0 ? b[ib] : 1;
    if (m != n && m != 1 && n != 1) {
      throw shape_error(op, a.shape(), b.shape(),
                        "extents must be equal or 1, counted from the last axis");
    }
    extents.push_back(m == 1 ? n : m);
  }
  return contiguous_spec(type, extents);
}

}  // namespace ashlar
