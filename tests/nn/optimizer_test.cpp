// SPDX-License-Identifier: Apache-2.0
#include "ashlar/nn/optimizer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/nn/clip.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;

struct layer {
  tensor weight;  // decays
  tensor bias;    // does not
};

constexpr std::size_t weights = 7 * 5;
constexpr std::size_t biases = 19;  // a vector of sixteen and a tail

layer make_layer(std::uint64_t seed = 1) {
  layer p{al::randn<tensor>({7, 5}, seed), al::randn<tensor>({19}, seed + 1)};
  al::require_grad(p.weight);
  al::require_grad(p.bias);
  return p;
}

void set_gradients(const layer& p, int step) {
  al::gradient(p.weight) = al::randn<tensor>({7, 5}, 100 + static_cast<std::uint64_t>(step));
  al::gradient(p.bias) = al::randn<tensor>({19}, 200 + static_cast<std::uint64_t>(step));
}

std::vector<double> doubles(const tensor& x) {
  const auto v = al::to_vector(x);
  return {v.begin(), v.end()};
}

/// PyTorch's AdamW for one tensor, in double, with its operations in its order.
struct adamw_twin {
  std::vector<double> x, m, v;
  double decay;
  int steps = 0;

  adamw_twin(const tensor& from, double weight_decay)
      : x(doubles(from)), m(x.size()), v(x.size()), decay(weight_decay) {}

  void step(const tensor& gradient, double lr, double beta1, double beta2, double eps) {
    const auto g = doubles(gradient);
    ++steps;
    const double correction1 = 1 - std::pow(beta1, steps);
    const double correction2 = 1 - std::pow(beta2, steps);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= 1 - lr * decay;
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
      x[i] -= lr / correction1 * m[i] / (std::sqrt(v[i]) / std::sqrt(correction2) + eps);
    }
  }
};

void check_near(const tensor& x, const std::vector<double>& expected, double tolerance) {
  const auto got = al::to_vector(x);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(static_cast<double>(got[i]) - expected[i]) <= tolerance);
  }
}

}  // namespace

BOOST_HANA_ADAPT_STRUCT(layer, weight, bias);

TEST_CASE("nn/optimizer: adamw follows PyTorch's formula and decays matrices only") {
  const layer p = make_layer();
  nn::adamw optimizer(p, {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1});
  adamw_twin weight(p.weight, 0.1);
  adamw_twin bias(p.bias, 0.0);
  for (int step = 0; step < 30; ++step) {
    const double lr = 0.01 * (1 + step % 3);
    set_gradients(p, step);
    weight.step(al::gradient(p.weight), lr, 0.9, 0.95, 1e-8);
    bias.step(al::gradient(p.bias), lr, 0.9, 0.95, 1e-8);
    optimizer.step(lr);
  }
  // A step moves an element by about 0.02 and rounds it (|x| < 8: 2.4e-7) about twice; 30 steps.
  check_near(p.weight, weight.x, 1e-5);
  check_near(p.bias, bias.x, 1e-5);
}

TEST_CASE("nn/optimizer: a parameter without a gradient is left out and keeps its step count") {
  const layer p = make_layer();
  nn::adamw optimizer(p, {.weight_decay = 0.1});
  adamw_twin weight(p.weight, 0.1);
  adamw_twin bias(p.bias, 0.0);
  for (int step = 0; step < 4; ++step) {
    set_gradients(p, step);
    weight.step(al::gradient(p.weight), 0.01, 0.9, 0.999, 1e-8);
    if (step % 2 == 0) {
      al::gradient(p.bias) = {};
    } else {
      bias.step(al::gradient(p.bias), 0.01, 0.9, 0.999, 1e-8);
    }
    optimizer.step(0.01);
  }
  check_near(p.weight, weight.x, 2e-6);
  check_near(p.bias, bias.x, 2e-6);
  const auto state = optimizer.state();
  using counter = al::tensor<std::int64_t, stack::inference::keys>;
  CHECK(al::item(counter(state.at("weight.step"))) == 4);
  CHECK(al::item(counter(state.at("bias.step"))) == 2);
}

TEST_CASE("nn/optimizer: sgd with momentum, nesterov and decay follows PyTorch's formula") {
  for (const bool nesterov : {false, true}) {
    for (const double momentum : {0.0, 0.9}) {
      CAPTURE(nesterov);
      CAPTURE(momentum);
      const layer p = make_layer();
      nn::sgd optimizer(p, {.momentum = momentum, .weight_decay = 0.05, .nesterov = nesterov});
      auto x = doubles(p.weight);
      std::vector<double> held(x.size());
      for (int step = 0; step < 10; ++step) {
        set_gradients(p, step);
        const auto g = doubles(al::gradient(p.weight));
        for (std::size_t i = 0; i < x.size(); ++i) {
          double d = g[i] + 0.05 * x[i];
          held[i] = momentum * held[i] + d;
          d = nesterov ? d + momentum * held[i] : held[i];
          x[i] -= 0.1 * (momentum == 0.0 ? g[i] + 0.05 * x[i] : d);
        }
        optimizer.step(0.1);
      }
      check_near(p.weight, x, 1e-5);
    }
  }
}

TEST_CASE("nn/optimizer: groups scale rate and decay by name") {
  const layer p = make_layer();
  const auto before = al::to_vector(p.bias);
  nn::sgd optimizer(p, al::sgd_options{.weight_decay = 0.5},
                    [](std::string_view name, const al::tensor_spec&) {
                      return name == "bias" ? nn::parameter_group{.lr = 0.0}
                                            : nn::parameter_group{.weight_decay = 0.0};
                    });
  auto x = doubles(p.weight);
  set_gradients(p, 0);
  const auto g = doubles(al::gradient(p.weight));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] -= 0.1 * g[i];
  }
  optimizer.step(0.1);
  check_near(p.weight, x, 1e-6);
  CHECK(al::to_vector(p.bias) == before);
}

TEST_CASE("nn/optimizer: a state that was saved and loaded goes on with the same bits") {
  const auto run = [](bool interrupted) {
    layer p = make_layer();
    auto optimizer = nn::adamw(p, {.weight_decay = 0.1});
    for (int step = 0; step < 6; ++step) {
      if (interrupted && step == 3) {
        const auto parameters = nn::state_dict(p);
        const auto state = optimizer.state();
        layer other = make_layer(77);
        nn::load_state_dict(other, parameters);
        auto next = nn::adamw(other, {.weight_decay = 0.1});
        next.load_state(state);
        p = other;
        optimizer = next;
      }
      set_gradients(p, step);
      optimizer.step(0.02);
    }
    auto all = al::to_vector(p.weight);
    const auto bias = al::to_vector(p.bias);
    all.insert(all.end(), bias.begin(), bias.end());
    return all;
  };
  const auto whole = run(false);
  CHECK(whole.size() == weights + biases);
  CHECK(run(true) == whole);
}

TEST_CASE("nn/optimizer: bad options, states and modules are refused by name") {
  layer p = make_layer();
  CHECK_THROWS_WITH_AS(nn::adamw(p, {.beta1 = 1.0}),
                       "ashlar::nn::adamw: beta1 is 1.000000; it must be in [0, 1)",
                       al::argument_error);
  CHECK_THROWS_AS(nn::adamw(p, {.eps = std::nan("")}), al::argument_error);
  CHECK_THROWS_AS(nn::sgd(p, {.momentum = -0.1}), al::argument_error);
  CHECK_THROWS_AS(nn::adamw(layer{al::zeros<tensor>({2}), {}}), al::argument_error);

  nn::adamw optimizer(p);
  auto state = optimizer.state();
  CHECK(state.size() == 6);
  state.erase("weight.exp_avg_sq");
  try {
    optimizer.load_state(state);
    FAIL("accepted");
  } catch (const nn::state_error& e) {
    CHECK(e.name == "weight.exp_avg_sq");
    CHECK(e.what_is_wrong == nn::state_error::problem::missing);
  }
}

TEST_CASE("nn/clip: the norm is that of all gradients, and clipping brings it down") {
  const layer p = make_layer();
  CHECK(nn::grad_norm(p) == 0.0);
  set_gradients(p, 0);
  double sum = 0;
  const auto w = doubles(al::gradient(p.weight));
  const auto b = doubles(al::gradient(p.bias));
  for (const auto& part : {w, b}) {
    for (const double x : part) {
      sum += x * x;
    }
  }
  const double norm = std::sqrt(sum);
  CHECK(nn::grad_norm(p) == doctest::Approx(norm).epsilon(1e-6));
  CHECK(nn::grad_norm(nn::parameters(p)) == nn::grad_norm(p));

  CHECK(nn::clip_grad_norm(p, 1000.0) == doctest::Approx(norm).epsilon(1e-6));
  CHECK(doubles(al::gradient(p.weight)) == w);  // untouched below the limit
  CHECK(nn::clip_grad_norm(p, 1.5) == doctest::Approx(norm).epsilon(1e-6));
  CHECK(nn::grad_norm(p) == doctest::Approx(1.5).epsilon(1e-5));
  for (std::size_t i = 0; i < b.size(); ++i) {
    CHECK(doubles(al::gradient(p.bias))[i] ==
          doctest::Approx(b[i] * 1.5 / (norm + 1e-6)).epsilon(1e-6));
  }
}

TEST_CASE("nn/clip: a norm that is not finite is reported and nothing is scaled") {
  const layer p = make_layer();
  set_gradients(p, 0);
  al::fill.in_place(al::gradient(p.bias), INFINITY);
  const auto before = al::to_vector(al::gradient(p.weight));
  CHECK(std::isinf(nn::clip_grad_norm(p, 1.0)));
  CHECK(al::to_vector(al::gradient(p.weight)) == before);
  CHECK_THROWS_AS(nn::clip_grad_norm(p, 0.0), al::argument_error);
  CHECK_THROWS_AS(nn::clip_grad_norm(p, std::nan("")), al::argument_error);
}
