// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/npu.hpp"
#include "ashlar/ops/tile.hpp"
#include "conformance/halves.hpp"
#include "support/conformance.hpp"

TEST_CASE("conformance/npu: copies, reductions and layers conform") {
  using npu = ashlar::chip::npu<ashlar::chip::npu_description{}>;
  halves::check<npu, 1>({.print = false});
}
