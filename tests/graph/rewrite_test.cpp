// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <tuple>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/passes.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using plain = al::tensor<float, host_keys>;
using real = graph::capturable<plain>;

namespace {

template <class Op>
std::ptrdiff_t count(const graph::graph& g) {
  return std::ranges::count_if(g.nodes,
                               [](const graph::node& n) { return graph::is_call_of<Op>(n); });
}
std::vector<float> result(const graph::graph& g, const real& x) {
  return al::to_vector(real(graph::eager{}.compile(g)(x)[0]));
}

constexpr auto negated_sum = [](const auto& a, const auto& b) { return al::neg(al::add(a, b)); };
constexpr auto difference = [](const auto& a, const auto& b) { return al::sub(al::neg(a), b); };

}  // namespace

TEST_CASE("graph/replace_pattern: every match that shares no call with one before is replaced") {
  const real x = al::arange<real>(4);
  const auto f = [](const real& a) {
    const real b = al::neg(al::add(a, a));  // one argument in both places
    const real c = al::neg(al::add(b, a));  // on a match
    return al::mul(c, al::neg(al::mul(a, b)));
  };
  const graph::graph g = graph::capture(f, x);
  // Examples of other shapes and keys: the element type alone counts.
  const plain like = al::ones<plain>({1});
  const graph::replaced now = graph::replace_pattern(g, negated_sum, difference, like, like);
  verify(now.result);
  CHECK(now.matches.size() == 2);
  CHECK(count<al::ops::add>(now.result) == 0);
  CHECK(count<al::ops::sub>(now.result) == 2);
  CHECK(result(now.result, x) == al::to_vector(f(x)));
  CHECK(graph::is_call_of<al::ops::neg>(g.nodes[static_cast<std::size_t>(now.matches[0].anchor)]));
  CHECK(now.matches[0].arguments == std::vector<graph::value_id>{0, 0});
  CHECK(graph::is_call_of<al::ops::sub>(now.result.maker(now.stand_ins[1])));
  CHECK(now.result.nodes.back().where.line() == g.nodes.back().where.line());
}

TEST_CASE("graph/replace_pattern: matches do not overlap, the first anchor wins") {
  const real x = al::arange<real>(3, 1.0);
  const auto f = [](const real& a) { return al::relu(al::relu(al::relu(a))); };
  const graph::graph g = graph::capture(f, x);
  const graph::replaced now = graph::replace_pattern(
      g, [](const auto& a) { return al::relu(al::relu(a)); },
      [](const auto& a) { return al::abs(a); }, x);
  CHECK(now.matches.size() == 1);
  CHECK(count<al::ops::abs>(now.result) == 1);
  CHECK(count<al::ops::relu>(now.result) == 1);
  CHECK(graph::is_call_of<al::ops::relu>(now.result.nodes.back()));
}

TEST_CASE("graph/replace_pattern: what others read, and what has changed since, does not match") {
  const real x = al::arange<real>(3);
  const auto matches = [&](const auto& f) {
    const graph::graph g = graph::capture(f, x);
    const graph::replaced now = graph::replace_pattern(g, negated_sum, difference, x, x);
    verify(now.result);
    CHECK(result(now.result, al::clone(x)) == result(g, al::clone(x)));
    return now.matches.size();
  };
  CHECK(matches([](const real& a) {
          const real s = al::add(a, a);
          return al::mul(al::neg(s), s);
        }) == 0);
  CHECK(matches([](const real& a) {
          const real s = al::add(a, a);
          return std::tuple(al::neg(s), s);
        }) == 0);
  CHECK(matches([](const real& a) {
          real b = al::square(a);
          const real s = al::add(a, b);
          al::fill.in_place(b, 1.0);
          return al::mul(al::neg(s), b);
        }) == 0);
  CHECK(matches([](const real& a) {
          real r = al::neg(al::add(a, a));  // the result may change: it is fresh in both
          al::scale.in_place(r, 2.0);
          return r;
        }) == 1);
}

TEST_CASE("graph/replace_pattern: an argument in the place of a result that is written to stays") {
  const real x = al::arange<real>(3);
  const auto twice = [](const auto& a) { return al::neg(al::neg(a)); };
  const auto once = [](const auto& a) { return a; };
  const auto matches = [&](const auto& f) {
    const graph::graph g = graph::capture(f, x);
    const graph::replaced now = graph::replace_pattern(g, twice, once, x);
    verify(now.result);
    CHECK(result(now.result, al::clone(x)) == result(g, al::clone(x)));
    return now.matches.size();
  };
  CHECK(matches([](const real& a) { return al::square(al::neg(al::neg(a))); }) == 1);
  CHECK(matches([](const real& a) { return al::neg(al::neg(a)); }) == 0);
  CHECK(matches([](const real& a) {
          real b = al::neg(al::neg(a));
          al::fill.in_place(b, 2.0);
          return al::add(a, b);
        }) == 0);
  CHECK(matches([](const real& a) {
          const real b = al::neg(al::neg(a));
          real c = a;
          al::fill.in_place(c, 2.0);
          return al::square(b);
        }) == 0);
}

TEST_CASE("graph/replace_pattern: extents among the attributes follow the shapes of each match") {
  const auto f = [](const real& a) {
    const real b = al::view_as(al::neg(a), {a.size()});
    return al::sum(al::view_as(al::neg(b), {b.size()}));
  };
  const real x = al::arange<real>(6);
  const graph::graph g = graph::capture(f, al::view_as(x, {2, 3}));
  const auto flat = [](const auto& a) { return al::view_as(al::neg(a), {a.size()}); };
  const auto other = [](const auto& a) { return al::neg(al::reshape(a, {a.size()})); };
  const graph::replaced now = graph::replace_pattern(g, flat, other, al::ones<real>({4, 1}));
  verify(now.result);
  CHECK(now.matches.size() == 2);
  CHECK(result(now.result, al::view_as(x, {2, 3})) == al::to_vector(f(al::view_as(x, {2, 3}))));
  // The same calls for another purpose: here the extents are not those that the pattern says.
  const graph::graph rows = graph::capture(
      [](const real& a) {
        return al::view_as(al::neg(a), {3, 2});
      },
      x);
  CHECK(graph::replace_pattern(rows, flat, other, al::ones<real>({4, 1})).matches.empty());
}

TEST_CASE("graph/replace_pattern: attributes count, unless they are wildcards or a guard looks") {
  const auto f = [](const real& a) {
    return al::add(al::scale(al::relu(a), 2.0, 0.0), al::scale(al::relu(a), 3.0, 1.0));
  };
  const real x = al::arange<real>(3, -1.0);
  const graph::graph g = graph::capture(f, x);
  const auto pattern = [](const auto& a) { return al::scale(al::relu(a), 2.0, 0.0); };
  const auto doubled = [](const auto& a) { return al::relu(al::add(a, a)); };
  CHECK(graph::replace_pattern(g, pattern, doubled, x).matches.size() == 1);
  graph::match_options any{.wildcard = graph::any_attribute};
  CHECK(graph::replace_pattern(g, pattern, doubled, any, x).matches.size() == 2);
  graph::match_options first{
      .wildcard = [](const graph::node&, const graph::node& found, std::size_t which) {
        return graph::is_call_of<al::ops::scale>(found) && which == 0;
      }};
  CHECK(graph::replace_pattern(g, pattern, doubled, first, x).matches.size() == 1);
  any.guard = [](const graph::graph& in, const graph::match& m) {
    return in.nodes[static_cast<std::size_t>(m.anchor)].attributes[1].as<double>() == 1.0;
  };
  const graph::replaced now = graph::replace_pattern(g, pattern, doubled, any, x);
  REQUIRE(now.matches.size() == 1);
  CHECK(g.nodes[static_cast<std::size_t>(now.matches[0].anchor)].attributes[0].as<double>() == 3.0);
}

TEST_CASE("graph/replace_pattern: numbers within a pattern are found in functional graphs") {
  const real x = al::arange<real>(3);
  const auto half = [](const auto& a) { return a / 2.0; };
  const graph::graph g = graph::functionalise(graph::capture(
      [&](const real& a) { return al::add(half(al::neg(a)), al::relu(a) / 3.0); }, x));
  const graph::replaced now = graph::replace_pattern(
      g, half, [](const auto& a) { return al::scale(a, 0.5); }, al::ones<real>({1}));
  verify(now.result);
  CHECK(now.matches.size() == 1);
  CHECK(result(now.result, x) == result(g, x));
}

TEST_CASE("graph/replace_pattern: a replacement may bring parameters of its own") {
  const real w = al::ones<real>({3});
  const auto f = [](const real& a) { return al::mul(al::relu(a), al::relu(al::neg(a))); };
  const real x = al::arange<real>(3);
  const graph::replaced now = graph::replace_pattern(
      graph::capture(f, x), [](const auto& a) { return al::relu(a); },
      [&](const auto& a) { return al::add(al::relu(a), w); }, x);
  verify(now.result);
  CHECK(now.matches.size() == 2);
  CHECK(now.result.made_by(graph::node_kind::parameter).size() == 1);
  CHECK(result(now.result, x) == std::vector<float>{1, 2, 3});
}

TEST_CASE("graph/replace_pattern: what is no pattern is refused") {
  const real x = al::arange<real>(3);
  const graph::graph g = graph::capture([](const real& a) { return al::relu(a); }, x);
  const auto refused = [&](const auto& pattern, const auto& replacement) {
    CHECK_THROWS_AS(static_cast<void>(graph::replace_pattern(g, pattern, replacement, x)),
                    graph::pattern_error);
  };
  const auto relu = [](const auto& a) { return al::relu(a); };
  refused([](const auto& a) { return a; }, relu);
  refused([](const auto& a) { return std::tuple(al::relu(a), al::neg(a)); }, relu);
  refused([](const auto& a) { return std::tuple(al::relu(a)); },
          [](const auto& a) { return std::tuple(al::relu(a), al::neg(a)); });
  refused(
      [](const auto& a) {
        auto b = a;
        al::neg.in_place(b);
        return b;
      },
      relu);
  refused([](const real&) { return al::neg(al::ones<real>({3})); }, relu);  // uses no argument
  refused(relu, [](const auto& a) { return al::sum(a); });
}

TEST_CASE("graph/find_matches: a graph within another, with several inputs and results between") {
  const auto f = [](const real& x) {
    const real scores = al::matmul(x, al::transpose(x));
    return al::matmul(al::softmax(scores), x);
  };
  const real x = al::ones<real>({3, 2});
  const graph::graph g = graph::capture(f, x);
  const auto attention = [](const auto& q, const auto& k, const auto& v) {
    return al::matmul(al::softmax(al::matmul(q, al::transpose(k))), v);
  };
  const graph::graph pattern = graph::capture(attention, x, x, x);
  const auto found = graph::find_matches(g, pattern);
  REQUIRE(found.size() == 1);
  CHECK(found[0].arguments == std::vector<graph::value_id>{0, 0, 0});
  CHECK(found[0].output == g.outputs[0]);
  CHECK(std::ranges::count_if(found[0].nodes, [](std::int32_t n) { return n >= 0; }) == 4);
  const graph::match_options never{
      .guard = [](const graph::graph&, const graph::match&) { return false; }};
  CHECK(graph::find_matches(g, pattern, never).empty());
}
