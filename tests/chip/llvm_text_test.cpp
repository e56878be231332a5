// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/tile/builder.hpp"
#include "chip/llvm_support.hpp"

namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace code = ashlar::chip::llvm_codegen;
namespace tile = ashlar::tile;
using al::dtype;
using llvm_test::launch;
using tile::opcode;
using tile::value_id;

/// y = exp(x) by one number, for one block of floats.
struct scaled {
  static constexpr int B = 256;
  static constexpr auto name = "scaled";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y,
                            tile::arg<float> by) const {
    const auto i = k.program_id(0) * B;
    tile::store(y, exp(tile::load<B>(x, i)) * by, i);
  }
};

/// A program that stops: `require` on what it is given, `loop` by it, or a `repeat` without end.
tile::program stopping(opcode how) {
  tile::builder b("stopping");
  const int n = b.add_parameter({dtype::int64, -1, false});
  const value_id given = b.emit({.op = opcode::argument, .index = n, .type = tile::index_type});
  // An effect, without which the passes would remove the loop.
  const auto keep = [&](value_id i) {
    b.emit({.op = opcode::require, .index = 6}, {b.binary(opcode::less_equal, b.index(0), i)});
  };
  if (how == opcode::require) {
    b.emit({.op = opcode::require, .index = 5}, {b.binary(opcode::less, b.index(0), given)});
  } else if (how == opcode::loop) {
    b.emit({.op = opcode::loop}, {b.index(0), b.index(8), given});
    const value_id i = b.begin_region(std::array{tile::index_type});
    keep(i);
    b.yield({});
  } else {
    b.emit({.op = opcode::repeat}, {given});
    const value_id x = b.begin_region(std::array{tile::index_type});
    b.yield(std::array{b.binary(opcode::less, b.index(0), x)});
    const value_id y = b.begin_region(std::array{tile::index_type});
    keep(y);
    b.yield(std::array{b.binary(opcode::add, y, b.index(1))});
  }
  return b.finish();
}

/// Sets an environment variable as long as it lives.
class environment {
 public:
  environment(const char* name, const char* value) : name_(name) {
    const char* before = std::getenv(name);
    before_ = before == nullptr ? "" : before;
    had_ = before != nullptr;
    ::setenv(name, value, 1);
  }
  ~environment() { had_ ? ::setenv(name_, before_.c_str(), 1) : ::unsetenv(name_); }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

 private:
  const char* name_;
  std::string before_{};
  bool had_ = false;
};

}  // namespace

TEST_CASE("chip/llvm: a triple is a target, and says so in the text") {
  using riscv = chip::llvm<"riscv64-unknown-linux-gnu">;
  const chip::llvm_module m = riscv::emit(tile::program_of<scaled>);
  CHECK(m.text.find("target triple = \"riscv64-unknown-linux-gnu\"") != std::string::npos);
  CHECK(m.text.find("define i32 @ashlar_scaled(ptr") != std::string::npos);
  CHECK(m.text.find("declare float @expf(float)") != std::string::npos);
  CHECK(m.functions.size() == 1);
  CHECK(m.functions[0].symbol == "ashlar_scaled");
  CHECK(m.functions[0].scratch_bytes == 0);
  static_assert(!al::RunsTiles<riscv> || code::native_arch() == "riscv64");
}

TEST_CASE("chip/llvm: what is written passes LLVM's own verifier for every target") {
  if (code::find_tool("opt").empty()) {
    MESSAGE("SKIPPED: no opt 14 to 19 in PATH or ASHLAR_LLVM_BIN");
    return;
  }
  const std::string opt = code::expect_tool("opt");
  std::vector<launch> all = llvm_test::long_random_launches(24, true);
  for (launch& l : llvm_test::kernel_launches()) {
    all.push_back(std::move(l));
  }
  const llvm_test::programs programs(all);
  const code::temporary_folder folder;
  for (const chip::llvm_target& target :
       {chip::llvm_x86_64, chip::llvm_riscv64, chip::llvm_nvptx64}) {
    CAPTURE(target.triple());
    const chip::llvm_module m = code::emit(programs.code, target);
    CHECK(m.functions.size() == programs.code.size());
    code::write_file(folder / "module.ll", m.text);
    std::vector<std::string> command{opt, "-passes=verify", "-disable-output",
                                     folder / "module.ll"};
    for (const std::string& word : code::pointer_switch(opt)) {
      command.push_back(word);
    }
    const code::run_result r = code::run_program(command);
    CAPTURE(r.output);
    CHECK(r.status == 0);
  }
}

TEST_CASE("chip/llvm: an elementwise kernel becomes PTX") {
  const std::string llc = code::find_tool("llc");
  if (llc.empty() ||
      code::run_program({llc, "--version"}).output.find("nvptx64") == std::string::npos) {
    MESSAGE("SKIPPED: no llc 14 to 19 that knows nvptx64");
    return;
  }
  const chip::llvm_module m = chip::llvm<chip::llvm_nvptx64>::emit(tile::program_of<scaled>);
  CHECK(m.functions[0].shared_bytes == 0);  // its tiles are in registers
  const code::temporary_folder folder;
  code::write_file(folder / "module.ll", m.text);
  std::vector<std::string> command{llc, "-mcpu=sm_80", folder / "module.ll", "-o", "-"};
  for (const std::string& word : code::pointer_switch(llc)) {
    command.push_back(word);
  }
  const code::run_result r = code::run_program(command);
  CHECK(r.status == 0);
  CHECK(r.output.find(".visible .entry ashlar_scaled(") != std::string::npos);
  CHECK(r.output.find("ashlar_expf") != std::string::npos);
  CHECK(r.output.find(".reqntid " + std::to_string(m.functions[0].threads) + ",") !=
        std::string::npos);
  CHECK(r.output.find(".extern .func") == std::string::npos);  // nothing to link with
}

TEST_CASE("chip/llvm: programs without a place in LLVM IR are refused by name") {
  tile::builder b("flags");
  const int flags = b.add_parameter({dtype::boolean, 1, true});
  b.emit({.op = opcode::atomic_max, .index = flags}, {b.constant(dtype::boolean, 1), b.index(0)});
  try {
    code::emit(std::array{b.finish()}, chip::llvm_x86_64);
    FAIL("it was written");
  } catch (const chip::llvm_unsupported& e) {
    CHECK(e.op == opcode::atomic_max);
    CHECK(e.instruction == 2);
    CHECK(std::string(e.what()).find("atomic_max") != std::string::npos);
  }
  tile::program broken = stopping(opcode::require);
  broken.at(0).index = 3;
  CHECK_THROWS_AS(code::emit(std::array{broken}, chip::llvm_x86_64), tile::program_error);
}

TEST_CASE("chip/llvm: without tools one error says what to install") {
  const environment nowhere("ASHLAR_LLVM_BIN", "/nowhere");
  CHECK(code::find_tool("clang").empty());
  try {
    code::native_library(std::array{stopping(opcode::loop)}, chip::llvm_x86_64);
    FAIL("it was compiled");
  } catch (const chip::llvm_tool_error& e) {
    CHECK(e.tool == "clang");
    CHECK(std::string(e.what()).find("ASHLAR_LLVM_BIN") != std::string::npos);
  }
}

TEST_CASE("chip/llvm: a program that stops says where, and launches are checked") {
  using native = chip::llvm<chip::llvm_x86_64>;
  if constexpr (requires { typename native::codegen; }) {
    if (code::find_tool("clang").empty()) {
      MESSAGE("SKIPPED: no clang 14 to 19 in PATH or ASHLAR_LLVM_BIN");
      return;
    }
    auto& on = al::context<native>::current();
    const auto run = [&](opcode how, std::int64_t given) {
      native::codegen::run(on, stopping(how), {2, 1, 1}, std::array{tile::argument(given)});
    };
    run(opcode::require, 1);
    try {
      run(opcode::require, 0);
      FAIL("it ran");
    } catch (const tile::execution_error& e) {
      CHECK(e.number == 5);
      CHECK(e.instruction == 3);
    }
    run(opcode::loop, 3);
    CHECK_THROWS_AS(run(opcode::loop, 0), tile::execution_error);
    run(opcode::repeat, 0);
    CHECK_THROWS_AS(run(opcode::repeat, 1), tile::execution_error);
    CHECK_THROWS_AS(
        native::codegen::run(on, stopping(opcode::loop), {1, 1, 1}, std::array{tile::argument(1)}),
        tile::launch_error);
    CHECK_THROWS_AS(native::codegen::run(on, stopping(opcode::loop), {-1, 1, 1},
                                         std::array{tile::argument(std::int64_t{1})}),
                    tile::launch_error);
  }
}
