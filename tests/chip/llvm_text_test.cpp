// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/tile/builder.hpp"
#include "chip/llvm_ptx.hpp"
#include "chip/llvm_support.hpp"

namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace code = ashlar::chip::llvm_codegen;
namespace tile = ashlar::tile;
using al::dtype;
using llvm_test::compiled_to_ptx;
using llvm_test::launch;
using llvm_test::nvptx_compilers;
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

/// y(i) = x(i + Shift)
template <int Shift>
struct shifted {
  static constexpr auto name = "shifted";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto i = k.program_id(0) * 256;
    tile::store(y, tile::load<256>(x, i + Shift), i);
  }
};

/// Rows by number: neighbours, or every other element of each.
template <int Step>
struct picked_rows {
  static constexpr auto name = "picked_rows";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::in<std::int64_t, 1> rows,
                            tile::out<float, 2> y) const {
    using places = tile::tile<std::int64_t, 4, 64>;
    const auto i = k.program_id(0) * 4;
    const auto j = k.program_id(1) * 64;
    const auto row = tile::broadcast<places>(tile::reshape<4, 1>(tile::load<4>(rows, i)));
    const auto column = tile::broadcast<places>((k.iota<std::int64_t, 1, 1, 64>() + j) * Step);
    tile::store(y, tile::gather<4, 64>(x, row, column), i, j);
  }
};

/// A sum, each step of which is a loop.
struct sum_by_loops {
  static constexpr auto name = "sum_by_loops";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto step = [&](auto a, auto b) {
      return k.loop(
          0, 2, 1, [&](tile::index, auto sum) { return sum + b; }, a);
    };
    tile::store(y, tile::reduce<0>(step, tile::load<32>(x, 0)), 0);
  }
};

std::string text_of(const tile::program& p, const chip::llvm_target& target) {
  return code::emit(std::array{code::optimised(p)}, target).text;
}
bool has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

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

/// Passes remove what nobody reads before the second `require`.
tile::program with_dead_code() {
  tile::builder b("with_dead_code");
  const int n = b.add_parameter({dtype::int64, -1, false});
  const value_id given = b.emit({.op = opcode::argument, .index = n, .type = tile::index_type});
  b.emit({.op = opcode::require, .index = 5}, {b.binary(opcode::less, b.index(-9), given)});
  b.binary(opcode::mul, given, b.index(3));
  b.binary(opcode::sub, given, b.index(4));
  b.emit({.op = opcode::require, .index = 5}, {b.binary(opcode::less, b.index(0), given)});
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

TEST_CASE("chip/llvm: what is written passes the verifier of every LLVM for every target") {
  const std::vector<std::string> verifiers = code::find_tools("opt");
  if (verifiers.empty()) {
    MESSAGE("SKIPPED: no opt 14 to 19 in PATH or ASHLAR_LLVM_BIN");
    return;
  }
  for (const char* version : {"opt-14", "opt-19"}) {  // the oldest and the newest
    if (code::find_program(version).empty()) {
      MESSAGE("SKIPPED: no " << version);
    }
  }
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
    for (const std::string& opt : verifiers) {
      CAPTURE(opt);
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
}

TEST_CASE("chip/llvm: a kernel may have the name of what its module brings with it") {
  const std::string opt = code::find_tool("opt");
  if (opt.empty()) {
    MESSAGE("SKIPPED: no opt 14 to 19 in PATH or ASHLAR_LLVM_BIN");
    return;
  }
  const code::temporary_folder folder;
  for (const char* name : {"exp", "expf", "log", "logf", "tanh", "erf", "shared", "print",
                           "print_to", "_exp", "__ashlar_exp"}) {
    CAPTURE(name);
    tile::builder b(name);
    const int out = b.add_parameter({dtype::float64, 1, true});
    const value_id x = b.constant(dtype::float64, 0.5);
    const value_id y = b.cast(b.constant(dtype::float32, 0.5F), dtype::float64);
    value_id sum = b.binary(opcode::add, x, y);
    for (const opcode op : {opcode::exp, opcode::log, opcode::tanh, opcode::erf}) {
      sum = b.binary(opcode::add, sum, b.unary(op, x));
      sum = b.binary(opcode::add, sum,
                     b.cast(b.unary(op, b.cast(y, dtype::float32)), dtype::float64));
    }
    b.emit({.op = opcode::print}, {sum});
    tile::tile_type one = tile::scalar_type(dtype::float64);
    one.rank = 1;
    one.extents[0] = 1;
    b.emit({.op = opcode::store, .index = out}, {b.broadcast(sum, one), b.index(0)});
    const tile::program program = b.finish();
    for (const chip::llvm_target& target : {chip::llvm_x86_64, chip::llvm_nvptx64}) {
      CAPTURE(target.triple());
      code::write_file(folder / "module.ll", code::emit(std::array{program}, target).text);
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
}

TEST_CASE("chip/llvm: an access takes as many elements as its place and its view allow") {
  const chip::llvm_target x86 = chip::llvm_x86_64;
  const std::string plain = text_of(tile::program_of<shifted<0>>, x86);
  CHECK(has(plain, "load p0: 16 at once, align 4\n"));
  CHECK(has(plain, "load <16 x float>, ptr %"));
  CHECK(has(text_of(tile::program_of<shifted<0>>, x86.with_vector_bytes(16)),
            "load p0: 4 at once, align 4\n"));

  const auto promised = [&]<int Shift>(std::integral_constant<int, Shift>, std::string_view align) {
    const std::string text = text_of(tile::program_of<shifted<Shift>>, x86.with_view_alignment(64));
    CAPTURE(text);
    CHECK(has(text, code::cat("load p0: 16 at once, align ", align, "\n")));
    CHECK(has(text, "store p1: 16 at once, align 64\n"));
  };
  promised(std::integral_constant<int, 0>(), "64");
  promised(std::integral_constant<int, 1>(), "4");
  promised(std::integral_constant<int, 4>(), "16");
  promised(std::integral_constant<int, 40>(), "32");
  // Multiples of 24 are multiples of 8, not of 16.
  CHECK(has(text_of(tile::program_of<shifted<0>>, x86.with_view_alignment(24)),
            "load p0: 16 at once, align 8\n"));

  CHECK(has(text_of(tile::program_of<picked_rows<1>>, x86), "gather p0: 16 at once, align 4\n"));
  CHECK(!has(text_of(tile::program_of<picked_rows<2>>, x86), "gather p0"));
}

TEST_CASE("chip/llvm: launches on views that are not aligned as promised are refused") {
  const std::vector<float> x(64);
  const auto check = [&](const float* first, std::int64_t stride, std::int64_t step,
                         std::array<std::int64_t, 2> extents = {2, 3}) {
    code::expect_aligned(
        chip::llvm_x86_64.with_view_alignment(16),
        std::array{tile::argument(first, extents, std::array<std::int64_t, 2>{stride, step})});
  };
  const auto* aligned = x.data() + (16 - reinterpret_cast<std::uintptr_t>(x.data()) % 16) % 16 / 4;
  CHECK_NOTHROW(check(aligned, 4, 1));
  CHECK_THROWS_AS(check(aligned + 1, 4, 1), tile::launch_error);
  CHECK_THROWS_AS(check(aligned, 5, 1), tile::launch_error);
  CHECK_THROWS_AS(check(aligned, 8, 2), tile::launch_error);
  CHECK_NOTHROW(check(aligned + 32, -8, 1));
  CHECK_THROWS_AS(check(aligned + 32, -5, 1), tile::launch_error);
  CHECK_THROWS_AS(check(aligned + 32, 4, -1), tile::launch_error);
  CHECK_NOTHROW(check(aligned, 0, 1));
  CHECK_THROWS_AS(check(aligned, 4, 0), tile::launch_error);
  // Strides of one element lead nowhere; of an empty view nothing is reached.
  CHECK_NOTHROW(check(aligned, 5, 1, {1, 3}));
  CHECK_NOTHROW(check(aligned, 4, 7, {2, 1}));
  CHECK_THROWS_AS(check(aligned + 1, 5, 7, {1, 1}), tile::launch_error);
  CHECK_NOTHROW(check(aligned + 1, 5, 2, {2, 0}));
  CHECK_NOTHROW(check(nullptr, 5, 2, {0, 3}));
}

TEST_CASE("chip/llvm: threads load and store four floats at once where views are aligned") {
  const std::vector<std::string> compilers = nvptx_compilers();
  if (compilers.empty()) {
    return;
  }
  const auto ptx = [&](const chip::llvm_target& target) {
    const code::temporary_folder folder;
    code::write_file(folder / "module.ll", text_of(tile::program_of<shifted<1024>>, target));
    return compiled_to_ptx(compilers.front(), folder);
  };
  CHECK(!has(ptx(chip::llvm_nvptx64), ".v4.f32"));
  const std::string four = ptx(chip::llvm_nvptx64.with_view_alignment(16));
  CHECK(has(four, "ld.global.v4.f32"));
  CHECK(has(four, "st.global.v4.f32"));
}

TEST_CASE("chip/llvm: an elementwise kernel becomes PTX") {
  const std::vector<std::string> compilers = nvptx_compilers();
  if (compilers.empty()) {
    return;
  }
  const chip::llvm_module m = chip::llvm<chip::llvm_nvptx64>::emit(tile::program_of<scaled>);
  CHECK(m.functions[0].shared_bytes == 0);  // its tiles are in registers
  const code::temporary_folder folder;
  code::write_file(folder / "module.ll", m.text);
  const std::string ptx = compiled_to_ptx(compilers.front(), folder);
  CHECK(has(ptx, ".visible .entry ashlar_scaled("));
  CHECK(has(ptx, "__ashlar_expf"));
  CHECK(has(ptx, ".reqntid " + std::to_string(m.functions[0].threads) + ","));
  CHECK(!has(ptx, ".extern .func"));  // nothing to link with
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
  // Threads of a team combine element by element; elsewhere a step may be anything.
  const tile::program loops = tile::trace<sum_by_loops>();
  CHECK_NOTHROW(code::emit(std::array{loops}, chip::llvm_x86_64));
  try {
    code::emit(std::array{loops}, chip::llvm_nvptx64);
    FAIL("it was written");
  } catch (const chip::llvm_unsupported& e) {
    CHECK(e.op == opcode::reduce);
    CHECK(loops.at(e.instruction).op == opcode::reduce);
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
    const tile::program longer = with_dead_code();
    REQUIRE(code::optimised(longer).size < longer.size);
    try {
      native::codegen::run(on, longer, {1, 1, 1}, std::array{tile::argument(std::int64_t{0})});
      FAIL("it ran");
    } catch (const tile::execution_error& e) {
      CHECK(e.number == 5);
      CHECK(e.instruction == longer.size - 1);  // where the program as written has it
      CHECK(e.reason == tile::execution_error::requirement);
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
