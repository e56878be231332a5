// SPDX-License-Identifier: Apache-2.0
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

TEST_CASE(
    "conformance/host: copies, reductions and layers conform, with the same bits in all forms") {
  halves::check<ashlar::chip::host, 1>({.print = false, .same_bits = true});
}

#ifndef __clang__  // twenty seconds of a compiler, and what backends do is the same whoever it was
#include "conformance/compiled.hpp"

TEST_CASE("conformance/host: copies, reductions and layers have these bits as graphs, too") {
  compiled_samples::check<1>();
}
#endif
