// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/dispatch/any.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;

namespace {

using keys = al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>;
using real = al::tensor<float, keys>;
using wide = al::tensor<double, keys>;

real of(std::initializer_list<float> values) {
  return al::from_values<real>({static_cast<std::int64_t>(values.size())}, values);
}
real leaf(std::initializer_list<float> values) { return al::require_grad(of(values)); }
float at(const real& x, std::int64_t i = 0) {
  return x.data()[i * (x.rank() == 0 ? 0 : x.spec().stride[0])];
}

}  // namespace

TEST_CASE("autograd/backward: gradients of products and sums add up in leaves") {
  const auto w = leaf({3, 4});
  const auto one = of({1, 1});
  al::backward(al::add(al::mul(al::mul(w, one), w), al::exp(w)), one);
  CHECK(at(al::gradient(w)) == doctest::Approx(6 + std::exp(3.f)));
  al::backward(al::mul(w, one), one);  // accumulates
  CHECK(at(al::gradient(w)) == doctest::Approx(7 + std::exp(3.f)));
}

TEST_CASE("autograd/backward: broadcasting is summed, promotion is cast back") {
  const auto s = leaf({2});
  al::backward(al::mul(of({1, 2, 3}), s), of({1, 1, 1}));
  CHECK(al::gradient(s).size() == 1);
  CHECK(at(al::gradient(s)) == 6);
  const auto d = al::from_values<wide>({1}, {5.0});
  const auto f = leaf({7});
  al::backward(al::mul(d, f), d);
  CHECK(at(al::gradient(f)) == 25);
  // In place the result is cast to what it is written to, and gradients come back through it.
  const auto x = leaf({3});
  auto y = al::mul(x, x);
  al::mul.in_place(y, d);
  static_assert(std::is_same_v<decltype(y)::value_type, float>);
  CHECK(at(y) == 45);
  al::backward(y, of({1}));
  CHECK(at(al::gradient(x)) == 30);
  CHECK_THROWS_AS(al::mul.out(y, x, d), al::not_recordable);
  real longer = of({1, 2, 3});
  CHECK_THROWS_AS(al::mul.out(longer, x, d), al::not_recordable);
  CHECK(longer.size() == 3);  // as it was
}

namespace {
struct at_run_time {
  using chips = al::chip_list<al::chip::host>;
  using element_types = al::element_list<float, double>;
  using keys = real::keys;
};
}  // namespace

TEST_CASE("autograd/out: a call at run time that is cast and resized is not recorded either") {
  using any = al::any_tensor<at_run_time>;
  const any x = leaf({3});
  any longer = of({1, 2, 3});
  CHECK_THROWS_AS(al::mul.out(longer, x, any(al::from_values<wide>({1}, {5.0}))),
                  al::not_recordable);
  CHECK(longer.size() == 3);
}

TEST_CASE("autograd/backward: a pass that is recorded gives gradients of gradients") {
  const auto u = leaf({2});
  const auto unit = of({1});
  al::backward(al::mul(al::mul(u, u), u), unit, {.create_graph = true});
  const auto first = std::exchange(al::gradient(u), {});
  al::backward(first, unit);
  CHECK(at(first) == 12);
  CHECK(at(al::gradient(u)) == 12);
}

TEST_CASE("autograd/grad: gives gradients of any tensor and touches no leaf") {
  const auto x = leaf({2, 3});
  const auto y = al::mul(x, x);
  const auto z = al::sum(al::mul(y, x));
  const auto [gx, gy] = al::grad(z, x, y);
  CHECK(at(gx, 1) == 27);
  CHECK(at(gy, 1) == 3);
  CHECK_FALSE(al::gradient(x));
  const auto other = leaf({1});
  CHECK_FALSE(std::get<0>(al::grad(al::sum(al::mul(x, x)), other)));
}

TEST_CASE("autograd/no_grad: nothing is recorded, and views forget where they came from") {
  const auto x = leaf({1, 2});
  {
    const al::no_grad off;
    CHECK_FALSE(al::requires_grad(al::mul(x, x)));
    CHECK_FALSE(al::requires_grad(al::transpose(al::unsqueeze(x, 0), 0, 1)));
    const al::grad_mode on(true);
    CHECK(al::requires_grad(al::mul(x, x)));
  }
  CHECK(al::requires_grad(al::mul(x, x)));
  CHECK_FALSE(al::requires_grad(al::detach(al::mul(x, x))));
  CHECK_THROWS_AS(al::backward(al::detach(x)), al::not_recordable);
}

TEST_CASE("autograd/version: a saved tensor that changed in place is found by name") {
  const auto v = leaf({3});
  const auto unit = of({1});
  auto q = al::mul(v, v);
  const auto r = al::mul(q, q);
  {
    const al::no_grad off;
    al::mul.in_place(q, v);
  }
  try {
    al::backward(r, unit);
    FAIL("must throw");
  } catch (const al::modified_in_place& e) {
    CHECK(e.op == "mul");
    CHECK(e.found == e.expected + 1);
  }
  auto x = al::mul(v, of({1}));
  const auto y = al::exp(x);
  {
    const al::no_grad off;
    al::exp.in_place(x);  // exp saved its result, not its argument
  }
  CHECK_NOTHROW(al::backward(y, unit));
}

TEST_CASE("autograd/node: a graph that nobody walks is freed, results it saved included") {
  const auto x = leaf({1, 2});
  std::weak_ptr<int> alive;
  {
    const auto y = al::exp(x);  // saves its result
    const auto token = std::make_shared<int>(0);
    alive = token;
    al::register_hook(y, [token](const real&) {});
    auto z = al::mul(x, of({1, 1}));
    al::exp.in_place(z);
    al::register_hook(z, [token](const real&) {});
  }
  CHECK(alive.expired());
}

TEST_CASE("autograd/in_place: recorded writes are seen through every handle") {
  const auto v = leaf({3});
  const auto unit = of({1});
  auto a = al::mul(v, v);
  const auto same = a;
  al::mul.in_place(a, v);
  al::backward(al::mul(same, v), unit);  // v^4
  CHECK(at(al::gradient(v)) == doctest::Approx(4 * 27));
}

TEST_CASE("autograd/in_place: what cannot be recorded is refused") {
  auto x = leaf({1, 2});
  CHECK_THROWS_AS(al::mul.in_place(x, x), al::not_recordable);
  const auto y = al::mul(x, x);
  real out;
  CHECK_THROWS_AS(al::mul.out(out, x, x), al::not_recordable);
  CHECK_THROWS_AS(al::backward(y), al::shape_error);
  CHECK_THROWS_AS(al::backward(y, of({1})), al::shape_error);
  CHECK_NOTHROW(al::backward(y, of({1, 1})));
  CHECK_THROWS_AS(al::backward(y, of({1, 1})), al::not_recordable);  // released
}

TEST_CASE("autograd/hooks: tensor hooks see and replace gradients, in order") {
  const auto x = leaf({1});
  const auto y = al::mul(x, x);
  std::string order;
  al::register_hook(y, [&](const real& g) {
    order += 'a';
    CHECK(at(g) == 1);
    return al::add(g, g);
  });
  auto second = al::register_hook(y, [&](const real& g) {
    order += 'b';
    CHECK(at(g) == 2);
  });
  al::backward(y, of({1}), {.retain_graph = true});
  CHECK(order == "ab");
  CHECK(at(al::gradient(x)) == 4);
  second.remove();
  al::backward(y, of({1}));
  CHECK(order == "aba");
}

TEST_CASE("autograd/hooks: a gradient of another shape is refused with the node's name") {
  const auto w = leaf({1, 2});
  const auto y = al::exp(w);
  auto hook = al::register_hook(y, [](const real&) { return of({1, 2, 3}); });
  try {
    al::backward(y, of({1, 1}));
    FAIL("must throw");
  } catch (const al::shape_error& e) {
    CHECK(std::string(e.what()).find("exp") != std::string::npos);
    CHECK(std::string(e.what()).find("hook") != std::string::npos);
    CHECK(e.left == al::shape{2});
    CHECK(e.right == al::shape{3});
  }
  CHECK_FALSE(al::gradient(w));  // nothing got there
  hook.remove();
  al::backward(y, of({1, 1}));
  CHECK(at(al::gradient(w)) == doctest::Approx(std::exp(1.f)));

  auto on_leaf = al::register_hook(w, [](const real&) { return of({1}); });  // it would broadcast
  CHECK_THROWS_AS(al::backward(al::exp(w), of({1, 1})), al::shape_error);
  on_leaf.remove();
  CHECK(at(al::gradient(w)) == doctest::Approx(std::exp(1.f)));
}

TEST_CASE("autograd/hooks: hooks may add and remove hooks while they run") {
  const real x = leaf({2});
  const real y = al::mul(x, x);
  int once = 0;
  int always = 0;
  al::hook_handle mine;
  mine = al::register_hook(y, [&](const real&) {
    ++once;
    for (int i = 0; i < 8; ++i) {  // more than a list that grows in place has room for
      al::register_hook(y, [&](const real&) { ++always; });
    }
    mine.remove();
  });
  al::backward(y, al::backward_options{.retain_graph = true});
  CHECK(once == 1);
  CHECK(always == 0);  // what is under way goes on with the hooks that it began with
  al::backward(y);
  CHECK(once == 1);
  CHECK(always == 8);
}

TEST_CASE("autograd/hooks: a leaf is finished, and its hook runs, before the pass goes on") {
  std::vector<std::string_view> order;
  const auto early = leaf({2});
  const auto late = leaf({3});
  const auto inner = al::exp(early);
  al::register_hook(inner, [&](const real&) { order.emplace_back("inner"); });
  al::register_post_accumulate_grad_hook(late, [&](const real& g) {
    order.emplace_back("late");
    CHECK(at(g) == doctest::Approx(std::exp(2.f)));
  });
  al::backward(al::mul(inner, late), of({1}));
  CHECK(order == std::vector<std::string_view>{"late", "inner"});
  CHECK_THROWS_AS(al::register_post_accumulate_grad_hook(inner, [](const real&) {}),
                  al::not_recordable);
}

TEST_CASE("autograd/hooks: a hook that throws leaves the graph usable") {
  const auto x = leaf({3});
  const auto y = al::mul(x, x);
  bool fail = true;
  al::register_hook(y, [&](const real&) {
    if (fail) {
      throw std::runtime_error("no");
    }
  });
  const auto z = al::add(y, y);
  CHECK_THROWS_AS(al::backward(z, of({1}), {.retain_graph = true}), std::runtime_error);
  fail = false;
  al::backward(z, of({1}));
  CHECK(at(al::gradient(x)) == 12);
}

TEST_CASE(
    "autograd/node: a graph of a hundred thousand nodes is walked and freed without recursion") {
  const auto x = leaf({1});
  const auto one = of({1});
  auto y = x;
  for (int i = 0; i < 100000; ++i) {
    y = al::mul(y, one);
  }
  al::backward(y, one);
  CHECK(at(al::gradient(x)) == 1);
}

TEST_CASE("autograd/node: graphs on several threads do not meet") {
  std::vector<float> results(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&results, t] {
      const auto x = leaf({static_cast<float>(t + 1)});
      for (int i = 0; i < 200; ++i) {
        al::gradient(x) = {};
        al::backward(al::mul(x, x), of({1}));
      }
      results[t] = at(al::gradient(x));
    });
  }
  for (auto& t : threads) {
    t.join();
  }
  CHECK(results == std::vector<float>{2, 4, 6, 8});
}

TEST_CASE("autograd/gradcheck: accepts right gradients and refuses wrong ones") {
  const auto x = al::from_values<wide>({3}, {0.3, -0.7, 1.1});
  CHECK(al::gradcheck([](const wide& a) { return al::exp(al::mul(a, a)); }, x));
  const auto wrong = al::gradcheck([](const wide& a) { return al::mul(a, al::detach(a)); },
                                   x);  // half of the gradient
  CHECK_FALSE(wrong);
  CHECK(wrong.numeric == doctest::Approx(2 * wrong.analytic).epsilon(1e-4));
  const auto five = al::from_values<wide>({1}, {5.0});
  // Right but for the derivative of a branch that is not taken, which is no number.
  for (const auto& values : {std::initializer_list<double>{1, 7}, {7, 1}}) {
    const auto y = al::from_values<wide>({2}, values);
    CHECK_FALSE(al::gradcheck(
        [&](const wide& a) {
          return al::where(al::lt(a, five), al::mul(a, a), al::sqrt(al::sub(a, five)));
        },
        y));
  }
}
