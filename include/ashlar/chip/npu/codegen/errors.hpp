// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/error.hpp"

namespace ashlar::chip::npu_codegen {

/// An instruction of a tile program that this machine cannot carry out.
struct unsupported final : error {
  std::string program;  ///< its name
  int instruction;      ///< its place
  std::string what;     ///< the operation
  std::string reason;   ///< what is missing

  unsupported(std::string name, int at, std::string op, std::string why,
              std::source_location where = std::source_location::current())
      : error(where),
        program(std::move(name)),
        instruction(at),
        what(std::move(op)),
        reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu_codegen: " + program + ", %" + std::to_string(instruction) + " `" +
           what + "`: " + reason;
  }
};

/// Chip IR that breaks a rule: a mistake in the code generator.
struct ir_error final : error {
  std::string program;    ///< its name
  std::string_view rule;  ///< what must hold
  int region, step;       ///< where; -1 where it is no step's matter

  ir_error(std::string name, std::string_view what, int in, int at,
           std::source_location where = std::source_location::current())
      : error(where), program(std::move(name)), rule(what), region(in), step(at) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu_codegen: " + program + ", region " + std::to_string(region) +
           ", step " + std::to_string(step) + ": broken rule: " + std::string(rule);
  }
};

/// A program whose tiles do not fit into the scratchpad at the same time.
struct out_of_scratchpad final : error {
  std::string program;             ///< its name
  std::int64_t needed, available;  ///< [bytes]

  out_of_scratchpad(std::string name, std::int64_t bytes, std::int64_t capacity,
                    std::source_location where = std::source_location::current())
      : error(where), program(std::move(name)), needed(bytes), available(capacity) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu_codegen: " + program + " needs " + std::to_string(needed) +
           " bytes of scratchpad, and there are " + std::to_string(available) +
           "; choose smaller tiles";
  }
};

}  // namespace ashlar::chip::npu_codegen
