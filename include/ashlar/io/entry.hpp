// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"

namespace ashlar::io {

static_assert(std::endian::native == std::endian::little,
              "ashlar::io: the file formats are little-endian; build for a little-endian machine");

/// How the elements of a tensor lie in a file: a `dtype` (same number), or blocks of weights.
enum class storage_format : std::uint8_t {
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
  float64,
  q8_0,  ///< 32 weights: float16 scale, 32 x int8
  q4_0,  ///< 32 weights: float16 scale, 32 x 4 bits
  q4_k,  ///< 256 weights: two float16 scales, 8 x (6-bit scale, 6-bit minimum), 256 x 4 bits
  q6_k   ///< 256 weights: 256 x 6 bits, 16 x int8 scale, float16 scale
};

constexpr storage_format storage_of(dtype d) { return static_cast<storage_format>(d); }

/// Returns: the element type, or nothing where the format has blocks.
constexpr std::optional<dtype> dtype_of_storage(storage_format f) {
  return f <= storage_format::float64 ? std::optional(static_cast<dtype>(f)) : std::nullopt;
}

constexpr std::string_view name_of(storage_format f) {
  constexpr std::array<std::string_view, 4> blocked{"q8_0", "q4_0", "q4_k", "q6_k"};
  const auto d = dtype_of_storage(f);
  return d ? ashlar::name_of(*d)
           : blocked[static_cast<std::size_t>(f) - static_cast<std::size_t>(storage_format::q8_0)];
}

/// Weights and bytes of one block; a format without blocks has blocks of one element.
struct block_layout {
  std::int64_t elements;
  std::int64_t bytes;
};

constexpr block_layout layout_of(storage_format f) {
  switch (f) {
    case storage_format::q8_0:
      return {32, 34};
    case storage_format::q4_0:
      return {32, 18};
    case storage_format::q4_k:
      return {256, 144};
    case storage_format::q6_k:
      return {256, 210};
    default:
      return {1, static_cast<std::int64_t>(size_of(static_cast<dtype>(f)))};
  }
}

/// One tensor of a file; `bytes` lie in the file's mapping and live as long as that.
struct tensor_entry {
  std::string name;
  storage_format format = storage_format::float32;
  shape extents;  ///< outermost first, row-major
  std::span<const std::byte> bytes;

  /// Cost: trusts `extents`, which every reader has checked against the bytes.
  [[nodiscard]] std::int64_t size() const { return element_count(extents); }
};

/// The bytes of a tensor, or nothing where the extents are negative, overflow, or split a block.
constexpr std::optional<std::uint64_t> byte_count(storage_format format,
                                                  std::span<const std::int64_t> extents) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 16;
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t extent : extents) {
    if (extent < 0) {
      return std::nullopt;
    }
    empty = empty || extent == 0;
  }
  for (const std::int64_t extent : extents) {
    // A zero does not excuse the others: readers that multiply in another order would overflow.
    const std::int64_t factor = std::max<std::int64_t>(extent, 1);
    if (factor > most / count) {
      return std::nullopt;
    }
    count *= factor;
  }
  const block_layout block = layout_of(format);
  const std::int64_t row = extents.empty() ? 1 : extents.back();
  if (row % block.elements != 0) {
    return std::nullopt;
  }
  return empty ? 0 : static_cast<std::uint64_t>(count / block.elements * block.bytes);
}

/// The tensors of one file, in its order, with look-up by name.
class entry_list {
 public:
  entry_list() = default;
  explicit entry_list(std::vector<tensor_entry> entries) : entries_(std::move(entries)) {
    by_name_.resize(entries_.size());
    for (std::size_t i = 0; i < by_name_.size(); ++i) {
      by_name_[i] = i;
    }
    std::sort(by_name_.begin(), by_name_.end(), [this](std::size_t a, std::size_t b) {
      const int order = entries_[a].name.compare(entries_[b].name);
      return order != 0 ? order < 0 : a < b;
    });
  }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] auto begin() const { return entries_.begin(); }
  [[nodiscard]] auto end() const { return entries_.end(); }
  [[nodiscard]] const tensor_entry& operator[](std::size_t i) const { return entries_[i]; }
  operator std::span<const tensor_entry>() const { return entries_; }

  /// Returns: the tensor of that name, or a null pointer.
  [[nodiscard]] const tensor_entry* find(std::string_view name) const {
    const auto at = std::lower_bound(
        by_name_.begin(), by_name_.end(), name,
        [this](std::size_t i, std::string_view n) { return entries_[i].name < n; });
    return at != by_name_.end() && entries_[*at].name == name ? &entries_[*at] : nullptr;
  }

  /// Throws: `argument_error` where no tensor has that name.
  [[nodiscard]] const tensor_entry& at(std::string_view name) const {
    if (const tensor_entry* entry = find(name)) {
      return *entry;
    }
    throw argument_error("ashlar::io::entry_list::at",
                         "the file has no tensor named '" + std::string(name) + "'");
  }

  /// Returns: the place of a tensor whose name an earlier one has too, or nothing.
  [[nodiscard]] std::optional<std::size_t> duplicate() const {
    for (std::size_t i = 1; i < by_name_.size(); ++i) {
      if (entries_[by_name_[i]].name == entries_[by_name_[i - 1]].name) {
        return by_name_[i];
      }
    }
    return std::nullopt;
  }

 private:
  std::vector<tensor_entry> entries_;
  std::vector<std::size_t> by_name_;
};

/// The elements themselves, where the file holds them as `T` and aligned for it.
///
/// Throws: `argument_error` where the format is another one or the address is not aligned; copy
///         with `dequantize` then.
template <Scalar T>
std::span<const T> elements(const tensor_entry& entry) {
  if (entry.format != storage_of(dtype_of<T>)) {
    throw argument_error("ashlar::io::elements", "'" + entry.name + "' holds " +
                                                     std::string(name_of(entry.format)) + ", not " +
                                                     std::string(ashlar::name_of(dtype_of<T>)));
  }
  if (reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % alignof(T) != 0) {
    throw argument_error("ashlar::io::elements", "'" + entry.name + "' is not aligned");
  }
  return {reinterpret_cast<const T*>(entry.bytes.data()), entry.bytes.size() / sizeof(T)};
}

}  // namespace ashlar::io
