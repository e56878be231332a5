// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "chip/llvm_support.hpp"
#include "chip/plain_math.hpp"

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
    fputc(1, out);
    fflush(out);  // the emulator may stop at the next one
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

/// The memory of launches.
using memories = std::vector<std::vector<std::vector<std::byte>>>;

/// Programs of some launches as one program of the emulated machine, with the functions of
/// `plain_math` or of its C library.
class emulator_build {
 public:
  /// Compiles the programs for RISC-V with vectors, every other one after the passes.
  emulator_build(const std::vector<launch>& all, const chip::llvm_target& target)
      : all_(all), programs_(all, true), module_(code::emit(programs_.code, target)) {
    code::write_file(folder_ / "module.ll", module_.text);
    std::string declared;
    std::string table;
    for (const auto& f : module_.functions) {
      declared += "extern function " + f.symbol + ";\n";
      table += f.symbol + ", ";
    }
    code::write_file(folder_ / "runner.c", std::string(riscv_runner) + declared +
                                               "function* const functions[] = {" + table + "};\n" +
                                               std::string(plain_math::text) +
                                               std::string(plain_math::prefix_text));
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
                   {folder_ / "runner.c", folder_ / "module.ll", "-o", folder_ / "runner", "-lm"});
    code::expect_run(command);
  }

  struct result {
    memories after{};     ///< of the launches that ended, from the first on
    std::string fault{};  ///< what stopped the one behind them; empty where nothing did
  };

  /// Runs launches `from` to `to` in the emulator.
  [[nodiscard]] result run(std::size_t from, std::size_t to) const {
    std::string in;
    const auto put = [&](const auto& x) {
      in.append(reinterpret_cast<const char*>(&x), sizeof(x));
    };
    put(static_cast<std::int64_t>(to - from));
    for (std::size_t i = from; i < to; ++i) {
      const launch& l = all_[i];
      const std::size_t f = programs_.of[i];
      put(static_cast<std::int64_t>(f));
      put(module_.functions[f].scratch_bytes);
      put(l.size);
      put(static_cast<std::int64_t>(l.given.size()));
      for (std::size_t k = 0; k < l.given.size(); ++k) {
        put(static_cast<std::int64_t>(l.memory[k].size()));
        put(chip::llvm_argument(l.given[k]));
        in.append(reinterpret_cast<const char*>(l.memory[k].data()), l.memory[k].size());
      }
    }
    code::write_file(folder_ / "in", in);
    const code::run_result ended =
        code::run_program({"qemu-riscv64", "-cpu", "rv64,v=true,vlen=256", folder_ / "runner",
                           folder_ / "in", folder_ / "out"});
    result r;
    if (ended.status != 0) {
      r.fault = "status " + std::to_string(ended.status) + ": " + ended.output.substr(0, 2000);
    }
    std::ifstream file(folder_ / "out", std::ios::binary);
    for (std::size_t i = from; i < to; ++i) {
      std::vector<std::vector<std::byte>> memory = all_[i].memory;
      for (std::vector<std::byte>& bytes : memory) {
        file.read(reinterpret_cast<char*>(bytes.data()),
                  static_cast<std::streamsize>(bytes.size()));
      }
      if (char mark = 0; !file.get(mark)) {  // it was written when the launch had ended
        break;
      }
      r.after.push_back(std::move(memory));
    }
    return r;
  }

 private:
  const std::vector<launch>& all_;
  programs programs_;
  chip::llvm_module module_;
  code::temporary_folder folder_{};
};

/// Runs the launches in the emulator. Returns: the memory of each afterwards.
inline memories emulated(const std::vector<launch>& all,
                         const chip::llvm_target& target = chip::llvm_riscv64) {
  auto ran = emulator_build(all, target).run(0, all.size());
  if (ran.after.size() != all.size() || !ran.fault.empty()) {
    throw chip::llvm_tool_error("qemu-riscv64", "it failed: " + ran.fault);
  }
  return std::move(ran.after);
}

/// What the launches leave behind, and how many of them ran without vectors.
struct emulation {
  memories after{};
  std::size_t without = 0;
};

/// Runs the launches in the emulator; one at which the emulator itself fails, on scalars.
inline emulation emulated_somehow(const std::vector<launch>& all,
                                  const chip::llvm_target& target = chip::llvm_riscv64) {
  const emulator_build vectors(all, target);
  std::optional<emulator_build> scalars;
  emulation all_ran;
  while (all_ran.after.size() < all.size()) {
    emulator_build::result ran = vectors.run(all_ran.after.size(), all.size());
    std::move(ran.after.begin(), ran.after.end(), std::back_inserter(all_ran.after));
    const std::size_t at = all_ran.after.size();
    if (at < all.size()) {
      // QEMU before 8.1 stops at some conversions of vectors of doubles (its issue 1441).
      if (ran.fault.find("decode_save_opc") == std::string::npos) {
        throw chip::llvm_tool_error("qemu-riscv64", "it failed: " + ran.fault);
      }
      if (!scalars) {
        scalars.emplace(all, target.with_vector_bytes(4));
      }
      emulator_build::result again = scalars->run(at, at + 1);
      REQUIRE(again.after.size() == 1);
      all_ran.after.push_back(std::move(again.after[0]));
      ++all_ran.without;
    }
  }
  return all_ran;
}

/// Every result must be the interpreter's, with the functions of `plain_math`.
///
/// Returns: how many launches ran without vectors, since the emulator itself failed at them.
inline std::size_t check_emulated(const std::vector<launch>& all,
                                  chip::llvm_target target = chip::llvm_riscv64) {
  target.set_math_prefix(plain_math::math_prefix);
  const emulation ran = emulated_somehow(all, target);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    CHECK(distance(all[i], ran.after[i], all[i].expected<plain_math::functions>()) == 0);
  }
  return ran.without;
}

}  // namespace llvm_test
