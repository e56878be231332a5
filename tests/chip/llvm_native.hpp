// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "chip/llvm_support.hpp"

/// Programs that LLVM compiles for this machine.
namespace llvm_test {

namespace chip = ashlar::chip;

/// Whether clang is there and makes code for this machine; says so where not.
inline bool can_compile() {
  if (chip::llvm_codegen::native_arch() != "x86_64") {
    MESSAGE("SKIPPED: these tests compile for x86-64");
    return false;
  }
  if (chip::llvm_codegen::find_tool("clang").empty()) {
    MESSAGE("SKIPPED: no clang 14 to 19 in PATH or ASHLAR_LLVM_BIN");
    return false;
  }
  return true;
}

/// Compiles the programs of the launches together, every other one after the passes, and runs them.
/// Returns: the memory of each afterwards.
inline std::vector<std::vector<std::vector<std::byte>>> compiled(
    const std::vector<launch>& all, const chip::llvm_target& target = chip::llvm_x86_64) {
  const programs programs(all, true);
  const chip::llvm_codegen::native_library code(programs.code, target, "-O1");
  chip::thread_limit one(1);  // the interpreter's order of atomics
  std::vector<std::vector<std::vector<std::byte>>> after;
  for (std::size_t i = 0; i < all.size(); ++i) {
    after.push_back(all[i].memory);
    code.run(programs.of[i], all[i].size, all[i].arguments(after.back()));
  }
  return after;
}

/// Every result must be the interpreter's.
inline void check_native(const std::vector<launch>& all,
                         const chip::llvm_target& target = chip::llvm_x86_64) {
  const auto after = compiled(all, target);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    CHECK(distance(all[i], after[i], all[i].expected()) == 0);
  }
}

}  // namespace llvm_test
