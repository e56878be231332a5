// SPDX-License-Identifier: Apache-2.0
// Replays on the accelerator whose queues defer.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/chip/npu/queues.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using npu = al::chip::queued_npu<al::chip::npu_description{}>;
using real = al::tensor<float, al::make_key_set<al::keys::backend<npu>>>;

namespace {
real numbers(float first) {
  std::vector<float> x(6 * 50);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = first + static_cast<float>(i % 17) / 8;
  }
  return al::from_values<real>({6, 50}, x);
}
}  // namespace

TEST_CASE("graph/planned: on a queue, a replay enqueues launches and computes the same bits") {
  const real w = numbers(0.5F);
  const auto f = [&](const auto& x) {
    const auto a = al::mul(al::add(x, w), x);
    return std::tuple(al::sum(al::transpose(a, 0, 1), 1), al::sub(a, al::add(w, w)));
  };
  const real x = numbers(1);
  const graph::graph g = graph::capture(f, x);
  graph::replayed<npu> recorded(g);
  auto arranged = graph::planned<npu>{}.compile(g);
  static_cast<void>(recorded(x));
  for (const bool own_queue : {false, true}) {
    const npu::queue q = own_queue ? npu::queue::open() : npu::queue();
    const al::context<npu>::use_queue here(q);
    for (float first = 2; first < 5; ++first) {
      const real y = numbers(first);
      const auto [sums, rest] = f(y);
      const auto expected_sums = al::to_vector(sums);
      const auto expected = al::to_vector(rest);
      const real before(recorded.results()[1]);
      al::settle(before);
      const float old = *before.data();
      const auto results = recorded(y);
      CHECK(*real(results[1]).data() == old);  // nothing has happened yet
      CHECK(al::to_vector(real(results[0])) == expected_sums);
      CHECK(al::to_vector(real(results[1])) == expected);
      const auto again = arranged(y);
      CHECK(al::to_vector(real(again[0])) == expected_sums);
      CHECK(al::to_vector(real(again[1])) == expected);
    }
  }
}
