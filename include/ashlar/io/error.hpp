// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>
#include <system_error>
#include <utility>

#include "ashlar/core/error.hpp"

namespace ashlar::io {

/// The operating system refused something about a file.
struct file_error final : error {
  std::string path;
  std::string operation;  ///< `open`, `map`, `write`, `rename`, ...
  std::error_code code;

  file_error(std::string file, std::string what_failed, int number,
             std::source_location at = std::source_location::current())
      : error(at),
        path(std::move(file)),
        operation(std::move(what_failed)),
        code(number, std::generic_category()) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::io: cannot " + operation + " '" + path + "': " + code.message();
  }
};

/// A file that breaks the rules of its format, or uses a part of it that is not supported.
struct format_error final : error {
  std::string format;  ///< `safetensors`, `gguf`, `llama2c`, `tokenizer.json`, `config.json`
  std::string field;   ///< `tensors[3].offset`, `__metadata__`, `model.merges[7]`, ...
  std::string reason;  ///< what is there, and what must hold
  std::string path;    ///< empty for bytes that came from memory

  format_error(std::string of, std::string at, std::string why,
               std::source_location where = std::source_location::current())
      : error(where), format(std::move(of)), field(std::move(at)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::io: " + (path.empty() ? "" : "'" + path + "': ") + format + ": " + field +
           ": " + reason;
  }
};

namespace detail {

/// Calls `read`, and adds the file's name to a `format_error` that comes out of it.
template <class Read>
auto naming(const std::string& path, Read&& read) {
  try {
    return std::forward<Read>(read)();
  } catch (format_error& e) {
    e.path = path;
    throw;
  }
}

}  // namespace detail
}  // namespace ashlar::io
