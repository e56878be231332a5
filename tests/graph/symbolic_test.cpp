// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/symbolic.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using real = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;

namespace {

std::string text(const std::optional<graph::expression>& e) {
  const std::vector<std::string> names{"B", "T"};
  return e ? e->text(names) : "none";
}
template <class X, class F>
auto fitted(const F& f) {
  const std::vector<graph::sizes> at{{5, 8}, {6, 8}, {8, 8}, {5, 9}, {5, 11}, {6, 9}};
  std::vector<X> is;
  for (const graph::sizes& s : at) {
    is.push_back(f(s[0], s[1]));
  }
  return graph::fit(at, is);
}

/// Attention over (B, T, 12) with three heads; mean over everything.
struct attention {
  real qkv = al::randn<real>({12, 36}, 1);
  real back = al::randn<real>({12, 12}, 2);

  auto operator()(const auto& x) const {
    const std::int64_t b = x.extent(0), t = x.extent(1);
    const auto all = al::matmul(al::reshape(x, al::shape{b * t, 12}), qkv);
    const auto head = [&](std::int64_t k) {
      return al::transpose(
          al::reshape(al::slice(all, 1, 12 * k, 12 * (k + 1)), al::shape{b, t, 3, 4}), 1, 2);
    };
    const auto q = al::reshape(head(0), al::shape{b * 3, t, 4});
    const auto k = al::reshape(head(1), al::shape{b * 3, t, 4});
    const auto v = al::reshape(head(2), al::shape{b * 3, t, 4});
    const auto weights = al::softmax(al::scale(al::matmul(q, al::transpose(k, 1, 2)), 0.5));
    const auto mixed =
        al::reshape(al::transpose(al::reshape(al::matmul(weights, v), al::shape{b, 3, t, 4}), 1, 2),
                    al::shape{b * t, 12});
    const auto y = al::reshape(al::matmul(mixed, back), al::shape{b, t, 12});
    return std::tuple(y, al::mean(y), al::slice(y, 1, 0, t - 1));
  }
};

template <class F>
void check_equal(graph::resizing<graph::eager>& g, const F& f, const real& x) {
  const auto got = g(x);
  const auto expected = f(x);
  CHECK(al::to_vector(real(got[0])) == al::to_vector(std::get<0>(expected)));
  CHECK(al::to_vector(real(got[1])) == al::to_vector(std::get<1>(expected)));
  CHECK(al::to_vector(real(got[2])) == al::to_vector(std::get<2>(expected)));
}

}  // namespace

TEST_CASE("graph/symbolic: numbers of several captures become expressions of sizes, or none") {
  using whole = std::int64_t;
  CHECK(text(fitted<whole>([](whole, whole) { return 7; })) == "7");
  CHECK(text(fitted<whole>([](whole, whole t) { return t; })) == "T");
  CHECK(text(fitted<whole>([](whole b, whole t) { return 2 * b + 3 * t - 4; })) ==
        "2*B + 3*T + -4");
  CHECK(text(fitted<whole>([](whole b, whole t) { return 4 * b * t; })) == "4*B*T");
  CHECK(text(fitted<whole>([](whole, whole t) { return t * t; })) == "T*T");
  CHECK(text(fitted<whole>([](whole, whole t) { return t / 2; })) == "none");
  CHECK(text(fitted<whole>([](whole b, whole) { return b % 2; })) == "none");
  CHECK(text(fitted<double>(
            [](whole b, whole t) { return 1.0 / static_cast<double>(3 * b * t); })) == "1/(3*B*T)");
  CHECK(text(fitted<double>([](whole, whole t) { return 0.5 * static_cast<double>(t); })) ==
        "0.5*(T)");
  CHECK(text(fitted<double>([](whole, whole t) { return std::sqrt(static_cast<double>(t)); })) ==
        "none");
}

TEST_CASE("graph/symbolic: one graph of an attention block is right at every length and batch") {
  const attention f;
  const auto g =
      graph::capture(f, {graph::dim("B", 1, 9).of(0, 0), graph::dim("T", 1, 512).of(0, 1)},
                     al::randn<real>({2, 16, 12}, 3));
  // Of one batch or one token, heads lie in memory as they should and are not copied.
  REQUIRE(g.guards.size() == 2);
  CHECK(g.guards[0].holds == "B from 2 to 9");
  CHECK(g.guards[1].holds == "T from 2 to 512");
  graph::resizing<graph::eager> run(g, {}, 4);
  std::uint64_t seed = 10;
  for (std::int64_t b = g.symbols[0].least; b <= 3; ++b) {
    for (const std::int64_t t : {2, 3, 5, 16, 17, 64, 101}) {
      check_equal(run, f, al::randn<real>({b, t, 12}, ++seed));
      CHECK(run.kept() <= 4);
    }
  }
  CHECK_THROWS_AS(static_cast<void>(run(al::randn<real>({2, 513, 12}, 1))), graph::guard_error);
  CHECK_THROWS_AS(static_cast<void>(run(al::randn<real>({2, 8, 13}, 1))), graph::guard_error);
  CHECK_THROWS_AS(static_cast<void>(run(al::randn<real>({2, 8}, 1))), graph::guard_error);
}

TEST_CASE("graph/symbolic: what depends on a size in another way is a guard that says why") {
  const auto x = al::randn<real>({3, 16}, 1);
  const auto steps = [](const auto& a) {  // a loop over a size
    auto sum = al::select(a, 1, 0);
    for (std::int64_t i = 1; i < a.extent(1); ++i) {
      sum = al::add(sum, al::select(a, 1, i));
    }
    return sum;
  };
  const auto looped =
      graph::capture(steps, {graph::dim("B", 1, 8).of(0, 0), graph::dim("T", 1, 64).of(0, 1)}, x);
  REQUIRE(looped.guards.size() == 1);
  CHECK(looped.guards[0].holds == "T == 16");
  CHECK(looped.guards[0].because == "there are 32 nodes and 34");
  CHECK(looped.symbols[0].most == 8);
  graph::resizing<graph::eager> run(looped);
  const auto y = al::randn<real>({7, 16}, 2);
  CHECK(al::to_vector(real(run(y)[0])) == al::to_vector(steps(y)));
  CHECK_THROWS_AS(static_cast<void>(run(al::randn<real>({7, 17}, 2))), graph::guard_error);

  const auto halves = [](const auto& a) { return al::slice(a, 1, 0, a.extent(1) / 2); };
  const auto halved = graph::capture(halves, {graph::dim("T", 1, 64).of(0, 1)}, x);
  REQUIRE(halved.guards.size() == 1);
  CHECK(halved.guards[0].holds == "T == 16");
  CHECK(halved.guards[0].because == "attribute 2 of node 1 (slice) fits no expression of sizes");

  const auto window = [](const auto& a) {  // another graph beyond a size
    return a.extent(1) > 40 ? al::slice(a, 1, 0, 40) : al::add(a, a);
  };
  const auto windowed = graph::capture(window, {graph::dim("T", 1, 1000).of(0, 1)}, x);
  REQUIRE(windowed.guards.size() == 1);
  CHECK(windowed.guards[0].holds == "T from 1 to 40");
  CHECK(windowed.guards[0].because == "at 41, node 1 (add) is node 1 (slice)");
}

TEST_CASE("graph/symbolic: a size that two arguments share is one size") {
  const auto f = [](const auto& a, const auto& b) { return al::add(a, al::scale(b, 2.0)); };
  const auto g = graph::capture(f, {graph::dim("N", 1, 99).of(0, 0).of(1, 0)}, al::ones<real>({4}),
                                al::ones<real>({4}));
  graph::resizing<graph::eager> run(g);
  for (const std::int64_t n : {1, 2, 50, 99}) {
    const real a = al::randn<real>({n}, 1);
    const real b = al::randn<real>({n}, 2);
    CHECK(al::to_vector(real(run(a, b)[0])) == al::to_vector(f(a, b)));
  }
  CHECK_THROWS_AS(static_cast<void>(run(al::ones<real>({4}), al::ones<real>({5}))),
                  graph::guard_error);
  CHECK_THROWS_AS(static_cast<void>(graph::capture(f, {graph::dim("N", 1, 3).of(0, 0)},
                                                   al::ones<real>({4}), al::ones<real>({4}))),
                  al::argument_error);
}
