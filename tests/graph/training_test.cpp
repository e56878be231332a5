// SPDX-License-Identifier: Apache-2.0
// A whole training step as one graph: forward, backward and what the optimizer writes.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
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
TEST_CASE("graph/differentiable: tensors from outside, as recorded calls have them") {
  const tensor x = al::from_values<tensor>({2, 3}, {1, 2, 3, 4, 5, 6});
  const tensor ones = al::ones<tensor>({2, 3});
  const tensor w = al::from_values<tensor>({3}, {1.0f, -2.0f, 0.5f});
  const tensor c = al::from_values<tensor>({3}, {2.0f, 3.0f, 4.0f});
  al::require_grad(x);
  al::require_grad(w);
  const auto f = [&](const tensor& a) { return al::mul(al::mul(a, c), w); };
  graph::differentiable compiled(f);

  // Hooks see one gradient of a pass, none of the capture; passes into others leave `w` alone.
  int calls = 0;
  auto hook = al::register_hook(w, [&](const tensor& g) {
    ++calls;
    return al::scale(g, 2.0);
  });
  const auto gradient_of_w = [&](auto& g) {
    al::backward(al::add(g(x), g(al::scale(x, 0.5))), ones);
    al::gradient(x) = {};
    return al::to_vector(std::exchange(al::gradient(w), {}));
  };
  CHECK(gradient_of_w(compiled) == gradient_of_w(f));
  CHECK(calls == 2);
  hook.remove();
  const auto into_x = std::get<0>(al::grad(compiled(x), ones, {}, x));
  CHECK(al::to_vector(into_x) == al::to_vector(std::get<0>(al::grad(f(x), ones, {}, x))));
  CHECK_FALSE(al::gradient(w));
  al::backward(compiled(x), ones, {}, x);
  CHECK_FALSE(al::gradient(w));
  const auto into_w = std::get<0>(al::grad(compiled(x), ones, {}, w));
  CHECK(al::to_vector(into_w) == al::to_vector(std::get<0>(al::grad(f(x), ones, {}, w))));
  CHECK_FALSE(al::gradient(w));

  // What was kept is gone after a pass that does not retain it.
  tensor y = compiled(x);
  al::backward(y, ones, {.retain_graph = true});
  al::backward(y, ones);
  CHECK(al::to_vector(std::exchange(al::gradient(w), {})) ==
        al::to_vector(al::scale(al::detach(into_w), 2.0)));
  CHECK_THROWS_AS(al::backward(y, ones), al::not_recordable);
  CHECK_FALSE(al::gradient(w));

  // Whether they want gradients now is what counts.
  CHECK(compiled.compiled() == 1);
  al::require_grad(w, false);
  al::backward(compiled(x), ones);
  CHECK(compiled.compiled() == 2);
  al::require_grad(w);
  al::backward(compiled(x), ones);
  CHECK(al::to_vector(al::gradient(w)) == al::to_vector(into_w));
  CHECK(compiled.compiled() == 2);

  // A tensor that wants none, and that somebody has written to since.
  y = compiled(x);
  tensor changed = c;
  al::scale.in_place(changed, 2.0);
  CHECK_THROWS_AS(al::backward(y, ones), al::modified_in_place);

  // Gradients that would go past the graph.
  const tensor made = al::scale(w, 3.0);
  graph::differentiable past([&](const tensor& a) { return al::mul(a, made); });
  CHECK_THROWS_AS(static_cast<void>(past(x)), graph::capture_error);
  graph::differentiable twice(
      [&](const tensor& a) { return al::mul(al::mul(a, al::detach(w)), w); });
  al::gradient(w) = {};
  CHECK_THROWS_AS(static_cast<void>(twice(x)), graph::capture_error);
  CHECK_FALSE(al::gradient(w));
}
TEST_CASE(
    "graph/differentiable: a result from outside stays a leaf, and what a kept one is frees") {
  const tensor w = al::from_values<tensor>({3}, {1.0f, -2.0f, 0.5f});
  al::require_grad(w);
  graph::differentiable same([&](const tensor&) { return w; });
  graph::differentiable argument([&](const tensor& a) { return a; });
  graph::differentiable kept([&](const tensor& a) { return al::tanh(a); });
  al::backward(al::scale(same(w), 3.0), al::ones<tensor>({3}));
  CHECK(al::is_leaf(w));
  CHECK(al::to_vector(al::gradient(w)) == std::vector<float>(3, 3.0f));
  al::backward(al::scale(argument(w), 2.0), al::ones<tensor>({3}));
  CHECK(al::is_leaf(w));
  CHECK(al::to_vector(al::gradient(w)) == std::vector<float>(3, 5.0f));
  const tensor y = kept(w);
  CHECK(y.body()->references.load() == 1);
}
TEST_CASE("graph/differentiable: seeds of any strides, and passes on several threads") {
  const tensor w = al::from_values<tensor>({3}, {1.0f, -2.0f, 0.5f});
  const tensor x = al::from_values<tensor>({2, 3}, {1, 2, 3, 4, 5, 6});
  al::require_grad(w);
  al::require_grad(x);
  // Each is read once by a call: gradients of calls are added up in one order.
  const auto f = [&](const tensor& a) { return al::tanh(al::tanh(al::mul(a, w))); };
  graph::differentiable compiled(f, graph::planned<host>{});
  const auto gradients = [&](auto& g) {
    al::backward(g(x), al::expand(al::from_values<tensor>({1, 1}, {0.5f}), {2, 3}));
    const al::autograd::threads_scope several(4);
    tensor all = g(x);
    for (int i = 1; i < 9; ++i) {
      all = al::add(all, g(al::scale(x, 0.25 * i)));
    }
    al::backward(all, al::ones<tensor>({2, 3}));
    return std::pair(al::to_vector(std::exchange(al::gradient(x), {})),
                     al::to_vector(std::exchange(al::gradient(w), {})));
  };
  const auto got = gradients(compiled);
  const auto wanted = gradients(f);
  CHECK(got.first == wanted.first);
  CHECK(got.second == wanted.second);
}
