// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>
#include <string_view>

#include "ashlar/core/error.hpp"
#include "ashlar/tile/opcode.hpp"

namespace ashlar::chip {

/// An instruction that a translator of tile programs has nothing for.
struct unsupported_instruction : error {
  std::string_view translator;  ///< `chip::strips`
  std::string_view lacks;       ///< what there is none of: `kernel`, `source`
  tile::opcode op;
  int instruction;  ///< its place in the program after the passes

  unsupported_instruction(std::string_view who, std::string_view what, tile::opcode code, int at,
                          std::source_location where)
      : error(where), translator(who), lacks(what), op(code), instruction(at) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::";
    text.append(translator).append(": %").append(std::to_string(instruction));
    text.append(": there is no ").append(lacks).append(" for `").append(tile::info(op).name);
    return text.append("` of these elements");
  }
};

}  // namespace ashlar::chip
