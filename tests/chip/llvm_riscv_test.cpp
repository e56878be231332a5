// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "chip/llvm_emulator.hpp"
#include "chip/llvm_support.hpp"

namespace chip = ashlar::chip;
using llvm_test::launch;

TEST_CASE("chip/llvm: on RISC-V with vectors every operation gives the interpreter's bits") {
  if (!llvm_test::can_emulate()) {
    return;
  }
  std::vector<launch> vectors = llvm_test::long_random_launches(24, false);
  std::vector<launch> scalars;
  for (launch& l : llvm_test::kernel_launches()) {
    // QEMU before 8.1 stops at some conversions of vectors of doubles (its issue 1441).
    (l.name == "exact double" ? scalars : vectors).push_back(std::move(l));
  }
  llvm_test::check_emulated(vectors, chip::llvm_riscv64);
  llvm_test::check_emulated(scalars, chip::llvm_riscv64.with_vector_bytes(4));
}

TEST_CASE("chip/llvm: on RISC-V short random programs give the interpreter's bits") {
  if (!llvm_test::can_emulate()) {
    return;
  }
  for (int pack = 0; pack < random_programs::llvm_packs; ++pack) {
    llvm_test::check_emulated(llvm_test::random_launches(pack, false));
  }
}

TEST_CASE("chip/llvm: on RISC-V the C library's functions differ in the last places at most") {
  if (!llvm_test::can_emulate()) {
    return;
  }
  // Two C libraries that are within 1 ulp (2 for tanh and erf) each; softmax adds that of its sum
  // and of a quotient.
  const std::vector<launch> all = llvm_test::library_launches();
  const auto after = llvm_test::emulated(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    CHECK(llvm_test::distance(all[i], after[i], all[i].expected()) <= 4);
  }
}
