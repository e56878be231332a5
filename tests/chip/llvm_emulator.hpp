// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "chip/llvm_support.hpp"

/// RISC-V with vectors in an emulator.
namespace llvm_test {

namespace chip = ashlar::chip;
namespace code = ashlar::chip::llvm_codegen;

/// What runs on the emulated machine: it reads launches from one file, runs them, and writes their
/// memory to another.
inline constexpr std::string_view riscv_runner = R"(
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { char* data; int64_t extents[4], strides[4], bits; } argument;
typedef int32_t function(const argument*, void*, int64_t, int64_t, int64_t, int64_t, int64_t,
                         int64_t);
extern function* const functions[];
static void get(FILE* from, void* to, size_t n) {
  if (n > 0 && fread(to, 1, n, from) != n) exit(3);
}
int main(int count, char** words) {
  FILE* in = fopen(words[1], "rb");
  FILE* out = fopen(words[2], "wb");
  int64_t launches;
  if (count != 3 || !in || !out) return 2;
  get(in, &launches, 8);
  while (launches-- > 0) {
    int64_t head[6], sizes[16];  // function, scratch, grid, arguments
    argument given[16];
    get(in, head, sizeof head);
    for (int k = 0; k < head[5]; ++k) {
      get(in, &sizes[k], 8);
      get(in, &given[k], sizeof(argument));
      given[k].data = aligned_alloc(64, (size_t)sizes[k] / 64 * 64 + 64);
      get(in, given[k].data, (size_t)sizes[k]);
    }
    void* scratch = aligned_alloc(64, (size_t)head[1] + 64);
    int32_t failed = 0;
    for (int64_t z = 0; z < head[4]; ++z)
      for (int64_t y = 0; y < head[3]; ++y)
        for (int64_t x = 0; x < head[2] && failed == 0; ++x)
          failed = functions[head[0]](given, scratch, x, y, z, head[2], head[3], head[4]);
    if (failed) return 4;
    for (int k = 0; k < head[5]; ++k) {
      fwrite(given[k].data, 1, (size_t)sizes[k], out);
      free(given[k].data);
    }
    free(scratch);
  }
  return fclose(out);
}
)";

/// Whether compiler, C library and emulator are there; says what is missing.
inline bool can_emulate() {
  if (code::find_tool("clang").empty() || code::find_program("riscv64-linux-gnu-gcc").empty() ||
      code::find_program("qemu-riscv64").empty()) {
    MESSAGE(
        "SKIPPED: needs clang 14 to 19, riscv64-linux-gnu-gcc with its C library, and "
        "qemu-riscv64");
    return false;
  }
  return true;
}

/// Compiles the programs for RISC-V with vectors, every other one after the passes, and runs the
/// launches in the emulator.
/// Returns: the memory of each afterwards.
inline std::vector<std::vector<std::vector<std::byte>>> emulated(
    const std::vector<launch>& all, const chip::llvm_target& target = chip::llvm_riscv64) {
  const programs programs(all, true);
  const chip::llvm_module m = code::emit(programs.code, target);
  const code::temporary_folder folder;
  code::write_file(folder / "module.ll", m.text);
  std::string declared;
  std::string table;
  for (const auto& f : m.functions) {
    declared += "extern function " + f.symbol + ";\n";
    table += f.symbol + ", ";
  }
  code::write_file(folder / "runner.c", std::string(riscv_runner) + declared +
                                            "function* const functions[] = {" + table + "};\n");
  const std::string clang = code::expect_tool("clang");
  std::vector<std::string> command{clang,
                                   "--target=riscv64-linux-gnu",
                                   "-O1",
                                   "-ffp-contract=off",
                                   "-static",
                                   "-fno-vectorize",
                                   "-fno-slp-vectorize",
                                   "-Wno-override-module"};
  const std::vector<std::string> opaque = code::pointer_switch(clang);
  command.insert(command.end(), opaque.begin(), opaque.end());
  if (opaque.empty()) {
    command.insert(command.end(), {"-march=rv64gcv"});
  } else {  // vectors were an experiment then
    command.insert(command.end(), {"-march=rv64gcv1p0", "-menable-experimental-extensions"});
  }
  command.insert(command.end(),
                 {folder / "runner.c", folder / "module.ll", "-o", folder / "runner", "-lm"});
  code::expect_run(command);

  std::string in;
  const auto put = [&](const auto& x) { in.append(reinterpret_cast<const char*>(&x), sizeof(x)); };
  put(static_cast<std::int64_t>(all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t f = programs.of[i];
    put(static_cast<std::int64_t>(f));
    put(m.functions[f].scratch_bytes);
    put(all[i].size);
    put(static_cast<std::int64_t>(all[i].given.size()));
    for (std::size_t k = 0; k < all[i].given.size(); ++k) {
      const std::vector<std::byte>& bytes = all[i].memory[k];
      put(static_cast<std::int64_t>(bytes.size()));
      put(chip::llvm_argument(all[i].given[k]));
      in.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  code::write_file(folder / "in", in);
  code::expect_run({"qemu-riscv64", "-cpu", "rv64,v=true,vlen=256", folder / "runner",
                    folder / "in", folder / "out"});

  std::ifstream file(folder / "out", std::ios::binary);
  std::vector<std::vector<std::vector<std::byte>>> after;
  for (const launch& l : all) {
    after.push_back(l.memory);
    for (std::vector<std::byte>& bytes : after.back()) {
      file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
  }
  REQUIRE(file.good());
  return after;
}

/// Every result must be the interpreter's.
inline void check_emulated(const std::vector<launch>& all,
                           const chip::llvm_target& target = chip::llvm_riscv64) {
  const auto after = [&] {
    try {
      return emulated(all, target);
    } catch (const chip::llvm_tool_error& e) {
      // QEMU before 8.1 stops at some conversions of vectors of doubles (its issue 1441).
      if (e.reason.find("decode_save_opc") == std::string::npos) {
        throw;
      }
      return emulated(all, target.with_vector_bytes(4));
    }
  }();
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    CHECK(distance(all[i], after[i], all[i].expected()) == 0);
  }
}

}  // namespace llvm_test
