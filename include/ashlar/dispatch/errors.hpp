// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/shape.hpp"

namespace ashlar {

/// What to do about an operator that a key has no answer for; compile errors say the same.
inline constexpr std::string_view ways_out_of_missing_kernel =
    "list one in the chip, or give Op a tile program or a composite, or define fallback<Key>";

/// A call, found at run time, that no kernel answers.
struct missing_kernel final : error {
  std::string op;
  std::string key;  ///< of a backend, the chip's name

  missing_kernel(std::string_view operation, std::string_view without_kernel,
                 std::source_location at = std::source_location::current())
      : error(at), op(operation), key(without_kernel) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::call: no kernel<Op, Key>; " + std::string(ways_out_of_missing_kernel) +
           " (Op = " + op + ", Key = " + key + ")";
  }
};

/// An `out=` or in-place call whose result does not fit where it should go.
struct output_error final : error {
  std::string op;
  shape needed, given;

  output_error(std::string_view operation, std::span<const std::int64_t> result,
               std::span<const std::int64_t> out,
               std::source_location at = std::source_location::current())
      : error(at), op(operation), needed(result), given(out) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": the result has shape " + to_string(needed.span()) +
           ", the output has " + to_string(given.span()) +
           "; give one of that shape, or an empty one";
  }
};

/// An output that shares elements with itself or with an argument at another place.
struct overlap_error final : error {
  std::string op;
  std::string with;  ///< what it meets

  overlap_error(std::string_view operation, std::string_view other,
                std::source_location at = std::source_location::current())
      : error(at), op(operation), with(other) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": the output shares elements with " + with +
           "; write to a tensor of its own";
  }
};

/// A tensor handle without a tensor where one is needed.
struct undefined_tensor final : error {
  std::string op;

  explicit undefined_tensor(std::string_view operation,
                            std::source_location at = std::source_location::current())
      : error(at), op(operation) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": an argument is an empty handle; create the tensor first";
  }
};

}  // namespace ashlar
