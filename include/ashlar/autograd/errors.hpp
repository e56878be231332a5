// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"

namespace ashlar {

/// Something that the tape cannot record, or was not told to.
struct not_recordable final : error {
  std::string op;
  std::string reason;

  not_recordable(std::string_view operation, std::string_view why,
                 std::source_location at = std::source_location::current())
      : error(at), op(operation), reason(why) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::autograd: " + op + ": " + reason;
  }
};

/// A saved tensor that was changed in place before the backward pass needed it.
struct modified_in_place final : error {
  std::string op;
  std::string saved;              ///< name of the argument in the operator's schema, or `result`
  std::uint32_t expected, found;  ///< versions

  modified_in_place(std::string_view operation, std::string_view argument, std::uint32_t saved_at,
                    std::uint32_t now, std::source_location at = std::source_location::current())
      : error(at), op(operation), saved(argument), expected(saved_at), found(now) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::backward: " + op + " saved '" + saved + "' at version " +
           std::to_string(expected) + ", which is at version " + std::to_string(found) +
           " now; use the functional form of what changed it";
  }
};

/// `file:line`, or that nobody noted it.
[[nodiscard]] inline std::string to_string(const std::source_location& at) {
  if (at.line() == 0) {
    return "a place that was not noted";
  }
  return std::string(at.file_name()) + ":" + std::to_string(at.line());
}

/// A backward pass under `anomaly_mode` met a gradient that is no number.
struct not_a_number final : error {
  std::string op;                ///< whose backward made it
  std::size_t argument;          ///< of which argument it is the gradient
  std::source_location forward;  ///< where `op` was called

  not_a_number(std::string_view operation, std::size_t of, std::source_location called,
               std::source_location at = std::source_location::current())
      : error(at), op(operation), argument(of), forward(called) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::backward: the gradient that " + op + " gives to its argument " +
           std::to_string(argument) + " is not a number; it was called at " + to_string(forward);
  }
};

}  // namespace ashlar
