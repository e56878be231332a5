// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/capture.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <source_location>
#include <tuple>

#include "ashlar/autograd.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using real = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;

TEST_CASE("graph/capture: a captured function is its calls in order, and runs to the same bits") {
  const real w = al::randn<real>({5, 7}, 1);
  constexpr auto line = std::source_location::current().line() + 1;
  const auto f = [&](const auto& x) { return al::softmax(al::add(al::mul(x, w), x)); };
  const real x = al::randn<real>({5, 7}, 2);
  const graph::graph g = graph::capture(f, x);
  verify(g);
  REQUIRE(g.nodes.size() == 5);
  CHECK(g.nodes[0].kind == graph::node_kind::placeholder);
  CHECK(g.nodes[1].kind == graph::node_kind::parameter);
  CHECK(graph::is_call_of<al::ops::mul>(g.nodes[2]));
  CHECK(graph::is_call_of<al::ops::softmax>(g.nodes[4]));
  CHECK(g.nodes[2].where.line() == line);
  const auto y = graph::eager{}.compile(g)(x);
  CHECK(al::to_vector(real(y[0])) == al::to_vector(f(x)));
}

TEST_CASE("graph/capture: calls that write, and infix calls, stand at the user's lines") {
  const real x = al::randn<real>({5, 7}, 2);
  constexpr unsigned before = __LINE__;
  const auto f = [](const auto& a) {
    auto y = a * 2.0f;
    al::tanh.in_place(y);
    al::scale.in_place(y, 0.5);
    y += a;
    y /= 4.0f;
    auto z = al::add(a, a);
    al::reshape.out(z, y, {5, 7});
    return al::mul.out(z, z, y);
  };
  const graph::graph g = graph::capture(f, x);
  verify(g);
  std::string lines;
  for (const graph::node& n : g.nodes) {
    const std::string line = std::to_string(n.where.line() - before - 1);
    if (n.kind == graph::node_kind::call && !lines.ends_with(line)) {
      lines += line;
    }
  }
  CHECK(lines == "12345678");
  // So do those beside a number that changes the element type, cast and call.
  constexpr unsigned above = __LINE__ + 1;
  const auto wide = [](const auto& a) {
    return std::tuple(a + 1.5f, 1.5f + a, a - 1.5f, 1.5f - a, a * 1.5f, 1.5f * a, 1.5f / a);
  };
  const graph::graph placed = graph::capture(wide, al::cast<std::int32_t>(x));
  for (const graph::node& n : placed.nodes) {
    CHECK(n.where.line() == (n.kind == graph::node_kind::call ? above + 1 : 0));
  }
}

TEST_CASE("graph/capture: reading a captured value says where") {
  const real x = al::ones<real>({1});
  const auto f = [](const auto& a) { return al::scale(a, static_cast<double>(al::item(a))); };
  CHECK_THROWS_AS(static_cast<void>(graph::capture(f, x)), graph::capture_error);
}

TEST_CASE("graph/capture: a backward pass is captured with the forward one") {
  using recorded =
      al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>, al::keys::autograd>>;
  const auto step = [](const auto& x, const auto& w) {
    const auto leaf = w;
    al::require_grad(leaf);
    const auto loss = al::mean(al::square(al::tanh(al::mul(x, leaf))));
    return std::tuple(loss, std::get<0>(al::grad(loss, leaf)));
  };
  const recorded x = al::randn<recorded>({4, 3}, 1);
  const recorded w = al::randn<recorded>({3}, 2);
  const graph::graph g = graph::capture(step, x, w);
  verify(g);
  const auto y = graph::eager{}.compile(g)(x, w);
  const auto [loss, gradient] = step(x, al::clone(w));
  CHECK(al::item(recorded(y[0])) == al::item(loss));
  CHECK(al::to_vector(recorded(y[1])) == al::to_vector(gradient));
}

TEST_CASE("graph/capture: what is made and changed inside is captured, too") {
  const auto f = [](const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    auto y = al::add(x, al::arange<X>(3));
    auto row = al::select(y, 0, 1);
    al::scale.in_place(row, 2.0, 1.0);
    return std::tuple(y, row);
  };
  const real x = al::ones<real>({2, 3});
  const graph::graph g = graph::capture(f, x);
  verify(g);
  const auto y = graph::eager{}.compile(g)(x);
  const auto [all, row] = f(x);
  CHECK(al::to_vector(real(y[0])) == al::to_vector(all));
  CHECK(al::to_vector(real(y[1])) == al::to_vector(row));
}
