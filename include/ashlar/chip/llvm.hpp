// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/llvm/module.hpp"
#include "ashlar/chip/llvm/native.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

/// Tile programs as LLVM IR, for any target that LLVM has.
namespace ashlar::chip {

inline constexpr llvm_target llvm_x86_64{"x86_64-unknown-linux-gnu"};
inline constexpr llvm_target llvm_riscv64 =
    llvm_target{"riscv64-unknown-linux-gnu"}.with_vector_bytes(16);
inline constexpr llvm_target llvm_nvptx64{"nvptx64-nvidia-cuda"};

namespace llvm_codegen {

/// `codegen` of a chip whose code runs on this machine; nothing for any other.
template <llvm_target Target, bool Native = Target.arch() == native_arch()>
struct runs {};

template <llvm_target Target>
struct runs<Target, true> {
  struct codegen {
    /// Compiles the program where it has not been yet, and runs it.
    ///
    /// Throws: `llvm_tool_error` without clang 14 to 19; `llvm_unsupported`; `launch_error`;
    ///         `execution_error`.
    template <class Context>
    static void run(Context&, const tile::program& program, const tile::grid& grid,
                    std::span<const tile::argument> arguments) {
      native_program(program, Target)(grid, arguments);
    }
    /// Compiles the program; what comes back runs it.
    ///
    /// Throws: `llvm_tool_error` without clang 14 to 19; `llvm_unsupported`.
    static native_program compile(const tile::program& program) { return {program, Target}; }
    /// Whether there is a clang.
    static bool available() { return !find_tool("clang").empty(); }
  };
};

}  // namespace llvm_codegen

/// A chip for which LLVM makes the code: `chip::llvm<"riscv64-unknown-linux-gnu">`.
///
/// For this machine's own triple it models `RunsTiles`, by an installed clang; memory is the
/// host's.
template <llvm_target Target>
struct llvm : llvm_codegen::runs<Target> {
  static constexpr llvm_target target = Target;
  static constexpr chip_description description{
      .name = "llvm",
      .vector_bytes = static_cast<std::size_t>(Target.vector_bytes),
      .scratchpad_bytes = static_cast<std::size_t>(Target.stack_bytes),
      // A team of threads shares its tiles; elsewhere sums are in 32 vector registers.
      .register_bytes =
          Target.in_teams() ? std::size_t{0} : static_cast<std::size_t>(32 * Target.vector_bytes)};
  using memory = host::memory;
  using queue = host::queue;

  /// Returns: a module of textual LLVM IR with one function for each program, after the passes.
  /// Throws:  `program_error`, `llvm_unsupported`.
  static llvm_module emit(std::span<const tile::program> programs) {
    std::vector<tile::program> better;
    for (const tile::program& p : programs) {
      better.push_back(llvm_codegen::optimised(p, Target));
    }
    return llvm_codegen::emit(better, Target);
  }
  static llvm_module emit(const tile::program& program) { return emit({&program, 1}); }
};

}  // namespace ashlar::chip
