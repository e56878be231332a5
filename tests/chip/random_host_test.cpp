// SPDX-License-Identifier: Apache-2.0
#include "chip/random_host.hpp"

#include <doctest/doctest.h>

// CMake writes the source files of the programs: see `ashlar_add_random_packs`.
TEST_CASE("chip/codegen: 300 random programs give the interpreter's bits") {
  random_programs::check_packs(random_programs::pack_count);
}
