// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/llvm/module.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/chip/source/emit.hpp"
#include "support/tile_random.hpp"

namespace al = ashlar;
namespace source = al::chip::source;
namespace tools = al::chip::llvm_codegen;
namespace tile = al::tile;
using tile::opcode;

namespace {

/// The host's functions, but for those that emitted source takes from the C library.
struct source_math : al::chip::host_codegen::host_math {
  template <std::floating_point T>
  static T log(T x) {
    return std::log(x);
  }
  template <std::floating_point T>
  static T erf(T x) {
    if constexpr (std::same_as<T, double>) {
      return std::erf(x);
    } else {
      return al::chip::host_codegen::host_math::erf(x);
    }
  }
};

constexpr tile_test::random_options options{.random = false, .moves = 10};

struct pack {
  std::vector<std::uint64_t> seeds{};
  std::vector<source::function> functions{};
};

/// The first programs by chance that have a source.
pack random_pack(std::size_t count) {
  pack all;
  for (std::uint64_t seed = 0; all.seeds.size() < count; ++seed) {
    const source::function one{tile_test::random_program(seed, options),
                               "random_" + std::to_string(seed)};
    try {
      static_cast<void>(source::emit({&one, 1}));
    } catch (const source::unsupported&) {
      continue;
    }
    all.seeds.push_back(seed);
    all.functions.push_back(one);
  }
  return all;
}

struct close {
  void operator()(void* library) const { ::dlclose(library); }
};
using library = std::unique_ptr<void, close>;

library compile(const std::string& compiler, const std::string& text) {
  const tools::temporary_folder folder;
  tools::write_file(folder / "code.cpp", text);
  std::vector<std::string> command{compiler,  "-std=c++20",        "-O1",     "-ffp-contract=off",
                                   "-Wall",   "-Wextra",           "-Werror", "-fPIC",
                                   "-shared", folder / "code.cpp", "-o",      folder / "code.so"};
  if (al::simd::fused_madd) {
    command.emplace_back("-march=native");
  }
  const tools::run_result r = tools::run_program(command);
  CHECK_MESSAGE(r.status == 0, r.output.substr(0, 3000));
  return library(::dlopen((folder / "code.so").c_str(), RTLD_NOW | RTLD_LOCAL));
}

using emitted = void (*)(const al::chip::llvm_argument*, std::int64_t, std::int64_t, std::int64_t);

void check_with(const std::string& compiler, const pack& programs) {
  CAPTURE(compiler);
  const library code = compile(compiler, source::emit(programs.functions));
  REQUIRE(code != nullptr);
  for (std::size_t k = 0; k < programs.seeds.size(); ++k) {
    const std::uint64_t seed = programs.seeds[k];
    CAPTURE(seed);
    const tile::program& p = programs.functions[k].program;
    void* const symbol = ::dlsym(code.get(), programs.functions[k].name.c_str());
    REQUIRE(symbol != nullptr);
    tile_test::random_launch launch(p, seed);
    const auto given = launch.arguments();
    const std::vector<al::chip::llvm_argument> arguments(given.begin(), given.end());
    reinterpret_cast<emitted>(symbol)(arguments.data(), launch.size[0], launch.size[1],
                                      launch.size[2]);
    const auto expected = tile_test::interpreted<source_math>(p, seed);
    CHECK(tile_test::difference(p, expected, launch.buffers) == "");
  }
}

}  // namespace

TEST_CASE("chip/source: random programs as C++ compile alone and give the interpreter's bits") {
  const pack programs = random_pack(60);
  std::array<bool, tile::opcode_count> seen{};
  for (const source::function& f : programs.functions) {
    for (int i = 0; i < f.program.size; ++i) {
      seen[static_cast<std::size_t>(f.program.at(i).op)] = true;
    }
  }
  for (const opcode op :
       {opcode::load, opcode::store, opcode::gather, opcode::exp, opcode::tanh, opcode::erf,
        opcode::sigmoid, opcode::rsqrt, opcode::cast, opcode::select, opcode::fma,
        opcode::broadcast, opcode::reshape, opcode::transpose, opcode::dot, opcode::reduce,
        opcode::scan, opcode::loop, opcode::branch}) {
    CAPTURE(tile::info(op).name);
    CHECK(seen[static_cast<std::size_t>(op)]);
  }
  const std::string gnu = tools::find_program("g++");
  const std::string clang = tools::find_tool("clang++");
  CHECK(!(gnu.empty() && clang.empty()));
  for (const std::string& compiler : {gnu, clang}) {
    if (!compiler.empty()) {
      check_with(compiler, programs);
    }
  }
}

TEST_CASE("chip/source: what has no source is an error that names the operation") {
  tile::builder b("draws");
  const int y = b.add_parameter({al::dtype::int32, 1, true});
  const tile::value_id zero = b.index(0);
  const tile::tile_type places{al::dtype::int64, {4}};
  const tile::value_id at = b.emit({.op = opcode::iota, .index = 0, .type = places});
  const tile::value_id bits =
      b.emit({.op = opcode::random_bits, .type = places.with(al::dtype::int32)}, {zero, at});
  b.emit({.op = opcode::store, .index = y}, {bits, zero});
  const source::function one{b.finish(), "draws"};
  try {
    static_cast<void>(source::emit({&one, 1}));
    FAIL("there is a source");
  } catch (const source::unsupported& e) {
    CHECK(e.op == opcode::random_bits);
  }
}
