// SPDX-License-Identifier: Apache-2.0
// `check_packs` compares every program and asserts (chip/random_host.hpp).
#include <doctest/doctest.h>

#include "chip/random_host.hpp"

TEST_CASE("chip/codegen: 10,000 random programs give the interpreter's bits") {
  random_programs::check_packs(random_programs::soak_packs);
}
