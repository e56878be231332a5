// SPDX-License-Identifier: Apache-2.0
// The first half of the operators on the simulated accelerator; the second is in
// npu_layers_test.cpp.
#include "ashlar/chip/npu.hpp"

#include "ashlar/ops/tile.hpp"
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

TEST_CASE("conformance/npu: elementwise operators and views conform") {
  using npu = ashlar::chip::npu<ashlar::chip::npu_description{}>;
  halves::check<npu, 0>({.print = false});
}
