// SPDX-License-Identifier: Apache-2.0
// The first half of the operators on the host; the second is in host_layers_test.cpp.
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

// What the library promises of its own kernels and not of others: one form's bits are all forms'.
TEST_CASE(
    "conformance/host: elementwise operators and views conform, with the same bits in all forms") {
  halves::check<ashlar::chip::host, 0>({.print = false, .same_bits = true});
}

#ifndef __clang__  // twenty seconds of a compiler, and what backends do is the same whoever it was
#include "conformance/compiled.hpp"

TEST_CASE("conformance/host: elementwise operators and views have these bits as graphs, too") {
  compiled_samples::check<0>();
}
#endif
