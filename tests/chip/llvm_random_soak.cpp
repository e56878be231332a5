// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "chip/llvm_emulator.hpp"
#include "chip/llvm_native.hpp"
#include "chip/llvm_support.hpp"

TEST_CASE("chip/llvm: 10,000 random programs give the interpreter's bits on this machine") {
  for (int pack = 0; pack < 200 && llvm_test::can_compile(); ++pack) {
    llvm_test::check_native(llvm_test::random_launches(pack, true));
  }
}

TEST_CASE("chip/llvm: 10,000 random programs give the interpreter's bits on RISC-V") {
  for (int pack = 0; pack < 200 && llvm_test::can_emulate(); ++pack) {
    llvm_test::check_emulated(llvm_test::random_launches(pack, false));
  }
}
