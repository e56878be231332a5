// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>

#include "ashlar/chip/unsupported.hpp"

namespace ashlar::chip::strips {

/// An instruction that strips cannot run.
struct unsupported final : unsupported_instruction {
  unsupported(tile::opcode what, int at,
              std::source_location where = std::source_location::current())
      : unsupported_instruction("chip::strips", "kernel", what, at, where) {}
};

}  // namespace ashlar::chip::strips
