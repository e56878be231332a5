// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>

#include "ashlar/core/dtype.hpp"

namespace ashlar::tile {

/// Most axes of a tile; a view in memory may have as many.
inline constexpr int max_rank = 4;
/// Most elements of a tile.
inline constexpr std::int64_t max_elements = std::int64_t{1} << 24;

/// Element type and extents of a tile, as a value. Rank 0 is a scalar; rank -1 is no value at all.
struct tile_type {
  dtype element = dtype::float32;
  std::int8_t rank = -1;
  std::array<std::int32_t, max_rank> extents{};

  constexpr tile_type() = default;
  constexpr tile_type(dtype e, std::initializer_list<std::int32_t> ext)
      : element(e), rank(static_cast<std::int8_t>(ext.size())) {
    std::size_t i = 0;
    for (const std::int32_t n : ext) {
      extents[i++] = n;
    }
  }

  friend constexpr bool operator==(const tile_type&, const tile_type&) = default;

  [[nodiscard]] constexpr bool is_value() const { return rank >= 0; }
  [[nodiscard]] constexpr bool is_scalar() const { return rank == 0; }
  [[nodiscard]] constexpr std::int32_t extent(int axis) const {
    return extents[static_cast<std::size_t>(axis)];
  }
  /// Elements of the tile: 1 for a scalar.
  [[nodiscard]] constexpr std::int64_t size() const {
    std::int64_t n = 1;
    for (int a = 0; a < rank; ++a) {
      n *= extent(a);
    }
    return n;
  }

  /// The same extents with another element type.
  [[nodiscard]] constexpr tile_type with(dtype e) const {
    tile_type t = *this;
    t.element = e;
    return t;
  }
  /// Without one axis, as a reduction leaves it.
  [[nodiscard]] constexpr tile_type without(int axis) const {
    tile_type t = *this;
    t.rank = static_cast<std::int8_t>(rank - 1);
    t.extents = {};
    for (int a = 0, to = 0; a < rank; ++a) {
      if (a != axis) {
        t.extents[static_cast<std::size_t>(to++)] = extent(a);
      }
    }
    return t;
  }
  /// Whether it is a type at all; one without a value is `tile_type()`, so that == is memberwise.
  [[nodiscard]] constexpr bool well_formed() const {
    if (rank < 0) {
      return *this == tile_type();
    }
    if (rank > max_rank || static_cast<int>(element) >= dtype_count) {
      return false;
    }
    for (int a = rank; a < max_rank; ++a) {
      if (extent(a) != 0) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] constexpr bool same_extents(const tile_type& o) const {
    return rank == o.rank && extents == o.extents;
  }
};

constexpr tile_type scalar_type(dtype e) { return {e, {}}; }

/// The type of offsets, extents, program ids and loop counters.
inline constexpr tile_type index_type = scalar_type(dtype::int64);

/// Whether a tile of type `from` may be repeated to `to`: axes are aligned at the last, and each
/// extent is 1 or equal.
constexpr bool broadcasts_to(const tile_type& from, const tile_type& to) {
  if (!from.is_value() || from.rank > to.rank || from.element != to.element) {
    return false;
  }
  for (int a = 0; a < from.rank; ++a) {
    const std::int32_t n = from.extent(a);
    if (n != 1 && n != to.extent(a + to.rank - from.rank)) {
      return false;
    }
  }
  return true;
}

}  // namespace ashlar::tile
