// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "ashlar/graph/capture.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using real = graph::capturable<al::tensor<float, host_keys>>;

namespace {

/// placeholder 0, parameter 1, mul 2, scale 3
graph::graph sample() {
  const real w = al::ones<real>({3});
  return graph::capture([&](const real& x) { return al::scale(al::mul(x, w), 2.0); }, w);
}
template <class F>
void check_refused(std::int32_t node, std::string_view words, const F& spoil) {
  graph::graph g = sample();
  verify(g);
  spoil(g);
  CAPTURE(words);
  try {
    verify(g);
    FAIL("it was not refused");
  } catch (const graph::graph_error& e) {
    CHECK(e.node == node);
    CHECK(e.rule.find(words) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("graph/verify: each rule has a graph that breaks it") {
  check_refused(2, "reads value 3", [](graph::graph& g) { g.nodes[2].in[0] = 3; });
  check_refused(2, "reads value 2", [](graph::graph& g) { g.nodes[2].in[1] = 2; });
  check_refused(2, "reads value 9", [](graph::graph& g) { g.nodes[2].in[0] = 9; });
  check_refused(2, "reads value -1", [](graph::graph& g) { g.nodes[2].in[0] = -1; });
  check_refused(1, "does not say that this node makes it",
                [](graph::graph& g) { g.nodes[1].out[0] = 2; });
  check_refused(1, "does not say that this node makes it",
                [](graph::graph& g) { g.values[1].place = 1; });
  check_refused(0, "does not say that this node makes it",
                [](graph::graph& g) { g.nodes[0].out[0] = 7; });
  check_refused(1, "what is no call has one result", [](graph::graph& g) { g.nodes[1].in = {0}; });
  check_refused(0, "what is no call has one result",
                [](graph::graph& g) { g.nodes[0].op = g.nodes[2].op; });
  check_refused(0, "a placeholder has no tensor",
                [](graph::graph& g) { g.nodes[0].data = g.nodes[1].data; });
  check_refused(1, "a parameter or constant has its tensor",
                [](graph::graph& g) { g.nodes[1].data = {}; });
  check_refused(2, "a call has an operation", [](graph::graph& g) { g.nodes[2].op = {}; });
  check_refused(2, "another number of arguments", [](graph::graph& g) { g.nodes[2].in = {0}; });
  check_refused(3, "another number of arguments, attributes",
                [](graph::graph& g) { g.nodes[3].attributes.pop_back(); });
  check_refused(3, "another number of arguments, attributes or results",
                [](graph::graph& g) { g.nodes[3].out.clear(); });
  check_refused(2, "argument 1 of mul is int32, not float32",
                [](graph::graph& g) { g.values[1].spec.type = al::dtype::int32; });
  check_refused(3, "attribute 1 of scale is of another kind",
                [](graph::graph& g) { g.nodes[3].attributes[1] = graph::attribute(true); });
  check_refused(3, "its meta says", [](graph::graph& g) {
    g.values[3].spec = al::contiguous_spec(al::dtype::float32, al::shape{4}.span());
  });
  check_refused(2, "its meta says",
                [](graph::graph& g) { g.values[2].spec.type = al::dtype::float64; });
  check_refused(-1, "values that no node makes",
                [](graph::graph& g) { g.values.push_back(g.values[0]); });
  check_refused(-1, "output 4 is no value", [](graph::graph& g) { g.outputs[0] = 4; });
  check_refused(-1, "output -1 is no value", [](graph::graph& g) { g.outputs[0] = -1; });
}

TEST_CASE("graph/attribute: real numbers are equal where their bits are") {
  CHECK(graph::attribute(0.0) == graph::attribute(0.0));
  CHECK(graph::attribute(0.0) != graph::attribute(-0.0));
  CHECK(graph::attribute(1.0) != graph::attribute(1));
  CHECK(graph::attribute(true) != graph::attribute(1));
  CHECK_THROWS_AS(static_cast<void>(graph::attribute(1).as<bool>()), graph::attribute_error);
}
