// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ashlar/io/error.hpp"

namespace io_test {

/// A folder of its own that goes away at the end.
class scratch {
 public:
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "ashlar-io-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const { return folder_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_all(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// A copy of its own size, so that a sanitizer sees every byte read past the end.
inline std::vector<std::byte> exact(std::string_view text) {
  const auto bytes = bytes_of(text);
  return {bytes.begin(), bytes.end()};
}

/// Bytes put one after the other, as file formats have them.
struct builder {
  std::string bytes;

  template <class T>
    requires std::is_arithmetic_v<T>
  builder& put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  builder& raw(std::string_view text) {
    bytes += text;
    return *this;
  }
  /// A GGUF string: its length, then its bytes.
  builder& text(std::string_view value) { return put(std::uint64_t{value.size()}).raw(value); }
  builder& pad(std::size_t alignment) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
};

/// The field that a `format_error` names, or `(accepted)`.
template <class Read>
std::string rejected_field(Read&& read) {
  try {
    read();
  } catch (const ashlar::io::format_error& e) {
    CHECK(!e.reason.empty());
    CHECK(std::string(e.what()).find(e.field) != std::string::npos);
    return e.format + ": " + e.field;
  }
  return "(accepted)";
}

/// The folder of real model files, or nothing and a loud line.
inline std::optional<std::filesystem::path> real_model() {
  const char* folder = std::getenv("ASHLAR_DATA");
  if (folder != nullptr) {
    const auto path = std::filesystem::path(folder) / "stories260K";
    if (std::filesystem::exists(path / "stories260K.gguf")) {
      return path;
    }
  }
  MESSAGE("SKIPPED: no stories260K in ASHLAR_DATA");
  return std::nullopt;
}

}  // namespace io_test
