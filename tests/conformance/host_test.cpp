// SPDX-License-Identifier: Apache-2.0
// The first half of the operators on the host; the second is in host_layers_test.cpp.
#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

namespace {

namespace al = ashlar;
namespace kit = ashlar::conformance;
using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;

}  // namespace

// What the library promises of its own kernels and not of others: one form's bits are all forms'.
TEST_CASE(
    "conformance/host: elementwise operators and views conform, with the same bits in all forms") {
  const kit::report r = kit::run<stack, kit::types<float>, kit::part<al::ops::all, 0, 2>>(
      {.print = false, .same_bits = true});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(kit::verdict::unsupported) == 0);
}
