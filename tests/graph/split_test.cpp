// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <tuple>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/passes.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "support/random_graph.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using ashlar::testing::bits_of;

namespace {

/// Runs both halves one after the other. Returns: the outputs in the order of the joint graph.
std::vector<al::tensor_handle> run(const graph::split& two, std::size_t forward_outputs,
                                   std::span<const al::tensor_handle> arguments,
                                   std::span<const al::tensor_handle> backward_arguments = {}) {
  std::vector<al::tensor_handle> outputs = graph::eager{}.compile(two.forward)(arguments);
  std::vector<al::tensor_handle> given(
      outputs.begin() + static_cast<std::ptrdiff_t>(forward_outputs), outputs.end());
  given.insert(given.end(), backward_arguments.begin(), backward_arguments.end());
  outputs.resize(forward_outputs);
  const auto gradients = graph::eager{}.compile(two.backward)(std::span(std::as_const(given)));
  outputs.insert(outputs.end(), gradients.begin(), gradients.end());
  return outputs;
}

}  // namespace

TEST_CASE("graph/split_joint: two graphs make the bits of one, and save less than is read") {
  using recorded = graph::capturable<
      al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>, al::keys::autograd>>>;
  const auto step = [](const recorded& x, const recorded& w, const recorded& seed) {
    al::require_grad(w);
    const recorded h = al::matmul(x, w);
    const recorded y = al::square(al::scale(al::tanh(al::scale(h, 0.5)), 2.0));
    return std::tuple(y, std::get<0>(al::grad(y, seed, al::backward_options{}, w)));
  };
  const recorded x = al::randn<recorded>({5, 7}, 1);
  const recorded w = al::randn<recorded>({7, 11}, 2);
  const recorded seed = al::randn<recorded>({5, 11}, 3);
  const graph::graph joint =
      graph::dead_code(graph::functionalise(graph::capture(step, x, w, seed)));
  const graph::split two = graph::split_joint(joint, 1, 1);
  verify(two.forward);
  verify(two.backward);
  const std::vector<al::tensor_handle> given{x, w};
  const std::vector<al::tensor_handle> seeds{seed};
  const auto outputs = run(two, 1, given, seeds);
  const auto expected = graph::eager{}.compile(joint)(x, w, seed);
  REQUIRE(outputs.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(bits_of(outputs[i]) == bits_of(expected[i]));
  }
  // The product and its left factor: all between is computed again.
  CHECK(two.saved_bytes == 4 * (5 * 11 + 5 * 7));
  CHECK(two.read_bytes > two.saved_bytes);
  const auto none = [](const graph::node& n) { return n.op && n.op->view; };
  const graph::split all = graph::split_joint(joint, 1, 1, none);
  CHECK(all.saved_bytes == two.read_bytes);
  CHECK_THROWS_AS(static_cast<void>(graph::split_joint(joint, 1, 2)), graph::graph_error);
}

TEST_CASE("graph/split_joint: random graphs in two make the bits of one") {
  int saved_less = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    CAPTURE(seed);
    const al::testing::random_graph program(seed, {.calls = 20, .in_place = false});
    const graph::graph g = graph::dead_code(graph::functionalise(program.captured));
    const auto expected = program.run(g);
    const std::vector<al::tensor_handle> given = program.arguments();
    const graph::split two = graph::split_joint(g, 2);
    verify(two.forward);
    verify(two.backward);
    REQUIRE(program.look_at(run(two, 2, given), given) == expected);
    REQUIRE(two.saved_bytes <= two.read_bytes);
    saved_less += two.saved_bytes < two.read_bytes ? 1 : 0;
  }
  CHECK(saved_less > 20);
}

TEST_CASE("graph/split_joint: a graph that writes is refused") {
  using real =
      graph::capturable<al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>>;
  const graph::graph g = graph::capture(
      [](const real& x) {
        real y = al::neg(x);
        al::scale.in_place(y, 2.0);
        return std::tuple(y, al::neg(y));
      },
      al::ones<real>({3}));
  CHECK_THROWS_AS(static_cast<void>(graph::split_joint(g, 1)), graph::graph_error);
}
