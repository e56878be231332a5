// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>

#include "ashlar/core/error.hpp"
#include "ashlar/tile/opcode.hpp"

namespace ashlar::chip::source {

/// An instruction that has no source.
struct unsupported final : error {
  tile::opcode op;
  int instruction;  ///< its place in the program after the passes

  unsupported(tile::opcode what, int at,
              std::source_location where = std::source_location::current())
      : error(where), op(what), instruction(at) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::source: %" + std::to_string(instruction) + ": there is no source for `" +
           std::string(tile::info(op).name) + "` of these elements";
  }
};

}  // namespace ashlar::chip::source
