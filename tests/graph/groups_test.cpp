// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/passes.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/reduction.hpp"
#include "support/random_graph.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using real = graph::capturable<al::tensor<float, host_keys>>;

namespace {

const graph::graph& body_of(const graph::node& n) {
  return dynamic_cast<const graph::subgraph&>(*n.op).body();
}
bool is_elementwise(const graph::node& n) { return n.op->elementwise; }

/// The places of nodes from which there is a way to node `to` with something in between.
std::vector<bool> before_others(const graph::graph& g, std::int32_t to) {
  const auto before = graph::dependencies(g);
  std::vector<bool> marked(g.nodes.size());
  for (const std::int32_t next : before[static_cast<std::size_t>(to)]) {
    std::vector<std::int32_t> ahead = before[static_cast<std::size_t>(next)];
    while (!ahead.empty()) {
      const std::int32_t i = ahead.back();
      ahead.pop_back();
      if (!marked[static_cast<std::size_t>(i)]) {
        marked[static_cast<std::size_t>(i)] = true;
        const auto& more = before[static_cast<std::size_t>(i)];
        ahead.insert(ahead.end(), more.begin(), more.end());
      }
    }
  }
  return marked;
}
std::vector<std::string_view> names(const graph::graph& g) {
  std::vector<std::string_view> all;
  for (const graph::node& n : g.nodes) {
    if (n.op) {
      all.push_back(n.op->name);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("graph/partition: supported calls are gathered around what is not") {
  const real w = al::ones<real>({3});
  const auto f = [&](const real& x) {
    const real a = al::neg(al::mul(x, w));
    const real s = al::sum(a, 0, true);  // not supported
    const real b = al::relu(x);          // beside it
    const real c = al::add(a, b);
    const real d = al::square(s);
    return std::tuple(al::add(d, c), b);
  };
  const real x = al::arange<real>(3);
  const graph::graph g = graph::capture(f, x);
  const graph::partitioned now = graph::partition(g, is_elementwise);
  verify(now.result);
  REQUIRE(now.subgraphs.size() == 2);
  CHECK(now.unsupported.size() == 1);
  CHECK(
      graph::is_call_of<al::ops::sum>(g.nodes[static_cast<std::size_t>(now.unsupported.front())]));
  const auto group = [&](std::size_t i) -> const graph::graph& {
    return body_of(now.result.nodes[static_cast<std::size_t>(now.subgraphs[i])]);
  };
  CHECK(names(group(0)) == std::vector<std::string_view>{"mul", "neg", "relu", "add"});
  CHECK(group(0).made_by(graph::node_kind::parameter).size() == 1);
  CHECK(names(group(1)) == std::vector<std::string_view>{"square", "add"});
  const auto y = graph::eager{}.compile(now.result)(x);
  CHECK(al::to_vector(real(y[0])) == al::to_vector(std::get<0>(f(x))));
  CHECK(al::to_vector(real(y[1])) == al::to_vector(std::get<1>(f(x))));
  CHECK(names(graph::inline_subgraphs(now.result)) ==
        std::vector<std::string_view>{"mul", "neg", "relu", "add", "sum", "square", "add"});
  // A subgraph is for the shapes that it was made for.
  CHECK_THROWS_AS(
      static_cast<void>(graph::propagate(
          now.result, std::vector{al::contiguous_spec(al::dtype::float32, al::shape{4}.span())})),
      graph::graph_error);
}

TEST_CASE("graph/partition: what writes is in no group, and groups see writes in order") {
  const real w = al::ones<real>({3});
  const auto f = [&](const real& x) {
    const real a = al::mul(x, w);
    real v = w;
    al::add.in_place(v, x);
    return al::add(al::neg(a), al::mul(x, w));
  };
  const real x = al::arange<real>(3);
  const graph::partitioned now = graph::partition(graph::capture(f, x), is_elementwise);
  verify(now.result);
  CHECK(now.subgraphs.size() == 2);
  CHECK(now.unsupported.empty());  // `add` is; it writes
  const graph::graph later = graph::reorder_for_memory(graph::dead_code(now.result));
  CHECK(al::to_vector(real(graph::eager{}.compile(later)(x)[0])) == std::vector<float>{0, 1, 4});
  CHECK(al::to_vector(w) == std::vector<float>{1, 2, 3});
}

TEST_CASE("graph/partition: no two groups of random graphs could be one") {
  std::size_t pairs = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    const al::testing::random_graph program(seed, {.calls = 30});
    const graph::partitioned now = graph::partition(
        graph::dead_code(graph::functionalise(program.captured)), [](const graph::node& n) {
          return n.op->elementwise && !graph::is_call_of<al::ops::relu>(n);
        });
    for (const std::int32_t later : now.subgraphs) {
      const std::vector<bool> blocked = before_others(now.result, later);
      for (const std::int32_t sooner : now.subgraphs) {
        if (sooner < later) {
          ++pairs;
          REQUIRE((blocked[static_cast<std::size_t>(sooner)] ||
                   before_others(now.result, sooner)[static_cast<std::size_t>(later)]));
        }
      }
    }
  }
  CHECK(pairs > 300);
}

TEST_CASE("graph/reorder: large results go before others come") {
  const auto f = [](const real& x) {
    const real a = al::neg(x);
    const real b = al::square(x);
    const real c = al::relu(x);
    return al::add(al::sum(a), al::add(al::sum(b), al::sum(c)));
  };
  const real x = al::ones<real>({1000});
  const graph::graph g = graph::capture(f, x);
  const graph::graph now = graph::reorder_for_memory(g);
  verify(now);
  CHECK(peak_bytes(g) == 3 * 4000 + 4);
  CHECK(peak_bytes(now) == 4000 + 3 * 4);  // the last large one, two sums and its own
  CHECK(al::to_vector(real(graph::eager{}.compile(now)(x)[0])) == al::to_vector(f(x)));
}

TEST_CASE("graph/reorder: calls that go on by themselves start early, their readers come late") {
  const auto f = [](const real& x) {
    const real a = al::neg(x);
    const real here = al::square(x);
    const real there = al::relu(a);  // marked as asynchronous
    const real read = al::abs(there);
    const real more = al::sign(here);
    return al::add(read, more);
  };
  const real x = al::arange<real>(3, -1.0);
  const graph::graph g = graph::capture(f, x);
  const graph::graph now = graph::reorder_for_overlap(
      g, [](const graph::node& n) { return graph::is_call_of<al::ops::relu>(n); });
  verify(now);
  CHECK(names(now) == std::vector<std::string_view>{"neg", "relu", "square", "sign", "abs", "add"});
  CHECK(al::to_vector(real(graph::eager{}.compile(now)(x)[0])) == al::to_vector(f(x)));
}
