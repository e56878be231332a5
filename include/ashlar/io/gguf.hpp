// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/io/detail/gguf_cursor.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/gguf_value.hpp"

namespace ashlar::io {

namespace detail {

struct ggml_type {
  std::uint32_t number;
  storage_format format;
};

inline constexpr std::array<ggml_type, 11> ggml_types{{{0, storage_format::float32},
                                                       {1, storage_format::float16},
                                                       {2, storage_format::q4_0},
                                                       {8, storage_format::q8_0},
                                                       {12, storage_format::q4_k},
                                                       {14, storage_format::q6_k},
                                                       {24, storage_format::int8},
                                                       {26, storage_format::int32},
                                                       {27, storage_format::int64},
                                                       {28, storage_format::float64},
                                                       {30, storage_format::bfloat16}}};

}  // namespace detail

/// A GGUF file, version 2 or 3: typed metadata and tensors.
///
/// Extents are outermost first, the reverse of the file's order. Reading checks what the
/// reference checks, and that every tensor lies inside the file.
/// Source: GGUF (ggml), `docs/gguf.md`, `src/gguf.cpp`.
class gguf {
 public:
  /// Reads from memory that the caller keeps alive.
  ///
  /// Throws: `format_error`.
  /// Cost:   copies the metadata; tensors are not touched.
  explicit gguf(std::span<const std::byte> bytes) { read(bytes); }

  /// Throws: `format_error` with the file's name.
  explicit gguf(mapped_file file) : file_(std::move(file)) {
    detail::naming(file_.path().string(), [this] { read(file_.bytes()); });
  }

  /// Throws: `file_error`, `format_error`.
  static gguf open(const std::filesystem::path& path) { return gguf(mapped_file(path)); }

  [[nodiscard]] std::uint32_t version() const { return version_; }
  [[nodiscard]] std::uint64_t alignment() const { return alignment_; }
  /// The metadata in the file's order.
  [[nodiscard]] const std::vector<gguf_pair>& metadata() const { return metadata_; }
  [[nodiscard]] const entry_list& entries() const { return entries_; }
  [[nodiscard]] const tensor_entry* find(std::string_view name) const {
    return entries_.find(name);
  }

  /// The mapping, for an owner that keeps entries longer than this reader.
  [[nodiscard]] mapped_file release() && { return std::move(file_); }

  /// Returns: the value of a key, or a null pointer.
  [[nodiscard]] const gguf_value* value(std::string_view key) const {
    const auto at = std::find_if(metadata_.begin(), metadata_.end(),
                                 [&](const gguf_pair& pair) { return pair.key == key; });
    return at == metadata_.end() ? nullptr : &at->value;
  }

  /// Returns: the value as `T`. Integers fit any integer type that holds the number, floats either
  ///          width; `std::vector<E>` wants the file's element type.
  /// Throws:  `format_error` naming the key where it is missing or of another type.
  template <class T>
  [[nodiscard]] T get(std::string_view key) const {
    if (auto found = get_if<T>(key)) {
      return *std::move(found);
    }
    fail(key, "it is missing");
  }

  /// Like `get`, for keys that may be missing.
  template <class T>
  [[nodiscard]] std::optional<T> get_if(std::string_view key) const {
    const gguf_value* found = value(key);
    if (found == nullptr) {
      return std::nullopt;
    }
    auto converted = found->template as<T>();
    if (!converted) {
      fail(key, "its type, " + std::string(name_of(found->type())) +
                    ", or its number does not fit what is read");
    }
    return converted;
  }

  /// Throws: a `format_error` about a key.
  [[noreturn]] void fail(std::string_view key, const std::string& reason) const {
    format_error e("gguf", std::string(key), reason);
    e.path = file_.path().string();
    throw e;
  }

 private:
  void read(std::span<const std::byte> bytes);
  void read_metadata(detail::gguf_cursor& in, std::uint64_t count);
  [[nodiscard]] static std::pair<tensor_entry, std::uint64_t> read_info(detail::gguf_cursor& in,
                                                                        const std::string& field);

  mapped_file file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<gguf_pair> metadata_;
  entry_list entries_;
};

inline void gguf::read(std::span<const std::byte> bytes) {
  detail::gguf_cursor in(bytes);
  const auto magic = in.number<std::uint32_t>("magic");
  if (magic != 0x46554747u) {  // "GGUF"
    in.fail("magic", "the file does not begin with 'GGUF'");
  }
  version_ = in.number<std::uint32_t>("version");
  if ((version_ & 0xffffu) == 0 && version_ != 0) {
    in.fail("version", "the file is big-endian");
  }
  if (version_ != 2 && version_ != 3) {
    in.fail("version", std::to_string(version_) + " is neither 2 nor 3");
  }
  const auto tensors = in.number<std::uint64_t>("tensor_count");
  const auto pairs = in.number<std::uint64_t>("metadata_count");
  // a tensor takes at least a name's length, its rank, type and offset; a pair a key, type, value
  if (tensors > in.left() / 24) {
    in.fail("tensor_count", std::to_string(tensors) + " do not fit into the bytes left");
  }
  if (pairs > in.left() / 13) {
    in.fail("metadata_count", std::to_string(pairs) + " do not fit into the bytes left");
  }
  read_metadata(in, pairs);
  if (const gguf_value* given = value("general.alignment")) {
    const auto number = given->as<std::uint32_t>();
    if (given->type() != gguf_type::uint32 || !std::has_single_bit(*number)) {
      in.fail("general.alignment", "it is not a uint32 that is a power of two");
    }
    alignment_ = *number;
  }

  std::vector<tensor_entry> found;
  std::vector<std::uint64_t> offsets;
  const auto name = [](std::size_t i) { return "tensors[" + std::to_string(i) + "]"; };
  for (std::size_t i = 0; i < tensors; ++i) {
    auto [entry, offset] = read_info(in, name(i));
    found.push_back(std::move(entry));
    offsets.push_back(offset);
  }

  const auto padded = [this](std::uint64_t n) {
    return (n + alignment_ - 1) / alignment_ * alignment_;
  };
  const std::uint64_t data_begin = padded(in.position());
  const std::uint64_t data_size = data_begin < bytes.size() ? bytes.size() - data_begin : 0;
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::uint64_t size = *byte_count(found[i].format, found[i].extents);
    if (offsets[i] != expected) {
      in.fail(name(i) + ".offset", std::to_string(offsets[i]) + " is not " +
                                       std::to_string(expected) +
                                       ", where the tensors before it end (aligned to " +
                                       std::to_string(alignment_) + ")");
    }
    if (expected > data_size || size > data_size - expected) {
      in.fail(name(i) + ".data", std::to_string(size) + " bytes at " + std::to_string(expected) +
                                     " are not inside the " + std::to_string(data_size) +
                                     " bytes of data");
    }
    if (size > 0) {
      found[i].bytes = bytes.subspan(static_cast<std::size_t>(data_begin + expected),
                                     static_cast<std::size_t>(size));
    }
    expected = padded(expected + size);
  }
  entries_ = entry_list(std::move(found));
  if (const auto twice = entries_.duplicate()) {
    in.fail(name(*twice) + ".name", "a tensor before it has the same name");
  }
}

inline void gguf::read_metadata(detail::gguf_cursor& in, std::uint64_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::string field = "metadata[" + std::to_string(i) + "]";
    std::string key(in.text(field + ".key"));
    if (key.empty()) {
      in.fail(field + ".key", "it is empty");
    }
    const auto type = in.type(field + ".type");
    metadata_.push_back({std::move(key), in.value(type, field + ".value")});
  }
  std::vector<std::size_t> order(metadata_.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
    const int by_key = metadata_[a].key.compare(metadata_[b].key);
    return by_key != 0 ? by_key < 0 : a < b;
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::string& key = metadata_[order[i]].key;
    if (key == metadata_[order[i - 1]].key) {
      in.fail("metadata[" + std::to_string(order[i]) + "].key",
              "'" + key.substr(0, 60) + "' is there twice");
    }
  }
}

inline std::pair<tensor_entry, std::uint64_t> gguf::read_info(detail::gguf_cursor& in,
                                                              const std::string& field) {
  tensor_entry entry;
  entry.name = in.text(field + ".name");
  if (entry.name.size() >= 64) {
    in.fail(field + ".name", std::to_string(entry.name.size()) + " bytes; at most 63 are allowed");
  }
  const auto rank = in.number<std::uint32_t>(field + ".rank");
  if (rank > 4) {
    in.fail(field + ".rank", std::to_string(rank) + " dimensions; at most 4 are allowed");
  }
  std::array<std::int64_t, 4> innermost_first{};
  for (std::size_t d = 0; d < rank; ++d) {
    innermost_first[d] = in.number<std::int64_t>(field + ".dims");
    if (innermost_first[d] < 0) {
      in.fail(field + ".dims", std::to_string(innermost_first[d]) + " is negative");
    }
  }
  for (std::size_t d = rank; d-- > 0;) {
    entry.extents.push_back(innermost_first[d]);
  }
  const auto type = in.number<std::uint32_t>(field + ".type");
  const auto known =
      std::find_if(detail::ggml_types.begin(), detail::ggml_types.end(),
                   [&](const detail::ggml_type& candidate) { return candidate.number == type; });
  if (known == detail::ggml_types.end()) {
    in.fail(field + ".type", "ggml type " + std::to_string(type) + " is unknown or not supported");
  }
  entry.format = known->format;
  if (!byte_count(entry.format, entry.extents)) {
    in.fail(field + ".dims", to_string(entry.extents) + " splits a block of " +
                                 std::string(name_of(entry.format)) +
                                 " or has more elements than memory has bytes");
  }
  const auto offset = in.number<std::uint64_t>(field + ".offset");
  return {std::move(entry), offset};
}

}  // namespace ashlar::io
