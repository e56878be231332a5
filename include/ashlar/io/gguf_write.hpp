// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ashlar/core/error.hpp"
#include "ashlar/io/entry.hpp"
#include "ashlar/io/file.hpp"
#include "ashlar/io/gguf.hpp"
#include "ashlar/io/gguf_value.hpp"

namespace ashlar::io {

namespace detail {

/// Appends values to the header of a GGUF file.
class gguf_sink {
 public:
  template <class T>
    requires std::is_arithmetic_v<T>
  void put(T number) {
    gguf_append(bytes_, number);
  }
  void put(const std::string& text) {
    put(std::uint64_t{text.size()});
    bytes_ += text;
  }
  void put(const gguf_value& value) {
    put(static_cast<std::uint32_t>(value.type()));
    bytes_ += value.bytes();
  }
  void pad(std::uint64_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment, '\0');
  }
  [[nodiscard]] std::string& bytes() { return bytes_; }

 private:
  std::string bytes_;
};

/// Everything before the data of a GGUF file, padded to `alignment`.
inline std::string gguf_header(std::span<const gguf_pair> metadata,
                               std::span<const tensor_entry> entries, std::uint64_t alignment,
                               std::uint32_t version) {
  gguf_sink out;
  out.put(std::uint32_t{0x46554747});
  out.put(version);
  out.put(std::uint64_t{entries.size()});
  out.put(std::uint64_t{metadata.size()});
  for (const gguf_pair& pair : metadata) {
    out.put(pair.key);
    out.put(pair.value);
  }
  std::uint64_t offset = 0;
  for (const tensor_entry& entry : entries) {
    out.put(entry.name);
    out.put(static_cast<std::uint32_t>(entry.extents.rank()));
    for (int d = entry.extents.rank(); d-- > 0;) {
      out.put(entry.extents[d]);
    }
    const auto type = std::find_if(ggml_types.begin(), ggml_types.end(),
                                   [&](const ggml_type& t) { return t.format == entry.format; });
    out.put(type->number);
    out.put(offset);
    offset = (offset + entry.bytes.size() + alignment - 1) / alignment * alignment;
  }
  out.pad(alignment);
  return std::move(out.bytes());
}

}  // namespace detail

/// Writes a GGUF file, version 3; tensors keep their order.
///
/// Effects: aligns to `general.alignment` of the metadata, 32 without it; replaces `path` in one
///          step.
/// Throws:  `argument_error` for repeated or empty keys and names, names above 63 bytes, more than
///          4 dimensions, bytes that do not match the extents, `uint8` and `boolean` tensors (the
///          format has no number for them), an alignment that is no power of two; `file_error`.
template <class Set = std::set<std::string_view>>  // a template, so that only its users compile it
void write_gguf(const std::filesystem::path& path, std::span<const gguf_pair> metadata,
                std::span<const tensor_entry> entries) {
  const auto refuse = [](const std::string& why) {
    throw argument_error("ashlar::io::write_gguf", why);
  };
  std::uint64_t alignment = 32;
  Set seen;
  for (const gguf_pair& pair : metadata) {
    if (pair.key.empty() || !seen.insert(pair.key).second) {
      refuse("key '" + pair.key + "' is empty or there twice");
    }
    if (pair.key == "general.alignment") {
      const auto number = pair.value.as<std::uint32_t>();
      if (pair.value.type() != gguf_type::uint32 || !std::has_single_bit(*number)) {
        refuse("general.alignment is not a uint32 that is a power of two");
      }
      alignment = *number;
    }
  }
  seen.clear();
  for (const tensor_entry& entry : entries) {
    if (entry.name.size() > 63 || !seen.insert(entry.name).second) {
      refuse("tensor name '" + entry.name + "' is longer than 63 bytes or there twice");
    }
    if (entry.format == storage_format::uint8 || entry.format == storage_format::boolean) {
      refuse("'" + entry.name + "' holds " + std::string(name_of(entry.format)) +
             ", for which the format has no number");
    }
    if (entry.extents.rank() > 4 || byte_count(entry.format, entry.extents) != entry.bytes.size()) {
      refuse("'" + entry.name + "' has more than 4 dimensions, or " +
             std::to_string(entry.bytes.size()) + " bytes, which " + to_string(entry.extents) +
             " does not take");
    }
  }
  file_writer file(path);
  file.write(detail::gguf_header(metadata, entries, alignment, 3));
  for (const tensor_entry& entry : entries) {
    file.write(entry.bytes);
    const std::uint64_t tail = entry.bytes.size() % alignment;
    file.write(std::string(tail == 0 ? 0 : alignment - tail, '\0'));
  }
  file.commit();
}

}  // namespace ashlar::io
