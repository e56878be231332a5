// SPDX-License-Identifier: Apache-2.0
// A whole training step as one graph: forward, backward and what the optimizer writes.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/differentiable.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/nn/embedding.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/norm.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/optimizer.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
namespace nn = ashlar::nn;

namespace {

/// Parameters that can be captured: so can their gradients.
using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>,
                        al::through<al::keys::capture>>;
using tensor = stack::tensor<float>;
using integers = stack::tensor<std::int32_t>;
using host = al::chip::host;

template <class Stack>
struct classifier {
  using table = nn::embedding<Stack>;
  using layer = nn::linear<Stack>;
  using norm_type = nn::layer_norm<Stack>;
  BOOST_HANA_DEFINE_STRUCT(classifier, (table, tokens), (norm_type, norm), (layer, hidden),
                           (layer, out));

  auto operator()(const auto& ids) const {
    const auto x = norm(al::reshape(tokens(ids), {ids.extent(0), -1}));
    return out(al::tanh(hidden(x)));
  }
};
using model = classifier<stack>;

model make() {
  model m{nn::embedding<stack>::make(7, 8), nn::layer_norm<stack>::make(16),
          nn::linear<stack>::make(16, 12), nn::linear<stack>::make(12, 7, false)};
  nn::initialize(m, 3, [](std::string_view, const al::tensor_spec& s) {
    return s.rank >= 2 ? nn::init::kaiming_uniform(s, 1.0) : nn::init::keep();
  });
  nn::require_grad(m);
  return m;
}

/// What an optimizer keeps beside each parameter.
struct trained {
  model net = make();
  std::vector<tensor> parameters{}, first{}, second{};

  trained() {
    nn::named_parameters(net, [&](const std::string&, const auto& x) {
      parameters.push_back(x);
      first.push_back(al::zeros<tensor>(al::shape(x.shape())));
      second.push_back(al::zeros<tensor>(al::shape(x.shape())));
    });
  }
  tensor loss_of(const integers& ids, const integers& targets) const {
    const tensor loss = al::cross_entropy(net(ids), targets);
    al::backward(loss);
    return al::detach(loss);
  }
  auto descend() const {
    return [this](const integers& ids, const integers& targets) {
      const tensor loss = loss_of(ids, targets);
      const al::no_grad off;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        tensor p = parameters[i], m = first[i];
        al::sgd_step(p, al::gradient(p), m, al::sgd_options{.lr = 0.1, .momentum = 0.9}, 1.0);
        al::gradient(p) = {};
      }
      return loss;
    };
  }
  auto adam() const {
    return [this](const integers& ids, const integers& targets, const auto& step) {
      const tensor loss = loss_of(ids, targets);
      const al::no_grad off;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        tensor p = parameters[i], m = first[i], v = second[i];
        al::adamw_step(p, al::gradient(p), m, v, al::adamw_options{}, step, 1.0);
        al::gradient(p) = {};
      }
      return loss;
    };
  }
};

integers numbers(std::int32_t step, std::int32_t count, const al::shape& s) {
  std::vector<std::int32_t> all;
  for (std::int32_t i = 0; i < count; ++i) {
    all.push_back((i * (step + 3) + step) % 7);
  }
  return al::from_values<integers>(s, all);
}

void check_same(const trained& a, const trained& b) {
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    CHECK(al::to_vector(a.parameters[i]) == al::to_vector(b.parameters[i]));
    CHECK(al::to_vector(a.first[i]) == al::to_vector(b.first[i]));
    CHECK(al::to_vector(a.second[i]) == al::to_vector(b.second[i]));
  }
}

}  // namespace

TEST_CASE(
    "graph/capture: a training step is one graph, and steps by it have the bits of eager ones") {
  const trained a, b, c;
  const auto step = a.descend();
  auto compiled = graph::compile(b.descend());
  auto arranged = graph::compile(c.descend(), graph::planned<host>{});
  const std::vector<float> untrained = al::to_vector(a.parameters[0]);
  for (std::int32_t n = 0; n < 5; ++n) {
    const integers ids = numbers(n, 10, {5, 2});
    const integers targets = numbers(n + 1, 5, {5});
    const float loss = al::item(step(ids, targets));
    CHECK(al::item(compiled(ids, targets)) == loss);
    CHECK(al::item(arranged(ids, targets)) == loss);
  }
  check_same(a, b);
  check_same(a, c);
  CHECK(al::to_vector(a.parameters[0]) != untrained);
  CHECK(compiled.statistics().compiled == 1);
  CHECK(arranged.statistics().compiled == 1);
}

TEST_CASE("graph/capture: a step's number is one of its guards") {
  const trained a, b;
  const auto step = a.adam();
  auto compiled = graph::compile(b.adam());
  for (std::int64_t n = 1; n < 4; ++n) {
    const integers ids = numbers(2, 10, {5, 2});
    const integers targets = numbers(3, 5, {5});
    CHECK(al::item(step(ids, targets, n)) == al::item(compiled(ids, targets, n)));
  }
  check_same(a, b);
  CHECK(compiled.statistics().compiled == 3);
  CHECK(compiled.why()[0] == "argument 0 of those that are no tensors is another");
}

TEST_CASE("graph/capture: a step's number in a tensor is an argument, and one graph does for all") {
  const trained a, b, c;
  const auto step = a.adam();
  auto compiled = graph::compile(b.adam());
  auto arranged = graph::compile(c.adam(), graph::planned<host>{});
  for (std::int64_t n = 1; n < 4; ++n) {
    const integers ids = numbers(2, 10, {5, 2});
    const integers targets = numbers(3, 5, {5});
    const auto number = al::from_values<stack::tensor<std::int64_t>>({}, {n});
    const float loss = al::item(step(ids, targets, n));
    CHECK(al::item(compiled(ids, targets, number)) == loss);
    CHECK(al::item(arranged(ids, targets, number)) == loss);
  }
  check_same(a, b);
  check_same(a, c);
  CHECK(compiled.statistics().compiled == 1);
  CHECK(arranged.statistics().compiled == 1);
}

TEST_CASE("graph/differentiable: a compiled module inside of a training step has the calls' bits") {
  const trained a, b, c;
  const auto net_of = [](const trained& t) {
    return [&t](const integers& ids) { return t.net(ids); };
  };
  graph::differentiable compiled(net_of(b));
  graph::differentiable arranged(net_of(c), graph::planned<host>{});
  const auto step = [](const trained& t, const auto& net, std::int32_t n) {
    const tensor loss = al::cross_entropy(net(numbers(n, 10, {5, 2})), numbers(n + 1, 5, {5}));
    al::backward(loss);
    const al::no_grad off;
    for (std::size_t i = 0; i < t.parameters.size(); ++i) {
      tensor p = t.parameters[i], m = t.first[i];
      al::sgd_step(p, al::gradient(p), m, al::sgd_options{.lr = 0.1, .momentum = 0.9}, 1.0);
      al::gradient(p) = {};
    }
    return al::item(loss);
  };
  for (std::int32_t n = 0; n < 5; ++n) {
    const float loss = step(a, a.net, n);
    CHECK(step(
              b, [&](const auto& ids) { return compiled(ids); }, n) == loss);
    CHECK(step(
              c, [&](const auto& ids) { return arranged(ids); }, n) == loss);
  }
  check_same(a, b);
  check_same(a, c);
  CHECK(compiled.compiled() == 1);
  const al::no_grad off;
  const integers ids = numbers(1, 6, {3, 2});
  CHECK(al::to_vector(compiled(ids)) == al::to_vector(a.net(ids)));
  CHECK(compiled.compiled() == 2);
}
TEST_CASE("graph/differentiable: gradients of arguments, two calls, and what cannot be") {
  const tensor w = al::from_values<tensor>({3}, {1.0f, -2.0f, 0.5f});
  al::require_grad(w);
  auto f = [&](const tensor& x, const tensor& scale, double number) {
    return al::mul(al::tanh(al::mul(x, w)), al::scale(scale, number));
  };
  graph::differentiable compiled(f);
  const tensor x = al::from_values<tensor>({2, 3}, {1, 2, 3, 4, 5, 6});
  const tensor s = al::from_values<tensor>({1}, {0.5f});
  al::require_grad(x);
  // Twice in one graph of calls; `s` wants nothing at first.
  const auto gradients = [&](auto& g, bool both) {
    al::require_grad(s, both);
    const tensor y = al::add(g(al::scale(x, 0.1), s, 2.0), g(x, s, 2.0));
    al::backward(y, al::ones<tensor>({2, 3}));
    std::vector<std::vector<float>> all{al::to_vector(y), al::to_vector(al::gradient(x)),
                                        al::to_vector(al::gradient(w))};
    if (both) {
      all.push_back(al::to_vector(al::gradient(s)));
      al::gradient(s) = {};
    }
    al::gradient(x) = {};
    al::gradient(w) = {};
    return all;
  };
  CHECK(gradients(compiled, false) == gradients(f, false));
  CHECK(gradients(compiled, true) == gradients(f, true));
  CHECK(compiled.compiled() == 2);
  // Who has a gradient keeps it: later ones are added.
  al::require_grad(s, false);
  al::gradient(w) = al::ones<tensor>({3});
  al::backward(compiled(x, s, 3.0), al::ones<tensor>({2, 3}));
  const std::vector<float> added = al::to_vector(al::gradient(w));
  al::gradient(w) = al::ones<tensor>({3});
  al::backward(f(x, s, 3.0), al::ones<tensor>({2, 3}));
  CHECK(added == al::to_vector(al::gradient(w)));
  // A parameter that has changed since; a backward pass that would be recorded.
  const tensor y = compiled(x, s, 3.0);
  {
    const al::no_grad off;
    tensor changed = w;
    al::scale.in_place(changed, 2.0);
  }
  CHECK_THROWS_AS(al::backward(y, al::ones<tensor>({2, 3})), al::modified_in_place);
  const tensor z = compiled(x, s, 3.0);
  CHECK_THROWS_AS(al::backward(z, al::ones<tensor>({2, 3}), {.create_graph = true}),
                  graph::capture_error);
}
