// SPDX-License-Identifier: Apache-2.0
#include "chip/llvm_native.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/type.hpp"
#include "chip/llvm_support.hpp"
#include "support/tile_kernels.hpp"

namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace tile = ashlar::tile;
using llvm_test::can_compile;
using llvm_test::check_native;
using llvm_test::launch;

static_assert(!al::RunsTiles<chip::llvm<"sparc-unknown-none">>);

}  // namespace

TEST_CASE("chip/llvm: kernels compiled for this machine give the interpreter's bits") {
  if (!can_compile()) {
    return;
  }
  std::vector<launch> all = llvm_test::kernel_launches();
  for (launch& l : llvm_test::library_launches()) {
    all.push_back(std::move(l));
  }
  check_native(all);
}

TEST_CASE("chip/llvm: random programs with every operation give the interpreter's bits") {
  if (!can_compile()) {
    return;
  }
  std::vector<launch> all = llvm_test::long_random_launches(48, true);
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
  check_native(all);
}

TEST_CASE("chip/llvm: 300 random programs give the interpreter's bits on this machine") {
  if (!can_compile()) {
    return;
  }
  MESSAGE("seeds 0 to ", random_programs::first_seed(random_programs::llvm_packs) - 1);
  for (int pack = 0; pack < random_programs::llvm_packs; ++pack) {
    check_native(llvm_test::random_launches(pack));
  }
}

TEST_CASE("chip/llvm: print writes what the interpreter does, once somebody listens") {
  if (!can_compile()) {
    return;
  }
  tile::builder b("print");  // a name that nothing else in the module may have
  const tile::value_id place = b.emit({.op = tile::opcode::program_id, .type = tile::index_type});
  const tile::value_id third = b.emit({.op = tile::opcode::constant,
                                       .value = tile::constant_bits(al::bfloat16(0.1F)),
                                       .type = tile::scalar_type(al::dtype::bfloat16)});
  tile::tile_type pair = tile::scalar_type(al::dtype::bfloat16);
  pair.rank = 1;
  pair.extents[0] = 2;
  b.emit({.op = tile::opcode::print, .index = 3},
         {b.emit({.op = tile::opcode::broadcast, .type = pair}, {third})});
  b.emit({.op = tile::opcode::print}, {place});
  b.emit({.op = tile::opcode::print}, {b.binary(tile::opcode::equal, place, b.index(0))});
  const tile::program speaking = b.finish();
  const tile::grid size{2, 1, 1};
  std::ostringstream wanted;
  tile::interpret(speaking, size, {}, {.out = &wanted});
  CHECK(wanted.str().find("print 3 (1, 0, 0): bf16[2] {") != std::string::npos);

  chip::llvm_codegen::native_library library(std::array{speaking}, chip::llvm_x86_64);
  chip::thread_limit one(1);  // the interpreter's order
  library.run(0, size, {});
  std::ostringstream heard;
  library.print_to(&heard);
  library.run(0, size, {});
  CHECK(heard.str() == wanted.str());
  library.print_to(nullptr);
  library.run(0, size, {});
  CHECK(heard.str() == wanted.str());
}

TEST_CASE("chip/llvm: vectors, stack and aligned views do not change a bit") {
  if (!can_compile()) {
    return;
  }
  const std::vector<launch> all = llvm_test::long_random_launches(8, true);
  chip::llvm_target narrow = chip::llvm_x86_64.with_vector_bytes(16);
  narrow.stack_bytes = 256;  // the rest is scratch memory
  check_native(all, narrow);
  check_native(all, chip::llvm_x86_64.with_vector_bytes(4));
  std::vector<launch> promised;
  for (const launch& l : all) {
    promised.push_back(llvm_test::aligned(l, 16));
  }
  for (const launch& l : llvm_test::kernel_launches()) {
    promised.push_back(llvm_test::aligned(l, 16));
  }
  check_native(promised, chip::llvm_x86_64.with_view_alignment(16));
}

TEST_CASE("chip/llvm: threads that want the same places lose nothing") {
  if (!can_compile()) {
    return;
  }
  using kernel = tile_kernels::contended<std::int32_t, 8>;
  const std::vector<launch> all{
      llvm_test::launch_maker("contended", tile::program_of<kernel>, {4001, 1, 1})
          .add(llvm_test::random_view<std::int32_t>{{32000}, {}, -1000, 1000})
          .add(llvm_test::random_view<std::int64_t>{{32005}, {}, -1, 4})
          .add(llvm_test::random_view<std::int32_t>{{3, 5}, {}, -9, 9})
          .done()};
  const llvm_test::programs programs(all, true);
  const chip::llvm_codegen::native_library code(programs.code, chip::llvm_x86_64, "-O1");
  const chip::thread_limit limit(4);
  for (int round = 0; round < 3; ++round) {
    auto memory = all[0].memory;
    code.run(programs.of[0], all[0].size, all[0].arguments(memory));
    CHECK(memory == all[0].expected());
  }
}
