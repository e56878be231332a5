// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>

#include "chip/llvm_emulator.hpp"
#include "chip/llvm_native.hpp"
#include "chip/llvm_support.hpp"

TEST_CASE("chip/llvm: 10,000 random programs give the interpreter's bits on this machine") {
  for (int pack = 0; pack < random_programs::soak_packs && llvm_test::can_compile(); ++pack) {
    llvm_test::check_native(llvm_test::random_launches(pack));
  }
}

TEST_CASE("chip/llvm: 10,000 random programs give the interpreter's bits on RISC-V") {
  std::size_t scalars = 0;
  for (int pack = 0; pack < random_programs::soak_packs && llvm_test::can_emulate(); ++pack) {
    scalars += llvm_test::check_emulated(llvm_test::random_launches(pack));
  }
  MESSAGE("without vectors: ", scalars);
  CHECK(10 * scalars <= random_programs::first_seed(random_programs::soak_packs));
}
