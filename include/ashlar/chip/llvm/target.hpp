// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/core/error.hpp"
#include "ashlar/tile/opcode.hpp"

namespace ashlar::chip {

namespace llvm_codegen {
/// Characters up to the first 0 or `end`.
constexpr std::string_view filled(const char* chars, std::size_t most, char end = '\0') {
  std::size_t n = 0;
  while (n < most && chars[n] != '\0' && chars[n] != end) {
    ++n;
  }
  return {chars, n};
}
}  // namespace llvm_codegen

/// What LLVM IR is written for. A plain value, so that it can be a template argument; a triple
/// alone is one, too: `chip::llvm<"riscv64-linux-gnu">`.
struct llvm_target {
  static constexpr std::size_t room = 48;

  std::array<char, room> triple_chars{};
  /// Before `expf`, `log` ...: nothing, or "__nv_" for CUDA's libdevice.
  std::array<char, 16> math_prefix_chars{};
  int vector_bytes = 64;  ///< of the vectors that are written
  /// For tiles: of the stack, or of the memory that a team shares. The rest is scratch memory.
  std::int64_t stack_bytes = 64 * 1024;
  std::int64_t repeat_limit = std::int64_t{1} << 24;  ///< most rounds of one `repeat`
  /// Bytes of which the address and, but for the last axis, every stride of each view is a
  /// multiple; the last axis is dense. A promise of whoever launches. 0: nothing but what elements
  /// need.
  int view_alignment = 0;
  /// Whether a view that is written shares memory with no other, unless both have the same address,
  /// strides and element type. A promise of whoever launches; a team then keeps short rows in
  /// registers, see `tile::passes::few_rounds`.
  bool views_apart = false;

  template <std::size_t N>
    requires(N <= room)
  constexpr llvm_target(const char (&name)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
      triple_chars[i] = name[i];
    }
    if (arch() == "nvptx64") {
      vector_bytes = 4;  // a thread takes one element
      stack_bytes = 48 * 1024;
    }
  }

  [[nodiscard]] constexpr std::string_view triple() const {
    return llvm_codegen::filled(triple_chars.data(), room);
  }
  [[nodiscard]] constexpr std::string_view arch() const {
    return llvm_codegen::filled(triple_chars.data(), room, '-');
  }
  /// Whether the threads of a block work on one place of the grid together.
  [[nodiscard]] constexpr bool in_teams() const { return arch() == "nvptx64"; }
  /// Whether the text brings `exp`, `log`, `tanh` and `erf` with it: where no C library is, unless
  /// another is named.
  [[nodiscard]] constexpr bool has_own_math() const { return in_teams() && math_prefix().empty(); }
  [[nodiscard]] constexpr std::string_view math_prefix() const {
    return llvm_codegen::filled(math_prefix_chars.data(), math_prefix_chars.size());
  }

  template <std::size_t N>
    requires(N <= 16)
  constexpr void set_math_prefix(const char (&prefix)[N]) {
    math_prefix_chars = {};
    for (std::size_t i = 0; i < N; ++i) {
      math_prefix_chars[i] = prefix[i];
    }
  }
  [[nodiscard]] constexpr llvm_target with_vector_bytes(int bytes) const {
    llvm_target t = *this;
    t.vector_bytes = bytes;
    return t;
  }

  [[nodiscard]] constexpr llvm_target with_view_alignment(int bytes) const {
    llvm_target t = *this;
    t.view_alignment = bytes;
    return t;
  }

  [[nodiscard]] constexpr llvm_target with_views_apart() const {
    llvm_target t = *this;
    t.views_apart = true;
    return t;
  }

  friend constexpr bool operator==(const llvm_target&, const llvm_target&) = default;
};

/// The block of an operator's program along rows of `n` elements (`chip::blocks::fold`) with which
/// a team of threads is fastest: two of them hold the row, so that a thread has sixteen elements.
///
/// Half of a row is added up element by element, the other half across threads. At most 2048, which
/// is what 256 threads have; rows of more than two blocks are read again from memory.
constexpr int team_fold(std::int64_t n) {
  int fold = 256;
  while (fold < 2048 && 2 * fold < n) {
    fold *= 2;
  }
  return fold;
}

/// A program that LLVM IR cannot be written for.
struct llvm_unsupported final : error {
  tile::opcode op;
  int instruction;     ///< its place in the program
  std::string reason;  ///< what is missing

  llvm_unsupported(tile::opcode what, int at, std::string why,
                   std::source_location where = std::source_location::current())
      : error(where), op(what), instruction(at), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::llvm: %" + std::to_string(instruction) + " (" +
           std::string(tile::info(op).name) + "): " + reason;
  }
};

/// A tool of LLVM that is not there, or that failed.
struct llvm_tool_error final : error {
  std::string tool;    ///< its name or path
  std::string reason;  ///< what to do, or what it wrote

  llvm_tool_error(std::string name, std::string why,
                  std::source_location where = std::source_location::current())
      : error(where), tool(std::move(name)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::llvm: " + tool + ": " + reason;
  }
};

}  // namespace ashlar::chip
