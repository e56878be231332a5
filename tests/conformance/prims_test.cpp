// SPDX-License-Identifier: Apache-2.0
#include "ops/core_chip.hpp"
#include "support/conformance.hpp"

TEST_CASE(
    "conformance/prims: a chip with kernels for the core set alone passes, with nothing missing") {
  namespace kit = ashlar::conformance;
  const kit::report r =
      kit::run<core_only::core_chip, kit::types<float>, ashlar::ops::all>({.print = false});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(kit::verdict::unsupported) == 0);
}
