// SPDX-License-Identifier: Apache-2.0
#include "conformance/compiled.hpp"
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

TEST_CASE(
    "conformance/host: copies, reductions and layers conform, with the same bits in all forms") {
  halves::check<ashlar::chip::host, 1>({.print = false, .same_bits = true});
}
TEST_CASE("conformance/host: copies, reductions and layers have these bits as graphs, too") {
  compiled_samples::check<1>();
}
