// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/tile/elementwise.hpp"

namespace {

using namespace ashlar;
using npu = chip::npu<chip::npu_description{}>;
using host_tensor = tensor<float, make_key_set<keys::backend<chip::host>>>;

static_assert(RunsTiles<npu>);

}  // namespace

TEST_CASE("chip/npu: elementwise operators run on it as on any chip") {
  const auto x = arange<host_tensor>(1111, -20.0, 0.25);
  const auto y = relu(to<npu>(x));
  const auto there = to<chip::host>(sub(mul(y, y), y));
  const auto z = relu(x);
  const auto host = sub(mul(z, z), z);
  REQUIRE(there.size() == host.size());
  for (std::int64_t i = 0; i < host.size(); ++i) {
    REQUIRE(there.data()[i] == host.data()[i]);
  }
}
