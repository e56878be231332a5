// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/compile.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/activation.hpp"
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
using recorded = al::tensor<float, al::make_key_set<al::keys::backend<host>, al::keys::autograd>>;

namespace {

const auto f = [](const auto& x, double factor) {
  return std::tuple(al::softmax(al::scale(x, factor)), al::sum(x));
};

void check_equal(auto& g, const real& x, double factor) {
  const auto [a, b] = g(x, factor);
  const auto [c, d] = f(x, factor);
  CHECK(al::to_vector(a) == al::to_vector(c));
  CHECK(al::item(b) == al::item(d));
}

}  // namespace

TEST_CASE("graph/compile: the same shape compiles once, a new one again, and why() says so") {
  std::string heard;
  auto g = graph::compile(f, graph::eager{}, {.log = [&](std::string_view text) { heard = text; }});
  for (std::uint64_t i = 0; i < 3; ++i) {
    check_equal(g, al::randn<real>({4, 7}, i), 2.0);
  }
  CHECK(g.statistics().compiled == 1);
  CHECK(g.statistics().recompiled == 0);
  CHECK(g.statistics().hits == 2);
  CHECK(g.why().empty());
  CHECK(heard == "compiled for the first time");

  check_equal(g, al::randn<real>({5, 7}, 1), 2.0);
  CHECK(g.statistics().recompiled == 1);
  REQUIRE(g.why().size() == 1);
  CHECK(g.why()[0] == "tensor 0 is [5, 7], not [4, 7]");
  CHECK(heard == "compiled again\n  graph 0: tensor 0 is [5, 7], not [4, 7]");
  check_equal(g, al::randn<real>({4, 7}, 9), 2.0);  // both are kept
  CHECK(g.statistics().compiled == 2);

  check_equal(g, al::randn<real>({4, 7}, 9), 3.0);
  REQUIRE(g.why().size() == 2);
  CHECK(g.why()[0] == "argument 0 of those that are no tensors is another");
  check_equal(g, al::transpose(al::randn<real>({7, 4}, 9), 0, 1), 3.0);
  REQUIRE(g.why().size() == 3);
  CHECK(g.why()[0] == "tensor 0 has strides [1, 4], not [7, 1]");
  CHECK(g.statistics().compiled == 4);
}

TEST_CASE("graph/compile: the cache is bounded, and the graph that was unused longest goes") {
  auto g = graph::compile(f, graph::eager{}, {.entries = 2});
  const real a = al::ones<real>({1, 2});
  const real b = al::ones<real>({2, 2});
  const real c = al::ones<real>({3, 2});
  check_equal(g, a, 1.0);
  check_equal(g, b, 1.0);
  check_equal(g, a, 1.0);
  check_equal(g, c, 1.0);  // b goes
  CHECK(g.entries() == 2);
  CHECK(g.statistics().evicted == 1);
  check_equal(g, a, 1.0);
  CHECK(g.statistics().compiled == 3);
  check_equal(g, b, 1.0);
  CHECK(g.statistics().compiled == 4);
}

TEST_CASE("graph/compile: with free sizes one graph serves them all, on any backend") {
  auto g =
      graph::compile(f, graph::planned<host>{},
                     {.sizes = {graph::dim("N", 1, 100).of(0, 0), graph::dim("C", 2, 8).of(0, 1)}});
  for (const std::int64_t n : {3, 1, 2, 50, 100, 7}) {
    check_equal(g, al::randn<real>({n, 5}, 1), 0.5);
    check_equal(g, al::randn<real>({n, 8}, 2), 0.5);
  }
  CHECK(g.statistics().compiled == 1);
  CHECK(g.specialised().empty());
  check_equal(g, al::randn<real>({101, 5}, 1), 0.5);  // out of its range: a graph of its own
  CHECK(g.statistics().compiled == 2);
  CHECK(g.why()[0] == "N from 1 to 100; it is 101");
  check_equal(g, al::randn<real>({101, 6}, 1), 0.5);
  CHECK(g.statistics().compiled == 2);
}

TEST_CASE("graph/compile: other types and switched-off keys are guards, gradients across are not") {
  const auto h = [](const auto& x) { return al::square(x); };
  auto g = graph::compile(h);
  const recorded x = al::randn<recorded>({3}, 1);
  CHECK(al::to_vector(g(x)) == al::to_vector(h(x)));
  CHECK(al::to_vector(g(real(static_cast<const al::tensor_handle&>(x)))) == al::to_vector(h(x)));
  CHECK(g.why()[0] == "the arguments are of other types");
  al::require_grad(x);
  CHECK_THROWS_AS(static_cast<void>(g(x)), graph::capture_error);
  {
    const al::no_grad off;
    CHECK(al::to_vector(g(x)) == al::to_vector(h(x)));
    CHECK(g.why()[1] == "other keys are switched off (the grad mode is one)");
  }
  const recorded w = al::require_grad(al::randn<recorded>({3}, 2));
  auto reads = graph::compile([&](const auto& y) { return al::mul(y, w); });
  const recorded y = al::randn<recorded>({3}, 3);
  CHECK_THROWS_AS(static_cast<void>(reads(y)), graph::capture_error);
  const al::no_grad off;
  CHECK(al::to_vector(reads(y)) == al::to_vector(al::mul(y, w)));
}

TEST_CASE("graph/compile: results keep their type: vectors, and tuples of what there is") {
  const auto parts = [](const auto& x) {
    std::vector<std::remove_cvref_t<decltype(x)>> rows;
    for (std::int64_t i = 0; i < x.extent(0); ++i) {
      rows.push_back(al::scale(al::select(x, 0, i), 2.0));
    }
    return std::tuple(rows, al::sum(x));
  };
  auto g = graph::compile(parts);
  const real x = al::randn<real>({3, 2}, 1);
  for (int again = 0; again < 2; ++again) {
    const auto [rows, total] = g(x);
    REQUIRE(rows.size() == 3);
    CHECK(al::to_vector(rows[2]) == al::to_vector(std::get<0>(parts(x))[2]));
    CHECK(al::item(total) == al::item(al::sum(x)));
  }
}
