// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::chip::npu_isa {

/// An instruction that has no encoding, or a binary that is no program.
struct encoding_error final : error {
  std::size_t index;   ///< of the instruction
  std::string reason;  ///< what must hold

  encoding_error(std::size_t i, std::string why,
                 std::source_location where = std::source_location::current())
      : error(where), index(i), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu_isa: instruction " + std::to_string(index) + ": " + reason;
  }
};

/// Assembler text that is no program.
struct assembly_error final : error {
  std::size_t line;    ///< counted from 1
  std::string token;   ///< the word that does not fit
  std::string reason;  ///< what is expected in its place

  assembly_error(std::size_t number, std::string word, std::string why,
                 std::source_location where = std::source_location::current())
      : error(where), line(number), token(std::move(word)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu_isa::assemble: line " + std::to_string(line) + ": `" + token +
           "`: " + reason;
  }
};

/// The place in a program that a fault names.
struct place {
  std::size_t index = 0;  ///< of the instruction
  std::string text;       ///< its disassembly
  std::string source;     ///< what it was made from; may be empty

  [[nodiscard]] std::string to_string() const {
    return "instruction " + std::to_string(index) + " `" + text + "`" +
           (source.empty() ? "" : " (from " + source + ")");
  }
  friend bool operator==(const place&, const place&) = default;
};

/// Base of what the simulator finds wrong with a running program.
struct fault : error {
  place at;

 protected:
  fault(place p, std::source_location where) : error(where), at(std::move(p)) {}
};

/// The instruction asks for what this machine has not: a semaphore, a unit, a negative extent.
struct illegal_instruction final : fault {
  std::string reason;

  illegal_instruction(place p, std::string why,
                      std::source_location where = std::source_location::current())
      : fault(std::move(p), where), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": " + reason;
  }
};

/// An access outside the scratchpad or outside every region of global memory.
struct out_of_bounds final : fault {
  std::string memory;        ///< `scratchpad` or `global`
  std::int64_t first, last;  ///< the bytes it would touch, `last` excluded

  out_of_bounds(place p, std::string space, std::int64_t begin, std::int64_t end,
                std::source_location where = std::source_location::current())
      : fault(std::move(p), where), memory(std::move(space)), first(begin), last(end) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": bytes " + std::to_string(first) + " to " +
           std::to_string(last) + " are not in " + memory + " memory";
  }
};

/// An address or a stride that is no multiple of what the engine needs.
struct misaligned final : fault {
  std::string what;  ///< `dst`, `a row stride`, ...
  std::int64_t value, alignment;

  misaligned(place p, std::string name, std::int64_t v, std::int64_t multiple,
             std::source_location where = std::source_location::current())
      : fault(std::move(p), where), what(std::move(name)), value(v), alignment(multiple) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": " + what + " " + std::to_string(value) +
           " is no multiple of " + std::to_string(alignment) + " bytes";
  }
};

/// A read of scratchpad bytes that nothing has written.
struct uninitialised final : fault {
  std::string what;   ///< the operand
  std::int64_t byte;  ///< the first such byte

  uninitialised(place p, std::string name, std::int64_t address,
                std::source_location where = std::source_location::current())
      : fault(std::move(p), where), what(std::move(name)), byte(address) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": operand " + what +
           " reads scratchpad byte " + std::to_string(byte) + ", which nothing has written";
  }
};

/// Two engines touch the same bytes, one of them writes, and nothing orders them.
struct race final : fault {
  place other;
  std::string memory;  ///< `scratchpad` or `global`

  race(place later, place earlier, std::string space,
       std::source_location where = std::source_location::current())
      : fault(std::move(later), where), other(std::move(earlier)), memory(std::move(space)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + " and " + other.to_string() +
           " touch the same " + memory + " bytes, and no semaphore or barrier orders them";
  }
};

/// Nothing can go on: every engine waits.
struct deadlock final : fault {
  std::vector<place> waiting;  ///< one place for each engine that waits, in the order of engines
  std::int64_t cycle;

  deadlock(std::vector<place> stuck, std::int64_t now,
           std::source_location where = std::source_location::current())
      : fault(stuck.empty() ? place{} : stuck.front(), where),
        waiting(std::move(stuck)),
        cycle(now) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text =
        "ashlar::chip::npu: deadlock in cycle " + std::to_string(cycle) + "; waiting:";
    for (const place& p : waiting) {
      text += " " + p.to_string() + ";";
    }
    return text;
  }
};

/// `check` found 0.
struct check_failed final : fault {
  explicit check_failed(place p, std::source_location where = std::source_location::current())
      : fault(std::move(p), where) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": the check failed";
  }
};

/// The program ran into the limit of cycles.
struct cycle_limit_reached final : fault {
  std::int64_t limit;

  cycle_limit_reached(place p, std::int64_t cycles,
                      std::source_location where = std::source_location::current())
      : fault(std::move(p), where), limit(cycles) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::npu: " + at.to_string() + ": not finished after " +
           std::to_string(limit) + " cycles";
  }
};

}  // namespace ashlar::chip::npu_isa
