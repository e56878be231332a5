// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"

namespace ashlar::chip {

/// What a kernel cannot go on with: a `require` that does not hold, a loop that never ends.
struct kernel_error final : error {
  std::string_view reason;  ///< a sentence
  int instruction;          ///< of the tile program
  int number;               ///< the number of a `require`, else -1

  kernel_error(std::string_view why, int at, int which,
               std::source_location where = std::source_location::current())
      : error(where), reason(why), instruction(at), number(which) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "tile kernel: %" + std::to_string(instruction) + ": " + std::string(reason) +
           (number < 0 ? std::string() : " (number " + std::to_string(number) + ")");
  }
};

}  // namespace ashlar::chip
