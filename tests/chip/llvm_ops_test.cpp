// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/llvm.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/tiles.hpp"
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

TEST_CASE("graph/tiles: a captured graph as one kernel that LLVM compiles has the calls' bits") {
  using native = chip::llvm<chip::llvm_x86_64>;
  if constexpr (RunsTiles<native>) {
    if (chip::llvm_codegen::find_tool("clang").empty()) {
      MESSAGE("SKIPPED: no clang 14 to 19 in PATH or ASHLAR_LLVM_BIN");
      return;
    }
    using there = tensor<float, make_key_set<keys::backend<native>>>;
    const auto f = [](const auto& x, const auto& w) {
      const auto y = relu(x);
      return sub(mul(mul(y, w), y), w);
    };
    std::vector<float> elements(7 * 37), weights(37);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      elements[i] = static_cast<float>(i * 29 % 101) * 0.125f - 5.0f;
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = static_cast<float>(i % 5) - 1.5f;
    }
    const there x = from_values<there>({7, 37}, elements);
    const there w = from_values<there>({37}, weights);
    auto compiled = graph::tiles<native>{}.compile(graph::capture(f, x, w));
    CHECK(compiled.kernels().size() == 1);
    CHECK(compiled.unfused().empty());
    const std::vector<float> eager = to_vector(f(x, w));
    CHECK(eager.size() == elements.size());
    for (int time = 0; time < 2; ++time) {
      CHECK(to_vector(there(compiled(x, w)[0])) == eager);
    }
  }
}
