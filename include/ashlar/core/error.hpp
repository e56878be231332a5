// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <exception>
#include <source_location>
#include <string>
#include <utility>

namespace ashlar {

/// Base of every exception of the library: data first, text only when somebody asks for it.
///
/// A derived class keeps what it knows in public members and describes it in `message()`.
class error : public std::exception {
 public:
  /// Where the library gave up.
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

  /// Returns: the text, built at the first call. Not to be called from two threads at once.
  [[nodiscard]] const char* what() const noexcept final {
    if (text_.empty()) {
      try {
        text_ = message();
      } catch (...) {
        return "ashlar::error: no memory left to describe it";
      }
    }
    return text_.c_str();
  }

 protected:
  explicit error(std::source_location where) noexcept : where_(where) {}

 private:
  [[nodiscard]] virtual std::string message() const = 0;

  std::source_location where_;
  mutable std::string text_;
};

/// An argument that no rule of shapes or types covers: `axis out of range`, `probability above 1`.
struct argument_error final : error {
  std::string entity;  ///< what was called, e.g. `ashlar::narrow`
  std::string reason;  ///< what must hold; what to do

  argument_error(std::string called, std::string why,
                 std::source_location where = std::source_location::current())
      : error(where), entity(std::move(called)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override { return entity + ": " + reason; }
};

}  // namespace ashlar
