// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstdio>
#include <span>
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

/// An `out=` call whose result has another shape than the output, which had elements.
struct resize_notice {
  std::string_view op;
  shape needed, given;

  [[nodiscard]] std::string to_string() const {
    return "ashlar: " + std::string(op) + " gives its output, of shape " +
           ashlar::to_string(given.span()) + ", the shape " + ashlar::to_string(needed.span()) +
           " and elements of its own; give one of that shape, or an empty one\n";
  }
};

/// Hears of each output with elements that is resized. By default it writes a line to `stderr`;
/// null hears nothing.
inline constinit std::atomic<void (*)(const resize_notice&)> on_resize{
    +[](const resize_notice& n) { std::fputs(n.to_string().c_str(), stderr); }};

/// An in-place call whose result has another shape, or an `out=` call where what would be resized
/// is also an argument.
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
           "; give one of that shape, or one that is no argument";
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

/// A call that would happen in an element type that the stack does not list.
struct unlisted_element final : error {
  std::string op;
  dtype type;

  unlisted_element(std::string_view operation, dtype d,
                   std::source_location at = std::source_location::current())
      : error(at), op(operation), type(d) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": the arguments meet in " + std::string(name_of(type)) +
           ", which the stack does not list; add it to elements<...> or cast an argument first";
  }
};

}  // namespace ashlar
