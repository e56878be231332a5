// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/tile/elementwise.hpp"

namespace {

using namespace ashlar;
using host_tensor = tensor<float, make_key_set<keys::backend<chip::host>>>;

auto on_llvm(const host_tensor& x) {
  using native = chip::llvm<chip::llvm_x86_64>;
  const auto y = relu(to<native>(x));
  return to<chip::host>(sub(mul(y, y), y));
}

}  // namespace

TEST_CASE("chip/llvm: elementwise operators run on it as on any chip") {
  if constexpr (RunsTiles<chip::llvm<chip::llvm_x86_64>>) {
    if (chip::llvm_codegen::find_tool("clang").empty()) {
      MESSAGE("SKIPPED: no clang 14 to 19 in PATH or ASHLAR_LLVM_BIN");
      return;
    }
    const auto x = arange<host_tensor>(300, -20.0, 0.25);
    const auto there = on_llvm(x);
    const auto y = relu(x);
    const auto host = sub(mul(y, y), y);
    REQUIRE(there.size() == host.size());
    for (std::int64_t i = 0; i < host.size(); ++i) {
      REQUIRE(there.data()[i] == host.data()[i]);
    }
  }
}
