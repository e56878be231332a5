// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/io/detail/json.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/error.hpp"
#include "ashlar/io/file.hpp"

namespace ashlar::io {

/// A safetensors file: named tensors behind a JSON header.
///
/// Reading is as strict as the reference: the header is at most 100,000,000 bytes, tensors follow
/// each other without holes or overlap, sizes match type and shape, and the file ends where the
/// last tensor ends.
/// Source: safetensors (Hugging Face), `safetensors/src/tensor.rs`.
class safetensors {
 public:
  using metadata_map = std::map<std::string, std::string>;

  /// Reads from memory that the caller keeps alive.
  ///
  /// Throws: `format_error`.
  /// Cost:   parses the header; tensors are not touched.
  explicit safetensors(std::span<const std::byte> bytes) { read(bytes); }

  /// Throws: `format_error` with the file's name.
  explicit safetensors(mapped_file file) : file_(std::move(file)) {
    detail::naming(file_.path().string(), [this] { read(file_.bytes()); });
  }

  /// Throws: `file_error`, `format_error`.
  static safetensors open(const std::filesystem::path& path) {
    return safetensors(mapped_file(path));
  }

  /// The tensors, by where they lie in the file.
  [[nodiscard]] const entry_list& entries() const { return entries_; }
  [[nodiscard]] const tensor_entry* find(std::string_view name) const {
    return entries_.find(name);
  }
  [[nodiscard]] const metadata_map& metadata() const { return metadata_; }

  /// The mapping, for an owner that keeps entries longer than this reader.
  [[nodiscard]] mapped_file release() && { return std::move(file_); }

  /// Writes a file; the same entries in any order give the same bytes.
  ///
  /// Effects: tensors are ordered by element size, largest first, then by type and name, so that
  ///          each is aligned for its elements; replaces `path` in one step.
  /// Throws:  `argument_error` for a block format, a repeated or reserved name, a name that is not
  ///          UTF-8, or bytes that do not match the extents; `file_error`.
  template <class Json = detail::json>
  static void write(const std::filesystem::path& path, std::span<const tensor_entry> entries,
                    const metadata_map& metadata = {});

 private:
  static constexpr std::uint64_t max_header = 100'000'000;

  // The order in which the reference sorts: later means wider, and is written earlier.
  static constexpr std::array<std::pair<std::string_view, dtype>, dtype_count> names_{
      {{"BOOL", dtype::boolean},
       {"U8", dtype::uint8},
       {"I8", dtype::int8},
       {"F8_E5M2", dtype::float8_e5m2},
       {"F8_E4M3", dtype::float8_e4m3},
       {"F16", dtype::float16},
       {"BF16", dtype::bfloat16},
       {"I32", dtype::int32},
       {"F32", dtype::float32},
       {"F64", dtype::float64},
       {"I64", dtype::int64}}};

  void read(std::span<const std::byte> bytes);
  [[nodiscard]] static tensor_entry read_entry(const std::string& name,
                                               const detail::json_field& info,
                                               std::span<const std::byte> data);

  mapped_file file_;
  entry_list entries_;
  metadata_map metadata_;
};

inline void safetensors::read(std::span<const std::byte> bytes) {
  static const std::string format = "safetensors";
  if (bytes.size() < 8) {
    throw format_error(format, "header_length",
                       "the file has " + std::to_string(bytes.size()) + " bytes, not even 8");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > max_header || length > bytes.size() - 8) {
    throw format_error(format, "header_length",
                       std::to_string(length) + " is above " +
                           std::to_string(std::min<std::uint64_t>(max_header, bytes.size() - 8)));
  }
  const auto header_bytes = bytes.subspan(8, static_cast<std::size_t>(length));
  const auto data = bytes.subspan(8 + static_cast<std::size_t>(length));
  const detail::json_value header = detail::parse_json(
      {reinterpret_cast<const char*>(header_bytes.data()), header_bytes.size()}, format, "header");

  std::vector<tensor_entry> found;
  for (const detail::json_value& info : header.items) {
    if (info.key == "__metadata__") {
      if (info.kind == detail::json_kind::null) {
        continue;
      }
      const detail::json_field map(info, format, info.key);
      for (const detail::json_value& value : map.members()) {
        metadata_[value.key] =
            detail::json_field(value, format, info.key + "." + detail::printable(value.key)).text();
      }
      continue;
    }
    const std::string field = "tensors[\"" + detail::printable(info.key) + "\"]";
    found.push_back(read_entry(info.key, {info, format, field}, data));
  }
  std::sort(found.begin(), found.end(), [](const tensor_entry& a, const tensor_entry& b) {
    return a.bytes.data() != b.bytes.data() ? a.bytes.data() < b.bytes.data()
                                            : a.bytes.size() < b.bytes.size();
  });
  std::size_t end = 0;
  for (const tensor_entry& entry : found) {
    const auto begin = static_cast<std::size_t>(entry.bytes.data() - data.data());
    if (begin != end) {
      throw format_error(format, "tensors[\"" + detail::printable(entry.name) + "\"].data_offsets",
                         "it begins at " + std::to_string(begin) +
                             (begin < end ? ", inside the tensor before it, which ends at "
                                          : ", leaving a hole after ") +
                             std::to_string(end));
    }
    end += entry.bytes.size();
  }
  if (end != data.size()) {
    throw format_error(format, "data",
                       std::to_string(data.size()) + " bytes follow the header, the tensors have " +
                           std::to_string(end));
  }
  entries_ = entry_list(std::move(found));
}

inline tensor_entry safetensors::read_entry(const std::string& name, const detail::json_field& info,
                                            std::span<const std::byte> data) {
  tensor_entry entry;
  entry.name = name;

  const detail::json_field type = info["dtype"];
  const auto known = std::find_if(names_.begin(), names_.end(), [&](const auto& candidate) {
    return candidate.first == type.text();
  });
  if (known == names_.end()) {
    type.fail("'" + detail::printable(type.text()) +
              "' is not one of BOOL U8 I8 F16 BF16 I32 F32 F64 I64");
  }
  entry.format = storage_of(known->second);

  const detail::json_field extents = info["shape"];
  if (extents.size() > static_cast<std::size_t>(max_rank)) {
    extents.fail(std::to_string(extents.size()) + " dimensions; at most " +
                 std::to_string(max_rank) + " are supported");
  }
  for (std::size_t i = 0; i < extents.size(); ++i) {
    entry.extents.push_back(extents[i].integer(0));
  }
  const auto expected = byte_count(entry.format, entry.extents);
  if (!expected) {
    extents.fail(to_string(entry.extents) + " has more elements than memory has bytes");
  }

  const detail::json_field offsets = info["data_offsets"];
  if (offsets.size() != 2) {
    offsets.fail("it has " + std::to_string(offsets.size()) + " numbers, not 2");
  }
  const auto begin = static_cast<std::uint64_t>(offsets[std::size_t{0}].integer(0));
  const auto end = static_cast<std::uint64_t>(offsets[1].integer(0));
  if (begin > end || end > data.size()) {
    offsets.fail("[" + std::to_string(begin) + ", " + std::to_string(end) + ") is not inside the " +
                 std::to_string(data.size()) + " bytes of data");
  }
  if (end - begin != *expected) {
    offsets.fail(std::to_string(end - begin) + " bytes; " + type.text() + " " +
                 to_string(entry.extents) + " takes " + std::to_string(*expected));
  }
  entry.bytes =
      data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return entry;
}

template <class Json>
void safetensors::write(const std::filesystem::path& path, std::span<const tensor_entry> entries,
                        const metadata_map& metadata) {
  const auto refuse = [](const std::string& why) {
    throw argument_error("ashlar::io::safetensors::write", why);
  };
  const auto rank_of = [](const tensor_entry& entry) {
    const auto type = static_cast<dtype>(entry.format);
    return std::find_if(names_.begin(), names_.end(),
                        [&](const auto& candidate) { return candidate.second == type; }) -
           names_.begin();
  };
  std::vector<const tensor_entry*> order;
  for (const tensor_entry& entry : entries) {
    if (!dtype_of_storage(entry.format)) {
      refuse("'" + entry.name + "' is stored as " + std::string(name_of(entry.format)) +
             ", for which the format has no name; dequantize it");
    }
    if (entry.name == "__metadata__") {
      refuse("'__metadata__' is reserved; name the tensor otherwise");
    }
    if (byte_count(entry.format, entry.extents) != entry.bytes.size()) {
      refuse("'" + entry.name + "' has " + std::to_string(entry.bytes.size()) + " bytes, which " +
             to_string(entry.extents) + " does not take");
    }
    order.push_back(&entry);
  }
  if (const auto twice = entry_list({entries.begin(), entries.end()}).duplicate()) {
    refuse("'" + entries[*twice].name + "' is there twice");
  }
  std::sort(order.begin(), order.end(), [&](const tensor_entry* a, const tensor_entry* b) {
    return rank_of(*a) != rank_of(*b) ? rank_of(*a) > rank_of(*b) : a->name < b->name;
  });

  Json header = Json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  std::uint64_t offset = 0;
  for (const tensor_entry* entry : order) {
    const std::uint64_t end = offset + entry->bytes.size();
    Json info;
    info["dtype"] = names_[static_cast<std::size_t>(rank_of(*entry))].first;
    info["shape"] = std::vector<std::int64_t>(entry->extents.begin(), entry->extents.end());
    info["data_offsets"] = {offset, end};
    header.emplace(entry->name, std::move(info));
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const typename Json::exception&) {
    refuse("a name or a metadata string is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  if (length > max_header) {
    refuse("the header would take " + std::to_string(length) + " bytes, above " +
           std::to_string(max_header));
  }

  file_writer file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const tensor_entry* entry : order) {
    file.write(entry->bytes);
  }
  file.commit();
}

}  // namespace ashlar::io
