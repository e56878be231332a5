// SPDX-License-Identifier: Apache-2.0
#include <any>
#include <memory>
#include <random>
#include <stdexcept>

#include "autograd/support.hpp"

namespace {

/// exp(k x), with what it needs in members and in the context.
struct scaled_exp {
  static constexpr std::string_view name = "scaled_exp";
  double k = 1;
  real forward(al::function_context& c, const real& x) const {
    const real y = al::exp(al::scale(x, k));
    CHECK_FALSE(al::requires_grad(y));  // outside the tape
    c.save(y);
    return y;
  }
  real backward(const al::function_context& c, const real& g) const {
    return al::scale(al::mul(g, c.saved<real>(0)), k);
  }
};

/// x y and x + y, with a number between.
struct both {
  std::tuple<real, real> forward(al::function_context& c, const real& x, double factor,
                                 const real& y) {
    factor_ = factor;
    c.save(x);
    c.save(y);
    return {al::mul(x, y), al::scale(al::add(x, y), factor)};
  }
  std::tuple<real, real> backward(const al::function_context& c, const real& g,
                                  const real& h) const {
    const real both_ways = al::scale(h, factor_);
    real dx;
    if (c.needs_gradient(0)) {
      dx = al::add(al::mul(g, c.saved<real>(1)), both_ways);
    }
    return {dx, al::add(al::mul(g, c.saved<real>(0)), both_ways)};
  }
  double factor_ = 0;
};

struct returns_its_argument {
  real forward(al::function_context&, const real& x) const { return x; }
  real backward(const al::function_context&, const real& g) const { return al::neg(g); }
};
struct no_gradient {
  std::tuple<real, real> forward(al::function_context& c, const real& x) const {
    c.mark_non_differentiable(1);
    return {al::mul(x, x), al::sign(x)};
  }
  real backward(const al::function_context&, const real&, const real&) const { return {}; }
};

}  // namespace

TEST_CASE("autograd/function: a user's gradient, from what it saved") {
  const real x = leaf({0.1, -0.7});
  const auto f = [](const real& a) { return al::apply_function(scaled_exp{3}, a); };
  CHECK(al::gradcheck(f, x));
  CHECK(al::gradgradcheck(f, x));
  const auto g = [](const real& a, const real& b) {
    const auto [p, q] = al::apply_function(both{}, a, 2.5, b);
    return al::mul(p, al::exp(q));
  };
  CHECK(al::gradcheck(g, x, leaf({0.4, 0.2})));
  CHECK(al::gradgradcheck(g, x, leaf({0.4, 0.2})));
  // One result alone: the gradient of the other one is zeros.
  const auto first = [](const real& a, const real& b) {
    return std::get<0>(al::apply_function(both{}, a, 2.5, b));
  };
  CHECK(al::gradcheck(first, x, leaf({0.4, 0.2})));
  const auto [fixed, moving] = al::apply_function(both{}, of({1, 1}), 2.5, x);
  CHECK_NOTHROW(al::backward(al::sum(al::mul(fixed, moving))));
}

TEST_CASE("autograd/function: edge cases") {
  const real x = leaf({2});
  const real same = al::apply_function(returns_its_argument{}, x);
  CHECK(same.data() == x.data());
  CHECK(al::is_leaf(x));
  al::backward(same, one());
  CHECK(values(al::gradient(x)) == std::vector<double>{-1});
  const auto [y, s] = al::apply_function(no_gradient{}, x);
  CHECK(al::requires_grad(y));
  CHECK_FALSE(al::requires_grad(s));
  const real before = al::exp(x);
  al::gradient(x) = {};
  al::backward(std::get<0>(al::apply_function(no_gradient{}, before)), one());
  CHECK_FALSE(al::gradient(x));  // an empty handle goes all the way
  {
    const al::no_grad off;
    CHECK_FALSE(al::requires_grad(al::apply_function(scaled_exp{}, x)));
  }
}

TEST_CASE("autograd/function: what it saved is watched, released and freed") {
  const real x = leaf({2});
  const auto make = [](const real& a) {
    return std::get<0>(al::apply_function(both{}, a, 1.0, a));
  };
  real v = al::mul(x, x);
  const real y = make(v);
  {
    const al::no_grad off;
    al::mul.in_place(v, v);
  }
  CHECK(has(message_of<al::modified_in_place>([&] { al::backward(y, one()); }),
            "function saved 'tensor 1'"));
  const real z = make(x);
  al::backward(z, one());
  CHECK_THROWS_AS(al::backward(z, one()), al::not_recordable);
  std::weak_ptr<int> alive;
  {
    const real kept = al::apply_function(scaled_exp{}, x);
    const auto token = std::make_shared<int>(0);
    alive = token;
    al::register_hook(kept, [token](const real&) {});
  }
  CHECK(alive.expired());
}

TEST_CASE("autograd/saved: tensors that are saved pass through pack, and back through unpack") {
  const real x = leaf({0.5, 2});
  int packed = 0;
  int unpacked = 0;
  const auto f = [](const real& a) { return al::sum(al::exp(al::mul(a, a))); };
  const auto expected = values(std::get<0>(al::grad(f(x), x)));
  real y;
  {
    const al::saved_tensor_hooks in_vectors(
        [&](const al::tensor_handle& t) {
          ++packed;
          return std::any(values(real(t)));
        },
        [&](const std::any& held) {
          ++unpacked;
          return static_cast<al::tensor_handle>(al::from_values<real>(
              {2}, std::span<const double>(std::any_cast<const std::vector<double>&>(held))));
        });
    y = f(x);
  }
  CHECK(packed == 3);  // both arguments of mul, and the result of exp
  CHECK(values(std::get<0>(al::grad(y, al::ones<real>({}), {.retain_graph = true}, x))) ==
        expected);
  CHECK(unpacked == 3);
  const auto [first] = al::grad(y, al::ones<real>({}), {.create_graph = true}, x);
  const auto [second] = al::grad(al::sum(first), x);
  const auto plain = [&] {
    const auto [g] = al::grad(f(x), al::ones<real>({}), {.create_graph = true}, x);
    return values(std::get<0>(al::grad(al::sum(g), x)));
  }();
  CHECK(values(second) == plain);  // histories are put back
  CHECK_THROWS_AS(al::backward(y), al::not_recordable);
}

TEST_CASE("autograd/checkpoint: gradients are the same, and nothing is saved") {
  const real x = leaf({0.3, -0.2, 0.9});
  const real w = leaf({1.5, 0.5, -0.5});
  int runs = 0;
  const auto block = [&runs, &w](const real& a, const real& b) {
    ++runs;
    return al::exp(al::mul(al::mul(a, w), al::exp(b)));
  };
  const auto plain = [&](const real& a, const real& b) { return al::sum(block(block(a, b), b)); };
  const auto cheap = [&](const real& a, const real& b) {
    return al::sum(al::checkpoint(block, al::checkpoint(block, a, b), b));
  };
  const auto expected = al::grad(plain(x, x), x, w);
  runs = 0;
  const real y = cheap(x, x);
  CHECK(runs == 2);
  const auto got = al::grad(y, al::ones<real>({}), {.retain_graph = true}, x, w);
  CHECK(runs == 4);
  CHECK(values(std::get<0>(got)) == values(std::get<0>(expected)));
  CHECK(values(std::get<1>(got)) == values(std::get<1>(expected)));
  al::backward(y);  // into what the function refers to as well
  CHECK(values(al::gradient(w)) == values(std::get<1>(expected)));
  CHECK(al::gradcheck(cheap, of({0.1, 0.2, 0.3}), of({-0.1, 0.5, 0.2})));
  CHECK(al::gradgradcheck(cheap, of({0.1, 0.2, 0.3}), of({-0.1, 0.5, 0.2})));
  const auto outer = [&](const real& a, const real& b) {
    return al::checkpoint([&](const real& c, const real& d) { return cheap(c, d); }, a, b);
  };
  CHECK(values(std::get<0>(al::grad(outer(x, x), x))) == values(std::get<0>(expected)));
}

TEST_CASE("autograd/checkpoint: the second run has the random numbers of the first") {
  const real x = leaf({1, 2, 3, 4, 5, 6, 7, 8});
  std::mt19937 bits(7);
  const auto drop = [&bits](const real& a) {
    real mask = al::ones<real>({8});
    for (int i = 0; i < 8; ++i) {
      mask.data()[i] = static_cast<double>(bits() % 2);
    }
    return al::mul(al::mul(a, mask), a);
  };
  const real y = al::checkpoint_with(bits, drop, x);
  const std::mt19937 between = bits;
  al::backward(y, al::ones<real>({8}));
  CHECK(bits == between);  // and those after it are where they were
  for (std::size_t i = 0; i < 8; ++i) {
    const double x_i = values(al::detach(x))[i];
    CHECK(values(al::gradient(x))[i] == 2 * values(al::detach(y))[i] / x_i);
  }
}

TEST_CASE("autograd/checkpoint: a function that does not do the same twice is found") {
  real x = leaf({2});
  int runs = 0;
  const real y = al::checkpoint(
      [&runs](const real& a) { return runs++ == 0 ? al::mul(a, a) : al::exp(a); }, x);
  CHECK(has(message_of<al::not_recordable>([&] { al::backward(y, one()); }),
            "saved 2 tensors and 1"));
  const real z = al::checkpoint([](const real& a) { return al::mul(a, a); }, x);
  {
    const al::no_grad off;
    al::mul.in_place(x, x);
  }
  CHECK(has(message_of<al::modified_in_place>([&] { al::backward(z, one()); }),
            "checkpoint saved 'input 0'"));
}
