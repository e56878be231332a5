// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/tile/opcode.hpp"
#include "chip/llvm_support.hpp"

namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace tile = ashlar::tile;
using llvm_test::launch;

static_assert(!al::RunsTiles<chip::llvm<"sparc-unknown-none">>);

/// Whether clang is there and makes code for this machine; says so where not.
bool can_compile() {
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

/// Compiles the programs of the launches together, every other one after the passes; every result
/// must be the interpreter's.
void agree(const std::vector<launch>& all, const chip::llvm_target& target) {
  llvm_test::programs programs(all);
  for (std::size_t i = 0; i < programs.code.size(); i += 2) {
    programs.code[i] = chip::llvm_codegen::optimised(programs.code[i]);
  }
  const chip::llvm_codegen::native_library code(programs.code, target, "-O1");
  chip::thread_limit one(1);  // the interpreter's order of atomics
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    auto memory = all[i].memory;
    code.run(programs.of[i], all[i].size, all[i].arguments(memory));
    CHECK(llvm_test::distance(all[i], memory, all[i].expected()) == 0);
  }
}

}  // namespace

TEST_CASE("chip/llvm: kernels compiled for this machine give the interpreter's bits") {
  if (!can_compile()) {
    return;
  }
  std::vector<launch> all = llvm_test::kernel_launches();
  for (launch& l : llvm_test::library_launches()) {
    all.push_back(std::move(l));
  }
  agree(all, chip::llvm_x86_64);
}

TEST_CASE("chip/llvm: random programs with every operation give the interpreter's bits") {
  if (!can_compile()) {
    return;
  }
  std::vector<launch> all = llvm_test::random_launches(24, true);
  std::array<bool, tile::opcode_count> seen{};
  for (const std::vector<launch>& some : {all, llvm_test::kernel_launches()}) {
    for (const launch& l : some) {
      for (int i = 0; i < l.code.size; ++i) {
        seen[static_cast<std::size_t>(l.code.at(i).op)] = true;
      }
    }
  }
  for (int op = 0; op < tile::opcode_count; ++op) {
    CAPTURE(tile::info(static_cast<tile::opcode>(op)).name);
    CHECK(seen[static_cast<std::size_t>(op)]);
  }
  agree(all, chip::llvm_x86_64);
}

TEST_CASE("chip/llvm: the width of vectors and the size of the stack do not change a bit") {
  if (!can_compile()) {
    return;
  }
  const std::vector<launch> all = llvm_test::random_launches(8, true);
  chip::llvm_target narrow = chip::llvm_x86_64.with_vector_bytes(16);
  narrow.stack_bytes = 256;  // the rest is scratch memory
  agree(all, narrow);
  agree(all, chip::llvm_x86_64.with_vector_bytes(4));
}
