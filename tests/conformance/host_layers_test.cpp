// SPDX-License-Identifier: Apache-2.0
#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

namespace {

namespace al = ashlar;
namespace kit = ashlar::conformance;
using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;

}  // namespace

TEST_CASE(
    "conformance/host: copies, reductions and layers conform, with the same bits in all forms") {
  const kit::report r = kit::run<stack, kit::types<float>, kit::part<al::ops::all, 1, 2>>(
      {.print = false, .same_bits = true});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(kit::verdict::unsupported) == 0);
}
