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
  std::vector<launch> all = llvm_test::long_random_launches(24, true);
  for (launch& l : llvm_test::kernel_launches()) {
    all.push_back(std::move(l));
  }
  const std::size_t scalars = llvm_test::check_emulated(all);
  MESSAGE(all.size(), " programs, of which without vectors: ", scalars);
  CHECK(10 * scalars <= all.size());
}

TEST_CASE("chip/llvm: on RISC-V 300 random programs give the interpreter's bits") {
  if (!llvm_test::can_emulate()) {
    return;
  }
  constexpr int packs = random_programs::llvm_packs;
  std::size_t scalars = 0;
  for (int pack = 0; pack < packs; ++pack) {
    scalars += llvm_test::check_emulated(llvm_test::random_launches(pack));
  }
  MESSAGE("seeds 0 to ", random_programs::first_seed(packs) - 1,
          ", of which without vectors: ", scalars);
  CHECK(10 * scalars <= random_programs::first_seed(packs));
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
