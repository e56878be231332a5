// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>

#include "ashlar/chip/unsupported.hpp"

namespace ashlar::chip::source {

/// An instruction that has no source.
struct unsupported final : unsupported_instruction {
  unsupported(tile::opcode what, int at,
              std::source_location where = std::source_location::current())
      : unsupported_instruction("chip::source", "source", what, at, where) {}
};

}  // namespace ashlar::chip::source
