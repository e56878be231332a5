// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/passes.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"
#include "support/random_graph.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using ashlar::testing::bits_of;
using host_keys = al::make_key_set<al::keys::backend<al::chip::host>>;
using real = graph::capturable<al::tensor<float, host_keys>>;
using whole = graph::capturable<al::tensor<std::int32_t, host_keys>>;

namespace {

template <class Op>
std::ptrdiff_t count(const graph::graph& g) {
  return std::ranges::count_if(g.nodes,
                               [](const graph::node& n) { return graph::is_call_of<Op>(n); });
}
std::ptrdiff_t calls(const graph::graph& g) {
  return std::ranges::count_if(
      g.nodes, [](const graph::node& n) { return n.kind == graph::node_kind::call; });
}
/// `g` gives the bits of `f(x)`.
template <class F>
void check_same(const graph::graph& g, const F& f, const real& x) {
  verify(g);
  const auto y = graph::eager{}.compile(g)(al::clone(x));
  std::size_t next = 0;
  graph::detail::each_tensor(f(real(al::clone(x))), [&](const real& expected) {
    CHECK(bits_of(y[next++]) == bits_of(expected));
  });
}
/// What `simplify` leaves of a function of one tensor, in calls; the bits stay.
template <class X, class F>
std::ptrdiff_t left(const X& x, const F& f) {
  const graph::graph g = graph::functionalise(graph::capture(f, x));
  const graph::graph now = graph::dead_code(graph::simplify(g));
  verify(now);
  const auto before = graph::eager{}.compile(g)(x);
  const auto after = graph::eager{}.compile(now)(x);
  CHECK(bits_of(before[0]) == bits_of(after[0]));
  return calls(now);
}

}  // namespace

TEST_CASE("graph/passes: dead code goes, writes that something reads and placeholders stay") {
  const real w = al::ones<real>({3});
  const auto f = [&](const real& x, const real&) {
    real used = al::mul(x, x);
    real unused = al::mul(x, w);
    al::neg.in_place(unused);
    al::fill.in_place(used, 2.0);
    const real late = al::relu(used);
    al::fill.in_place(used, 3.0);  // after the last look at it
    real argument = x;
    al::scale.in_place(argument, 2.0);  // outlives the run
    return late;
  };
  const real x = al::arange<real>(3);
  const graph::graph g = graph::capture(f, x, x);
  const graph::graph now = graph::dead_code(g);
  verify(now);
  CHECK(now.made_by(graph::node_kind::placeholder).size() == 2);
  CHECK(now.made_by(graph::node_kind::parameter).empty());
  CHECK(calls(now) == 4);
  CHECK(count<al::ops::fill>(now) == 1);
  CHECK(count<al::ops::scale>(now) == 1);
  CHECK(count<al::ops::neg>(now) == 0);
}

TEST_CASE("graph/passes: equal calls are one, where nobody could tell them apart") {
  const real x = al::arange<real>(3);
  const auto calls_left = [&](const auto& f) {
    const graph::graph g = graph::capture(f, x);
    check_same(graph::common_subexpressions(g), f, x);
    return calls(graph::common_subexpressions(g));
  };
  CHECK(calls_left([](const real& a) { return al::add(al::neg(a), al::neg(a)); }) == 2);
  CHECK(calls_left([](const real& a) {
          return al::add(al::scale(a, 0.0, 0.0), al::scale(a, 0.0, -0.0));
        }) == 3);  // other bits
  CHECK(calls_left([](const real& a) {
          real b = al::neg(a);
          al::scale.in_place(b, 2.0);
          return al::add(b, al::neg(a));
        }) == 4);  // one is written to
  CHECK(calls_left([](const real& a) {
          const real b = al::neg(a);
          real same = a;
          al::scale.in_place(same, 2.0);
          return al::add(b, al::neg(a));
        }) == 4);  // the argument is written to in between
  CHECK(calls_left([](const real& a) {
          const real b = al::transpose(al::unsqueeze(a, 0));
          real same = a;
          al::scale.in_place(same, 2.0);
          return al::add(b, al::transpose(al::unsqueeze(a, 0)));
        }) == 4);  // looks stay looks
  CHECK(calls_left([](const real& a) { return std::tuple(al::neg(a), al::neg(a), al::neg(a)); }) ==
        3);  // the caller may write to each
  const auto random = [](const real& a) {
    return al::add(al::rand<real>({3}, 1), al::add(al::rand<real>({3}, 1), al::mul(a, a)));
  };
  const graph::graph g = graph::functionalise(graph::capture(random, x));
  CHECK(count<al::ops::uniform>(g) == 2);
  CHECK(count<al::ops::uniform>(graph::common_subexpressions(g)) == 1);
}

TEST_CASE("graph/passes: simplify follows its table") {
  const real x = al::from_values<real>({4}, {-0.0f, 1.5f, -2.0f, 0.0f});
  const whole n = al::from_values<whole>({3}, {-7, 0, 3});
  const auto number = [](double v, const auto& like) {
    return al::full<std::remove_cvref_t<decltype(like)>>({}, v);
  };
  // A result that comes out must not be an argument, so each has a call around it.
  CHECK(left(x, [&](const real& a) { return al::neg(al::mul(a, number(1.0, a))); }) == 1);
  CHECK(left(x, [&](const real& a) { return al::neg(al::mul(number(1.0, a), a)); }) == 1);
  CHECK(left(x, [&](const real& a) { return al::neg(al::div(a, number(1.0, a))); }) == 1);
  CHECK(left(x, [](const real& a) { return al::neg(al::pow(a, 1.0)); }) == 1);
  CHECK(left(x, [&](const real& a) { return al::neg(al::add(a, number(-0.0, a))); }) == 1);
  CHECK(left(x, [&](const real& a) { return al::neg(al::add(a, number(0.0, a))); }) == 4);
  CHECK(left(x, [&](const real& a) { return al::neg(al::sub(a, number(0.0, a))); }) == 1);
  CHECK(left(x, [&](const real& a) { return al::neg(al::sub(a, number(-0.0, a))); }) == 4);
  CHECK(left(x, [](const real& a) { return al::neg(al::scale(a, 1.0, 0.0)); }) == 2);
  CHECK(left(x, [](const real& a) { return al::neg(al::scale(a, 1.0, -0.0)); }) == 1);
  CHECK(left(n, [&](const whole& a) { return al::neg(al::add(a, number(0.0, a))); }) == 1);
  CHECK(left(n, [](const whole& a) { return al::neg(al::scale(a, 1.7, 0.2)); }) == 1);
  CHECK(left(x, [](const real& a) { return al::neg(al::neg(al::neg(a))); }) == 1);
  CHECK(left(x, [](const real& a) { return al::relu(al::relu(al::relu(a))); }) == 1);
  CHECK(left(x, [](const real& a) { return al::abs(al::neg(a)); }) == 1);
  CHECK(left(x, [](const real& a) { return al::square(al::neg(a)); }) == 1);
  CHECK(left(x, [](const real& a) { return al::neg(al::maximum(a, a)); }) == 1);
  CHECK(left(x, [](const real& a) { return al::neg(al::cast<float>(a)); }) == 1);
  CHECK(left(n, [](const whole& a) {
          return al::neg(al::cast<std::int32_t>(al::cast<std::int64_t>(a)));
        }) == 1);
  CHECK(left(n, [](const whole& a) {
          return al::neg(al::cast<std::int32_t>(al::cast<float>(a)));
        }) == 3);  // not every int32 is a float
  CHECK(left(x, [](const real& a) { return al::neg(al::clone(a)); }) == 1);
  CHECK(left(x, [](const real& a) { return al::clone(a); }) == 1);
  CHECK(left(x, [](const real& a) { return al::neg(al::squeeze(al::unsqueeze(a, 0), 0)); }) == 1);
  CHECK(left(x, [](const real& a) {
          const auto m = al::view_as(al::neg(a), {2, 2});
          return al::neg(al::transpose(al::transpose(m)));
        }) == 3);
  CHECK(left(x, [](const real& a) {
          return al::neg(al::view_as(al::view_as(al::neg(a), {2, 2}), {4, 1}));
        }) == 3);
  CHECK(left(x, [](const real& a) {
          real b = al::neg(a);
          const real c = al::neg(b);
          al::scale.in_place(b, 2.0);
          return al::add(al::neg(c), b);
        }) == 3);  // functional by then: neg, scale, and -(-b) is b
}

TEST_CASE("graph/passes: what is written to is not simplified away") {
  const real x = al::arange<real>(4);
  const auto f = [](const real& a) {
    real b = al::neg(a);
    const real c = al::clone(b);
    al::scale.in_place(b, 2.0);
    real d = al::neg(a);
    al::fill.in_place(d, 1.0);
    return al::add(al::mul(c, al::neg(d)), b);
  };
  const graph::graph g = graph::capture(f, x);
  CHECK(calls(graph::simplify(g)) == calls(g));
  check_same(graph::simplify(g), f, x);
}

TEST_CASE("graph/passes: constants are folded, parameters once they are frozen") {
  const real w = al::arange<real>(3, 1.0);
  const auto f = [&](const real& x) {
    const real scaled = al::mul(w, al::full<real>({3}, 2.0));
    return al::add(al::mul(x, al::neg(scaled)), al::full<real>({3}, 1.0));
  };
  const real x = al::arange<real>(3);
  const graph::graph g = graph::functionalise(graph::capture(f, x));
  CHECK(count<al::ops::mul>(graph::fold_constants(g)) == 2);
  const graph::graph now = graph::dead_code(graph::fold_constants(graph::freeze(g)));
  check_same(now, f, x);
  CHECK(count<al::ops::mul>(now) == 1);
  CHECK(count<al::ops::neg>(now) == 0);
  CHECK(count<al::ops::fill>(now) == 1);  // one number needs no memory between runs
  CHECK(now.made_by(graph::node_kind::constant).size() == 1);
  CHECK(calls(graph::fold_constants(graph::freeze(g), 4)) == calls(g));  // none is that small
  SUBCASE("a frozen parameter does not follow the module") {
    const auto before = bits_of(graph::eager{}.compile(now)(x)[0]);
    real changed = w;
    al::fill.in_place(changed, 5.0);
    CHECK(bits_of(graph::eager{}.compile(now)(x)[0]) == before);
    CHECK(bits_of(graph::eager{}.compile(g)(x)[0]) == bits_of(f(x)));
  }
  SUBCASE("a parameter that the graph writes to is not frozen") {
    const auto step = [&](const real& a) {
      real v = w;
      al::add.in_place(v, a);
      return al::neg(v);
    };
    CHECK(graph::freeze(graph::capture(step, x)).made_by(graph::node_kind::parameter).size() == 1);
  }
}

TEST_CASE("graph/passes: functionalise") {
  const real x = al::arange<real>(6);
  const auto run = [&](const auto& f) {
    const graph::graph g = graph::capture(f, x);
    CHECK_FALSE(is_functional(g));
    const graph::graph now = graph::functionalise(g);
    verify(now);
    CHECK(is_functional(now));
    const real a = al::clone(x);
    const real b = al::clone(x);
    const auto y = graph::eager{}.compile(g)(a);
    const auto z = graph::eager{}.compile(now)(b);
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(bits_of(y[i]) == bits_of(z[i]));
    }
    CHECK(bits_of(a) == bits_of(b));
    return now;
  };
  const auto writes = [](const graph::graph& g) {
    return std::ranges::count_if(g.nodes,
                                 [](const graph::node& n) { return n.op && n.op->writes != 0; });
  };
  SUBCASE("a write to a value of the graph's own") {
    const graph::graph g = run([](const real& a) {
      real b = al::neg(a);
      al::scale.in_place(b, 2.0);
      return b;
    });
    CHECK(writes(g) == 0);
    CHECK(calls(g) == 2);
  }
  SUBCASE("a write through views of views is seen by the base and by other views") {
    const graph::graph g = run([](const real& a) {
      const real m = al::neg(al::view_as(a, {2, 3}));
      const real flat = al::view_as(m, {6});
      real part = al::slice(al::select(al::transpose(m), 1, 0), 0, 0, 3, 2);
      al::fill.in_place(part, 9.0);
      real column = al::select(m, 1, 1);
      al::relu.in_place(column);
      return std::tuple(m, flat, part, al::neg(column));
    });
    CHECK(writes(g) == 0);
  }
  SUBCASE("an argument changes once, at the end, and an output that looks at it still does") {
    const auto f = [](const real& a) {
      real b = a;
      al::scale.in_place(b, 2.0);
      al::add.in_place(b, al::neg(a));
      return std::tuple(al::select(b, 0, 1), al::square(b));
    };
    const graph::graph g = run(f);
    CHECK(writes(g) == 1);
    const real a = al::clone(x);
    const auto y = graph::eager{}.compile(g)(a);
    CHECK(y[0].bytes() == a.bytes() + sizeof(float));
  }
  SUBCASE("out= takes the elements of its output") {
    run([](const real& a) {
      real b = al::neg(a);
      const real before = al::view_as(b, {3, 2});
      al::square.out(b, a);
      return std::tuple(b, before);
    });
  }
  SUBCASE("a reshape that was a view of other strides is one again, or a copy") {
    run([](const real& a) {
      const real t = al::transpose(al::view_as(a, {2, 3}));
      al::tensor<float, real::keys> u = al::neg(a);
      real v = al::view_as(u, {3, 2});
      al::copy.in_place(v, t);
      return al::reshape(al::transpose(v), {6});
    });
  }
}

TEST_CASE("graph/passes: parameters that share elements are written in place, as they were") {
  const real w = al::arange<real>(4);
  const real front = al::slice(w, 0, 0, 2);
  const auto f = [&](const real& x) {
    real target = front;
    al::add.in_place(target, x);
    return al::neg(w);
  };
  const real x = al::ones<real>({2});
  const graph::graph now = graph::functionalise(graph::capture(f, x));
  verify(now);
  CHECK_FALSE(is_functional(now));
  CHECK(al::to_vector(real(graph::eager{}.compile(now)(x)[0])) ==
        std::vector<float>{-1, -2, -2, -3});
}

TEST_CASE("graph/passes: shapes are propagated, and a call that refuses them is named") {
  const auto f = [](const real& x, const real& y) { return al::sum(al::add(x, y), 0); };
  const graph::graph g = graph::capture(f, al::ones<real>({2, 3}), al::ones<real>({3}));
  const auto spec = [](al::shape s) { return al::contiguous_spec(al::dtype::float32, s.span()); };
  const std::array wider{spec({5, 7}), spec({7})};
  const graph::graph now = graph::propagate(g, wider);
  verify(now);
  CHECK(now.spec(now.outputs[0]).shape()[0] == 7);
  const real x = al::ones<real>({5, 7});
  CHECK(al::to_vector(real(graph::eager{}.compile(now)(x, al::ones<real>({7}))[0])) ==
        std::vector<float>(7, 10.0f));
  try {
    static_cast<void>(graph::propagate(g, std::array{spec({5, 7}), spec({6})}));
    FAIL("the shapes do not fit");
  } catch (const graph::graph_error& e) {
    CHECK(e.node == 2);
    CHECK(e.rule.find("add: ") == 0);
  }
  CHECK_THROWS_AS(static_cast<void>(graph::propagate(g, std::span(wider).first(1))),
                  graph::graph_error);
  const std::array three{wider[0], wider[1], wider[1]};
  CHECK_THROWS_AS(static_cast<void>(graph::propagate(g, three)), graph::graph_error);
  const std::array other_type{al::contiguous_spec(al::dtype::int32, wider[0].shape()), wider[1]};
  CHECK_THROWS_AS(static_cast<void>(graph::propagate(g, other_type)), graph::graph_error);
}

TEST_CASE("graph/passes: decompose leaves the core set, or what is kept") {
  const auto f = [](const real& x) {
    return al::softmax(al::add(al::gelu(x), al::mean(x, -1, true)));
  };
  const real x = al::randn<real>({3, 5}, 1);
  const graph::graph g = graph::capture(f, x);
  const graph::graph now = graph::decompose(g);
  verify(now);
  CHECK(calls(now) > calls(g));
  for (const graph::node& n : now.nodes) {
    CHECK((n.kind != graph::node_kind::call || is_core(n) || graph::is_blank(n)));
  }
  // Each of about ten roundings in a row moves a number below 1 by at most 2^-24.
  const auto y = al::to_vector(real(graph::eager{}.compile(now)(x)[0]));
  const auto expected = al::to_vector(f(x));
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(y[i] == doctest::Approx(expected[i]).scale(1).epsilon(1e-6));
  }
  const auto keep = [](const graph::node& n) {
    return is_core(n) || graph::is_call_of<al::ops::softmax>(n);
  };
  CHECK(count<al::ops::softmax>(graph::decompose(g, keep)) == 1);
}

TEST_CASE("graph/passes: the manager runs passes in order, times them and says what they did") {
  const auto f = [](const real& x) {
    real y = al::neg(al::neg(x));
    al::add.in_place(y, al::neg(x));
    return al::mul(y, al::full<real>({}, 1.0));
  };
  const real x = al::arange<real>(3);
  const graph::graph g = graph::capture(f, x);
  std::vector<graph::pass_report> reports;
  graph::pass_manager passes = graph::standard_passes();
  const graph::graph now = passes.with_diffs().until_unchanged().run(g, &reports);
  check_same(now, f, x);
  CHECK(calls(now) == 2);
  CHECK(reports.size() % 5 == 0);
  CHECK(reports.front().name == "functionalise");
  CHECK(reports.front().changed);
  CHECK(std::ranges::any_of(reports.front().diff, [](const std::string& line) {
    return line.starts_with("- add.in_place %neg_1, %neg_2");
  }));
  CHECK(std::ranges::any_of(reports.front().diff, [](const std::string& line) {
    return line.starts_with("+ %add = add %neg_1, %neg_2");
  }));
  CHECK(to_text(reports).find("functionalise") != std::string::npos);
  for (std::size_t i = reports.size() - 5; i < reports.size(); ++i) {
    CHECK_FALSE(reports[i].changed);  // the last round
    CHECK(reports[i].diff.empty());
  }
  graph::pass_manager bad;
  bad.add("fine", graph::dead_code).add("breaks a rule", [](const graph::graph& old) {
    graph::graph broken = old;
    broken.outputs.push_back(1000);
    return broken;
  });
  try {
    static_cast<void>(bad.run(g));
    FAIL("a broken graph came out");
  } catch (const graph::pass_error& e) {
    CHECK(e.pass == "breaks a rule");
    CHECK(e.reason.find("output 1000") != std::string::npos);
  }
}
