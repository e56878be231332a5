// SPDX-License-Identifier: Apache-2.0
#include "ashlar/nn/grad_scaler.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace al = ashlar;

namespace {

using keys = al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>;
using real = al::tensor<float, keys>;

struct counting_optimizer {
  int steps = 0;
  double rate = 0;
  void step(double lr) {
    ++steps;
    rate = lr;
  }
};

/// Parameters with given gradients.
std::vector<real> with_gradients(std::initializer_list<float> first,
                                 std::initializer_list<float> second) {
  std::vector<real> all;
  for (const auto& g : {first, second}) {
    const al::shape s{static_cast<std::int64_t>(g.size())};
    all.push_back(al::require_grad(al::zeros<real>(s)));
    al::gradient(all.back()) = al::from_values<real>(s, g);
  }
  all.push_back(al::require_grad(al::zeros<real>({2})));  // without one
  return all;
}
constexpr float infinite = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("nn/grad_scaler: losses are multiplied, gradients divided by the factor") {
  al::nn::grad_scaler scaler({.scale = 8});
  const real loss = al::full<real>({}, 1.5);
  CHECK(al::item(scaler.scale(loss)) == 12);
  counting_optimizer optimizer;
  const auto parameters = with_gradients({8, -16}, {4});
  CHECK(scaler.step(optimizer, parameters, 0.25));
  CHECK(optimizer.steps == 1);
  CHECK(optimizer.rate == 0.25);
  CHECK(al::to_vector(al::gradient(parameters[0])) == std::vector<float>{1, -2});
  CHECK(al::to_vector(al::gradient(parameters[1])) == std::vector<float>{0.5f});
  scaler.update();
  CHECK(scaler.factor() == 8);
  CHECK(scaler.streak() == 1);
}

TEST_CASE("nn/grad_scaler: a step with an infinite gradient or a NaN is left out") {
  for (const float bad : {infinite, -infinite, not_a_number}) {
    al::nn::grad_scaler scaler({.scale = 1024, .backoff = 0.25});
    scaler.restore(1024, 7);
    counting_optimizer optimizer;
    counting_optimizer other;
    CHECK_FALSE(scaler.step(optimizer, with_gradients({1, 2}, {3, bad, 4}), 0.1));
    // Large but finite is no reason, and each optimizer looks at its own parameters.
    CHECK(scaler.step(other, with_gradients({3e38f, -3e38f}, {3e38f}), 0.1));
    CHECK(optimizer.steps == 0);
    CHECK(other.steps == 1);
    scaler.update();
    CHECK(scaler.factor() == 256);
    CHECK(scaler.streak() == 0);
  }
}

TEST_CASE("nn/grad_scaler: the factor grows after so many steps in a row, while it is finite") {
  al::nn::grad_scaler scaler({.scale = 4, .growth = 3, .interval = 2});
  counting_optimizer optimizer;
  const auto step = [&](float g) {
    scaler.step(optimizer, with_gradients({g}, {1}), 0.1);
    scaler.update();
    return scaler.factor();
  };
  CHECK(step(1) == 4);
  CHECK(step(1) == 12);
  CHECK(step(1) == 12);
  CHECK(step(infinite) == 6);  // begins to count anew
  CHECK(step(1) == 6);
  CHECK(step(1) == 18);
  scaler.restore(2e38, 1);
  CHECK(step(1) == doctest::Approx(2e38));  // would overflow
  CHECK(scaler.streak() == 0);
}

TEST_CASE("nn/grad_scaler: unscale comes once per step, and a step once per update") {
  al::nn::grad_scaler scaler({.scale = 2});
  counting_optimizer optimizer;
  const auto parameters = with_gradients({2}, {4});
  scaler.unscale(optimizer, parameters);
  CHECK(al::item(al::gradient(parameters[0])) == 1);
  CHECK_THROWS_AS(scaler.unscale(optimizer, parameters), al::argument_error);
  CHECK(scaler.step(optimizer, parameters, 0.1));
  CHECK(al::item(al::gradient(parameters[0])) == 1);  // not divided again
  CHECK_THROWS_AS(scaler.step(optimizer, parameters, 0.1), al::argument_error);
  scaler.update();
  CHECK_THROWS_AS(scaler.update(), al::argument_error);
  CHECK_THROWS_AS(al::nn::grad_scaler({.scale = 0}), al::argument_error);
  CHECK_THROWS_AS(al::nn::grad_scaler({.growth = 1}), al::argument_error);
  CHECK_THROWS_AS(al::nn::grad_scaler({.backoff = 1}), al::argument_error);
  CHECK_THROWS_AS(al::nn::grad_scaler({.interval = 0}), al::argument_error);
  for (const double factor : {0.0, -2.0, double{infinite}, double{not_a_number}}) {
    CHECK_THROWS_AS(scaler.restore(factor, 0), al::argument_error);
  }
  CHECK_THROWS_AS(scaler.restore(2, -1), al::argument_error);
  CHECK_THROWS_AS(scaler.restore(2, 2000), al::argument_error);  // would never grow again
  CHECK(scaler.factor() == 2);
  al::nn::grad_scaler off({.enabled = false});
  CHECK(al::item(off.scale(al::full<real>({}, 3.0))) == 3);
  CHECK(off.step(optimizer, with_gradients({infinite}, {1}), 0.1));
  CHECK_NOTHROW(off.update());
}

TEST_CASE("nn/grad_scaler: gradients of a scaled loss are those of the loss, bit for bit") {
  const auto values = {0.1f, -0.7f, 1.3f};
  const auto run = [&](double factor) {
    const real x = al::require_grad(al::from_values<real>({3}, values));
    al::nn::grad_scaler scaler({.scale = factor, .enabled = factor != 1});
    al::backward(scaler.scale(al::sum(al::mul(al::mul(x, x), x))));
    counting_optimizer optimizer;
    scaler.step(optimizer, std::vector<real>{x}, 0.1);
    return al::to_vector(al::gradient(x));
  };
  CHECK(run(65536) == run(1));  // powers of two round nothing
}
