// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/error.hpp"

namespace ashlar {

inline constexpr int max_rank = 8;

/// Up to eight extents, without the heap. Also used for strides.
///
/// Throws: `rank_error` where more than `max_rank` are given.
class shape {
 public:
  constexpr shape() = default;
  constexpr shape(std::initializer_list<std::int64_t> extents)
      : shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}
  constexpr shape(std::span<const std::int64_t> extents);

  [[nodiscard]] constexpr int rank() const { return rank_; }
  [[nodiscard]] constexpr std::int64_t operator[](int i) const {
    return extent_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr std::int64_t& operator[](int i) {
    return extent_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] constexpr const std::int64_t* begin() const { return extent_.data(); }
  [[nodiscard]] constexpr const std::int64_t* end() const { return extent_.data() + rank_; }
  [[nodiscard]] constexpr std::span<const std::int64_t> span() const { return {begin(), end()}; }
  constexpr void push_back(std::int64_t extent);

  friend constexpr bool operator==(const shape&, const shape&) = default;

 private:
  std::array<std::int64_t, max_rank> extent_{};  // unused places are zero, so that == is memberwise
  std::uint8_t rank_ = 0;
};

using strides = shape;

/// `[2, 3, 4]`
inline std::string to_string(std::span<const std::int64_t> extents) {
  std::string text = "[";
  for (std::size_t i = 0; i < extents.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(extents[i]);
  }
  return text + "]";
}

/// More dimensions than a tensor can have.
struct rank_error final : error {
  std::size_t rank;

  explicit rank_error(std::size_t given,
                      std::source_location where = std::source_location::current())
      : error(where), rank(given) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::shape: " + std::to_string(rank) + " dimensions; a tensor has at most " +
           std::to_string(max_rank);
  }
};

/// Two shapes that do not go together in an operation.
struct shape_error final : error {
  std::string op;  ///< operator or function
  shape left, right;
  std::string rule;  ///< what must hold; may be empty

  shape_error(std::string_view operation, std::span<const std::int64_t> a,
              std::span<const std::int64_t> b, std::string_view must_hold = {},
              std::source_location at = std::source_location::current())
      : error(at), op(operation), left(a), right(b), rule(must_hold) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::" + op + ": shapes " + to_string(left) + " and " + to_string(right);
    return text + (rule.empty() ? " do not go together" : ": " + rule);
  }
};

/// A shape with a negative extent, or with more elements than an address can count.
struct size_error final : error {
  shape extents;

  explicit size_error(std::span<const std::int64_t> given,
                      std::source_location where = std::source_location::current())
      : error(where), extents(given) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::shape: " + to_string(extents) +
           " has a negative extent or more elements than memory has bytes";
  }
};

constexpr shape::shape(std::span<const std::int64_t> extents)
    : rank_(static_cast<std::uint8_t>(extents.size())) {
  if (extents.size() > static_cast<std::size_t>(max_rank)) {
    throw rank_error(extents.size());
  }
  std::copy(extents.begin(), extents.end(), extent_.begin());
}

constexpr void shape::push_back(std::int64_t extent) {
  if (rank_ == max_rank) {
    throw rank_error(max_rank + 1);
  }
  extent_[rank_++] = extent;
}

/// Returns: the number of elements.
/// Throws: `size_error`; sixteen bytes a piece still fit into an address afterwards.
constexpr std::int64_t element_count(std::span<const std::int64_t> extents) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 16;
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t extent : extents) {
    if (extent < 0) {
      throw size_error(extents);
    }
    empty = empty || extent == 0;
  }
  if (empty) {
    return 0;
  }
  for (const std::int64_t extent : extents) {
    if (extent > most / count) {
      throw size_error(extents);
    }
    count *= extent;
  }
  return count;
}

/// Returns: `axis` counted from the front; negative axes count from the back.
/// Throws: `argument_error` naming `op` where there is no such axis.
constexpr int wrap_axis(std::string_view op, std::int64_t axis, int rank) {
  const std::int64_t wrapped = axis < 0 ? axis + rank : axis;
  if (wrapped < 0 || wrapped >= rank) {
    throw argument_error("ashlar::" + std::string(op),
                         "axis " + std::to_string(axis) + " of a tensor with " +
                             std::to_string(rank) + " dimensions; give one from " +
                             std::to_string(-rank) + " to " + std::to_string(rank - 1));
  }
  return static_cast<int>(wrapped);
}
/// The same where a tensor without dimensions is a row of one element: axis 0.
constexpr int row_axis(std::string_view op, std::int64_t axis, int rank) {
  return rank == 0 && (axis == 0 || axis == -1) ? 0 : wrap_axis(op, axis, rank);
}

}  // namespace ashlar
