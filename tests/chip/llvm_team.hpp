// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "chip/llvm_native.hpp"
#include "chip/llvm_support.hpp"

/// Kernels of nvptx64 without a GPU: their IR compiled for this machine, the threads of a block as
/// fibers.
///
/// The fibers run one after the other from barrier to barrier, forwards and then backwards: what
/// lacks a barrier reads what is not there yet. Shared and scratch memory begin with NaN.
namespace llvm_test {

namespace code = ashlar::chip::llvm_codegen;

/// The machine: registers, barrier and the power of two that the text asks for, and a scheduler.
inline constexpr std::string_view team_machine = R"(
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
enum { most = 256, stack = 1 << 16 };
char __ashlar_shared[48 * 1024] __attribute__((aligned(64)));
static char stacks[most][stack] __attribute__((aligned(64)));
static ucontext_t fibers[most], machine;
static int thread, ended[most];
static int64_t place[3], grid[3];
typedef void kernel(const void*, void*, int32_t*);
static kernel* code;
static const void* given;
static void* scratch;
static int32_t* status;
int32_t team_tid(void) { return thread; }
int32_t team_place_x(void) { return (int32_t)place[0]; }
int32_t team_place_y(void) { return (int32_t)place[1]; }
int32_t team_place_z(void) { return (int32_t)place[2]; }
int32_t team_grid_x(void) { return (int32_t)grid[0]; }
int32_t team_grid_y(void) { return (int32_t)grid[1]; }
int32_t team_grid_z(void) { return (int32_t)grid[2]; }
float team_exp2(float x) { return exp2f(x); }
void team_barrier(void) { swapcontext(&fibers[thread], &machine); }
static void begin(void) {
  code(given, scratch, status);
  ended[thread] = 1;
}
/* Returns: 0, or 1 where some threads ended and others wait for them. */
int32_t team_run(kernel* k, const void* arguments, void* memory, int64_t scratch_bytes,
                 int32_t* failed, int32_t threads, const int64_t* size) {
  code = k, given = arguments, scratch = memory, status = failed;
  memset(memory, 255, (size_t)(scratch_bytes * size[0] * size[1] * size[2]));
  for (int a = 0; a < 3; ++a) grid[a] = size[a];
  for (place[2] = 0; place[2] < size[2]; ++place[2])
    for (place[1] = 0; place[1] < size[1]; ++place[1])
      for (place[0] = 0; place[0] < size[0]; ++place[0]) {
        memset(__ashlar_shared, 255, sizeof __ashlar_shared);
        for (int t = 0; t < threads; ++t) {
          getcontext(&fibers[t]);
          fibers[t].uc_stack.ss_sp = stacks[t];
          fibers[t].uc_stack.ss_size = stack;
          fibers[t].uc_link = &machine;
          makecontext(&fibers[t], begin, 0);
          ended[t] = 0;
        }
        for (int round = 0, left = threads; left > 0; ++round) {
          left = 0;
          for (int t = 0; t < threads; ++t) {
            thread = round % 2 == 0 ? t : threads - 1 - t;
            swapcontext(&machine, &fibers[thread]);
            left += !ended[thread];
          }
          if (left != 0 && left != threads) return 1;
        }
      }
  return 0;
}
)";

/// The text for this machine: what is a GPU's own becomes functions of `team_machine`.
inline std::string as_team(std::string text) {
  const std::pair<std::string_view, std::string_view> others[] = {
      {"nvptx64-nvidia-cuda", chip::llvm_x86_64.triple()},
      {"external addrspace(3) global", "external global"},
      {"addrspacecast ptr addrspace(3) @__ashlar_shared to ptr",
       "getelementptr i8, ptr @__ashlar_shared, i64 0"},
      {"@llvm.nvvm.read.ptx.sreg.tid.x", "@team_tid"},
      {"@llvm.nvvm.read.ptx.sreg.ctaid.", "@team_place_"},
      {"@llvm.nvvm.read.ptx.sreg.nctaid.", "@team_grid_"},
      {"@llvm.nvvm.ex2.approx.f", "@team_exp2"},
      {"@llvm.nvvm.barrier0", "@team_barrier"}};
  for (const auto& [from, to] : others) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  }
  return text;
}

/// Programs as they are written for nvptx64, compiled for fibers.
class team_library {
 public:
  explicit team_library(std::span<const tile::program> programs,
                        const chip::llvm_target& target = chip::llvm_nvptx64)
      : target_(target),
        programs_(programs.begin(), programs.end()),
        module_(code::emit(programs, target)) {
    const code::temporary_folder folder;
    code::write_file(folder / "module.ll", as_team(module_.text));
    code::write_file(folder / "machine.c", team_machine);
    const std::string clang = code::expect_tool("clang");
    std::vector<std::string> command{clang,   "-O1",     "-ffp-contract=off", "-w",
                                     "-fPIC", "-shared", "-march=native"};
    for (const std::string& word : code::pointer_switch(clang)) {
      command.push_back(word);
    }
    for (const char* file : {"machine.c", "module.ll"}) {
      command.push_back(folder / file);
    }
    command.insert(command.end(), {"-lm", "-o", folder / "team.so"});
    code::expect_run(command);
    library_.reset(::dlopen((folder / "team.so").c_str(), RTLD_NOW | RTLD_LOCAL));
    REQUIRE(library_ != nullptr);
  }

  /// Runs program number `k` for every place of the grid. Returns: its status.
  std::int32_t run(std::size_t k, const tile::grid& size,
                   const std::vector<tile::argument>& given) const {
    using runner = std::int32_t(void*, const void*, void*, std::int64_t, std::int32_t*,
                                std::int32_t, const std::int64_t*);
    void* const found = ::dlsym(library_.get(), "team_run");
    REQUIRE(found != nullptr);
    code::expect_aligned(target_, given);
    code::expect_apart(target_, programs_[k], given);
    const chip::llvm_module::function& f = module_.functions[k];
    const std::vector<chip::llvm_argument> arguments(given.begin(), given.end());
    const std::int64_t room = f.scratch_bytes * size[0] * size[1] * size[2];
    std::vector<std::byte> memory(static_cast<std::size_t>(room) + 64);
    void* scratch = memory.data();
    std::size_t left = memory.size();
    std::align(64, static_cast<std::size_t>(room), scratch, left);
    std::int32_t status = 0;
    REQUIRE(f.shared_bytes <= 48 * 1024);
    CHECK(reinterpret_cast<runner*>(found)(::dlsym(library_.get(), f.symbol.c_str()),
                                           arguments.data(), scratch, f.scratch_bytes, &status,
                                           f.threads, size.data()) == 0);
    return status;
  }

 private:
  struct close {
    void operator()(void* library) const { ::dlclose(library); }
  };
  chip::llvm_target target_;
  std::vector<tile::program> programs_;
  chip::llvm_module module_;
  std::unique_ptr<void, close> library_{};
};

/// Runs the launches on fibers, every other program after the passes.
/// Returns: the memory of each afterwards.
inline std::vector<std::vector<std::vector<std::byte>>> by_teams(
    const std::vector<launch>& all, const chip::llvm_target& target = chip::llvm_nvptx64) {
  const programs programs(all, true);
  const team_library code(programs.code, target);
  std::vector<std::vector<std::vector<std::byte>>> after;
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    after.push_back(all[i].memory);
    CHECK(code.run(programs.of[i], all[i].size, all[i].arguments(after.back())) == 0);
  }
  return after;
}

/// Every result must be the interpreter's, or so many units of the last place from it.
inline void check_teams(const std::vector<launch>& all, double ulp = 0,
                        const chip::llvm_target& target = chip::llvm_nvptx64) {
  const auto after = by_teams(all, target);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    CHECK(distance(all[i], after[i], all[i].expected()) <= ulp);
  }
}

}  // namespace llvm_test
