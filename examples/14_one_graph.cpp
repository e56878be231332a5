// SPDX-License-Identifier: Apache-2.0
// One graph for all lengths, the reasons of each compile, an arena, and a replay.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;
using real = al::tensor<float, al::make_key_set<al::keys::backend<host>>>;

namespace {

/// Ends the program where something is not as said.
void require(bool holds, const char* what) {
  if (!holds) {
    std::printf("not so: %s\n", what);
    std::exit(1);
  }
}

}  // namespace

int main() {
  const real weight = al::randn<real>({8, 8}, 1);
  const auto model = [&](const auto& x) {  // (T, 8)
    const auto scores = al::softmax(al::matmul(al::matmul(x, weight), al::transpose(x, 0, 1)));
    return al::mean(al::matmul(scores, x), 0);
  };

  graph::compile_options options;
  options.sizes = {graph::dim("T", 2, 2048).of(0, 0)};  // axis 0 of the first tensor
  options.log = [](std::string_view why) {
    std::printf("%.*s\n", static_cast<int>(why.size()), why.data());
  };
  auto compiled = graph::compile(model, graph::planned<host>{}, options);
  for (const std::int64_t length : {16, 2, 100, 2048}) {
    const real x = al::randn<real>({length, 8}, 2);
    require(al::to_vector(compiled(x)) == al::to_vector(model(x)), "the bits are the model's own");
  }
  require(compiled.statistics().compiled == 1, "one graph serves all lengths");

  const real x = al::randn<real>({64, 8}, 3);
  graph::replayed<host> recorded(graph::capture(model, x));
  const auto results = recorded(x);
  require(al::to_vector(real(results[0])) == al::to_vector(model(x)), "a replay has the same bits");
  std::printf("%zu launches in an arena of %lld bytes, %.2f of the bound\n", recorded.launches(),
              static_cast<long long>(recorded.plan().layout.bytes), recorded.plan().layout.ratio());
}
