// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include "laws/faults.hpp"

TEST_CASE("comm/simulate: 100000 random collectives with random faults end, and say why") {
  for (std::uint64_t seed = 0; seed < 100000; ++seed) {
    CAPTURE(seed);
    REQUIRE(ashlar::laws::broken_fault_law(seed) == "");
  }
}
