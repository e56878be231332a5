// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/llvm/module.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/interpreter.hpp"
#include "ashlar/tile/program.hpp"

/// Programs compiled by an installed clang for the machine that we run on.
namespace ashlar::chip::llvm_codegen {

/// The machine's name in triples; empty where it has none here.
constexpr std::string_view native_arch() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#elif defined(__riscv) && __riscv_xlen == 64
  return "riscv64";
#else
  return {};
#endif
}

/// Programs in a shared object, which is open as long as this lives.
class native_library {
 public:
  /// Throws: `llvm_unsupported`; `llvm_tool_error` where clang is not there or fails.
  native_library(std::span<const tile::program> programs, const llvm_target& target,
                 const char* optimisation = "-O2")
      : printer_(std::make_unique<printer>(
            std::vector<tile::program>(programs.begin(), programs.end()))),
        target_(target) {
    const llvm_module m = emit(programs, target);
    const std::string clang = expect_tool("clang");
    const temporary_folder folder;
    write_file(folder / "module.ll", m.text);
    const std::string cpu = target.arch() == "x86_64" ? "-march=native" : "-mcpu=native";
    std::vector<std::string> command{
        clang, "-x", "ir", optimisation, cpu, "-ffp-contract=off", "-Wno-override-module"};
    for (const std::string& word : pointer_switch(clang)) {
      command.push_back(word);
    }
    for (const std::string& word :
         {std::string("-fPIC"), std::string("-shared"), folder / "module.ll", std::string("-o"),
          folder / "module.so", std::string("-lm")}) {
      command.push_back(word);
    }
    expect_run(command);
    library_.reset(::dlopen((folder / "module.so").c_str(), RTLD_NOW | RTLD_LOCAL));
    if (library_ == nullptr) {
      throw llvm_tool_error("dlopen", ::dlerror());
    }
    for (const llvm_module::function& f : m.functions) {
      void* symbol = ::dlsym(library_.get(), f.symbol.c_str());
      if (symbol == nullptr) {
        throw llvm_tool_error("dlsym", "there is no " + f.symbol);
      }
      functions_.push_back({reinterpret_cast<llvm_function>(symbol), f.scratch_bytes});
    }
  }

  [[nodiscard]] const tile::program& program(std::size_t k) const { return printer_->programs[k]; }

  /// What programs print goes there from now on, as the interpreter writes it; nowhere if null.
  ///
  /// Requires: no program runs.
  void print_to(std::ostream* out) {
    printer_->out = out;
    if (void* const listener = ::dlsym(library_.get(), "__ashlar_print"); listener != nullptr) {
      *static_cast<llvm_listener*>(listener) = out == nullptr ? nullptr : &listen;
      *static_cast<void**>(::dlsym(library_.get(), "__ashlar_print_to")) = printer_.get();
    }
  }

  /// Runs program number `k` for every place of the grid, in parallel.
  ///
  /// Throws: `launch_error` where arguments or grid do not fit, `execution_error`.
  void run(std::size_t k, const tile::grid& grid, std::span<const tile::argument> given) const {
    const tile::program& p = printer_->programs[k];
    tile::expect_matching(p, given);
    expect_aligned(target_, given);
    std::int64_t places = 1;
    for (const std::int64_t n : grid) {
      if (n < 0 || (n > 0 && places > INT64_MAX / n)) {
        throw tile::launch_error(-1,
                                 "an axis of the grid is negative, or there are too many places");
      }
      places *= n;
    }
    const std::vector<llvm_argument> arguments(given.begin(), given.end());
    const function& f = functions_[k];
    const std::int64_t room = f.scratch_bytes + 64;
    parallel_for(places, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::byte> memory(static_cast<std::size_t>(room));
      void* scratch = memory.data();
      std::size_t left = memory.size();
      std::align(64, static_cast<std::size_t>(f.scratch_bytes), scratch, left);
      for (std::int64_t n = begin; n < end; ++n) {
        const tile::grid at{n % grid[0], n / grid[0] % grid[1], n / grid[0] / grid[1]};
        const std::int32_t failed =
            f.call(arguments.data(), scratch, at[0], at[1], at[2], grid[0], grid[1], grid[2]);
        if (failed != 0) {
          const tile::instruction& i = p.at(failed - 1);
          throw tile::execution_error(
              i.op == tile::opcode::require ? tile::execution_error::requirement
              : i.op == tile::opcode::loop  ? tile::execution_error::loop_step
                                            : "repeat: more rounds than the limit allows",
              failed - 1, at, i.op == tile::opcode::require ? i.index : 0);
        }
      }
    });
  }

 private:
  /// Stays where it is while the library moves.
  struct printer {
    std::vector<tile::program> programs;
    std::mutex guard{};
    std::ostream* out = nullptr;
  };
  static void listen(void* to, std::int32_t function, std::int32_t instruction,
                     const void* elements, std::int64_t x, std::int64_t y, std::int64_t z) {
    auto& p = *static_cast<printer*>(to);
    const tile::program& code = p.programs[static_cast<std::size_t>(function)];
    const std::string text = tile::detail::print_text(code.at(instruction).index, {x, y, z},
                                                      code.type_of(code.operand(instruction, 0)),
                                                      static_cast<const std::byte*>(elements));
    const std::lock_guard lock(p.guard);
    *p.out << text;
  }
  struct close {
    void operator()(void* library) const { ::dlclose(library); }
  };
  struct function {
    llvm_function call;
    std::int64_t scratch_bytes;
  };
  std::unique_ptr<printer> printer_;
  llvm_target target_;
  std::unique_ptr<void, close> library_{};
  std::vector<function> functions_{};
};

/// The code of a program after the passes: compiled when it is asked for the first time, kept until
/// the process ends.
inline const native_library& compiled(const tile::program& p, const llvm_target& target) {
  struct entry {
    tile::program code;
    llvm_target target;
    native_library library;
  };
  static std::mutex guard;
  static std::unordered_multimap<std::size_t, std::unique_ptr<entry>> known;
  const std::size_t key = std::hash<std::string_view>{}(p.name()) * 31 +
                          static_cast<std::size_t>(p.size) * 1024 +
                          static_cast<std::size_t>(p.operand_count);
  const std::lock_guard lock(guard);
  const auto [first, last] = known.equal_range(key);
  for (auto i = first; i != last; ++i) {
    if (i->second->target == target && i->second->code == p) {
      return i->second->library;
    }
  }
  const tile::program better = optimised(p);
  entry& made = *known
                     .emplace(key, std::unique_ptr<entry>(
                                       new entry{p, target, native_library({&better, 1}, target)}))
                     ->second;
  made.library.print_to(&std::cerr);
  return made.library;
}

/// A program that has been compiled.
class native_program {
 public:
  /// Compiles it where it has not been yet.
  native_program(const tile::program& p, const llvm_target& target)
      : written_(p), library_(&compiled(p, target)) {}

  [[nodiscard]] const tile::program& program() const { return written_; }

  /// Throws: `launch_error`; `execution_error`, which names an instruction of `program()`, not of
  ///         what the passes made of it.
  void operator()(const tile::grid& grid, std::span<const tile::argument> arguments) const {
    try {
      library_->run(0, grid, arguments);
    } catch (const tile::execution_error& e) {
      throw tile::execution_error(
          e.reason, tile::written_place(library_->program(0), e.instruction, written_), e.place,
          e.number);
    }
  }

 private:
  tile::program written_;
  const native_library* library_;
};

}  // namespace ashlar::chip::llvm_codegen
