// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/breakable.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;
using real = al::tensor<float, al::make_key_set<al::keys::backend<host>>>;
using recorded = al::tensor<float, al::make_key_set<al::keys::backend<host>, al::keys::autograd>>;

namespace {
/// Scales by powers of two until the sum is small: a loop over elements.
const auto halved = [](const auto& x) {
  auto y = al::add(x, x);
  int steps = 0;
  while (al::item(al::sum(al::square(y))) > 1) {
    y = al::scale(y, 0.5);
    ++steps;
  }
  return std::tuple(al::sub(y, x), steps);
};
}  // namespace

TEST_CASE("graph/breakable: reading an element ends a graph, and the function goes on") {
  auto f = graph::breakable(halved);
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    const real x = al::scale(al::randn<real>({3, 4}, seed), 3.0);
    const auto [y, steps] = f(x);
    const auto [expected, expected_steps] = halved(x);
    CHECK(steps == expected_steps);
    CHECK(al::to_vector(y) == al::to_vector(expected));
    CHECK(f.graphs() == static_cast<std::size_t>(steps) + 2);
  }
  const auto before = f.statistics();
  const real x = al::scale(al::randn<real>({3, 4}, 4), 3.0);
  static_cast<void>(f(x));
  CHECK(f.statistics().compiled == before.compiled);
  CHECK(f.statistics().hits == before.hits + f.graphs());
}

TEST_CASE("graph/breakable: what is in use at a break keeps its elements, views and writes too") {
  const auto f = [](const auto& x) {
    auto a = al::add(x, x);
    auto row = al::select(a, 0, 1);
    const auto turned = al::transpose(al::mul(a, a), 0, 1);
    al::scale.in_place(row, 2.0);  // a changes
    const auto first = al::to_vector(turned);
    const auto seen = al::to_vector(a);
    al::scale.in_place(row, 0.5, 1.0);
    const auto b = al::mul(a, al::scale(x, static_cast<double>(seen[3] + first[1])));
    return std::tuple(a, b, row, al::sum(turned));
  };
  auto g = graph::breakable(f, graph::eager{});
  auto h = graph::breakable(f, graph::planned<host>{});
  for (std::uint64_t seed = 1; seed < 4; ++seed) {
    const real x = al::randn<real>({2, 3}, seed);
    const auto expected = f(x);
    for (const auto& got : {g(x), h(x)}) {
      CHECK(al::to_vector(std::get<0>(got)) == al::to_vector(std::get<0>(expected)));
      CHECK(al::to_vector(std::get<1>(got)) == al::to_vector(std::get<1>(expected)));
      CHECK(al::to_vector(std::get<2>(got)) == al::to_vector(std::get<2>(expected)));
      CHECK(al::item(std::get<3>(got)) == al::item(std::get<3>(expected)));
    }
    CHECK(g.graphs() == 2);
  }
}

TEST_CASE("graph/breakable: arguments that are changed in place are changed") {
  const auto f = [](auto x) {
    al::scale.in_place(x, 3.0);
    if (al::item(al::sum(x)) > 0) {
      al::scale.in_place(x, 1.0, 1.0);
    }
    return 0;
  };
  auto g = graph::breakable(f);
  for (const double sign : {1.0, -1.0}) {
    const real a = al::scale(al::ones<real>({5}), sign);
    const real b = al::scale(al::ones<real>({5}), sign);
    static_cast<void>(f(a));
    static_cast<void>(g(b));
    CHECK(al::to_vector(a) == al::to_vector(b));
  }
}

TEST_CASE("graph/breakable: gradients are taken across a break") {
  const auto f = [](const auto& x) {
    const auto leaf = al::clone(x);
    al::require_grad(leaf);
    auto y = al::tanh(leaf);
    if (al::item(al::sum(al::detach(y))) > 0) {
      y = al::square(y);
    }
    return std::get<0>(al::grad(al::sum(y), leaf));
  };
  auto g = graph::breakable(f);
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    const recorded x = al::randn<recorded>({3}, seed);
    CHECK(al::to_vector(g(x)) == al::to_vector(f(x)));
  }
}

TEST_CASE("graph/breakable: without a break, elements that are not there are an error") {
  const real x = al::ones<real>({2});
  const auto dropped = [](const auto& a) {
    const auto y = al::add(a, a);
    return al::mul(al::without<al::keys::capture>(y), al::without<al::keys::capture>(y));
  };
  CHECK_THROWS_AS(static_cast<void>(graph::capture(dropped, x)), graph::capture_error);
  auto g = graph::breakable(dropped);
  CHECK(al::to_vector(g(x)) == std::vector<float>{4, 4});
  const auto unwritten = [](const auto& a) {
    static_cast<void>(al::to_vector(al::empty<std::remove_cvref_t<decltype(a)>>({3})));
    return a;
  };
  CHECK_THROWS_AS(static_cast<void>(graph::capture(unwritten, x)), graph::capture_error);
  const auto made = [](const auto& a) {
    using X = std::remove_cvref_t<decltype(a)>;
    return al::mul(a, al::from_values<X>({2}, {3, 5}));
  };
  CHECK(al::to_vector(real(graph::eager{}.compile(graph::capture(made, x))(x)[0])) ==
        std::vector<float>{3, 5});
}
