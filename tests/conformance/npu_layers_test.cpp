// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/npu.hpp"
#include "ashlar/ops/tile.hpp"
#include "ashlar/stack.hpp"
#include "support/conformance.hpp"

namespace {

namespace al = ashlar;
namespace kit = ashlar::conformance;
using stack = al::stack<al::on<al::chip::npu<al::chip::npu_description{}>>,
                        al::differentiate<al::autograd::tape<>>>;

}  // namespace

TEST_CASE("conformance/npu: copies, reductions and layers conform") {
  const kit::report r =
      kit::run<stack, kit::types<float>, kit::part<al::ops::all, 1, 2>>({.print = false});
  CHECK_MESSAGE(r.ok(), r.text());
  CHECK(r.count(kit::verdict::unsupported) == 0);
}
