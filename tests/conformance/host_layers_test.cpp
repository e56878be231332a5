// SPDX-License-Identifier: Apache-2.0
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

TEST_CASE(
    "conformance/host: copies, reductions and layers conform, with the same bits in all forms") {
  halves::check<ashlar::chip::host, 1>({.print = false, .same_bits = true});
}
