// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;
using integers = stack::tensor<std::int32_t>;

/// Two tokens in, one class out.
template <class Stack>
struct classifier {
  using table = nn::embedding<Stack>;
  using layer = nn::linear<Stack>;
  using norm_type = nn::layer_norm<Stack>;
  using scale_type = nn::rms_norm<Stack>;
  BOOST_HANA_DEFINE_STRUCT(classifier, (table, tokens), (norm_type, norm), (layer, hidden),
                           (scale_type, scale), (layer, out));

  auto operator()(const auto& ids) const {
    const auto x = norm(al::reshape(tokens(ids), {ids.extent(0), -1}));
    return out(scale(al::tanh(hidden(x))));
  }
  static classifier make(std::int64_t vocabulary, std::uint64_t seed) {
    classifier m{table::make(vocabulary, 8), norm_type::make(16), layer::make(16, 32),
                 scale_type::make(32), layer::make(32, vocabulary, false)};
    nn::initialize(m, seed, [](std::string_view, const al::tensor_spec& s) {
      return s.rank >= 2 ? nn::init::kaiming_uniform(s, 1.0) : nn::init::keep();
    });
    nn::require_grad(m);
    return m;
  }
};

}  // namespace

TEST_CASE("nn/linear: a layer multiplies by its transposed weight and adds its bias") {
  auto layer = nn::linear<stack>::make(3, 2);
  layer.weight = al::from_values<tensor>({2, 3}, {1, 2, 3, 4, 5, 6});
  layer.bias = al::from_values<tensor>({2}, {10, 20});
  const auto x = al::from_values<tensor>({2, 3}, {1, 1, 1, 0, 1, 2});
  CHECK(al::to_vector(layer(x)) == std::vector<float>{16, 35, 18, 37});
  layer.bias = {};
  CHECK(al::to_vector(layer(x)) == std::vector<float>{6, 15, 8, 17});
  CHECK(nn::parameter_count(layer) == 6);
  CHECK_FALSE(nn::linear<stack>::make(3, 2, false).bias);
  CHECK_THROWS_AS((void)nn::linear<stack>::make(0, 2), al::argument_error);
  CHECK_THROWS_AS((void)nn::embedding<stack>::make(3, -1), al::argument_error);
  CHECK_THROWS_AS((void)nn::rms_norm<stack>::make(0), al::argument_error);
}

TEST_CASE("nn/parameter: a stack may choose the element type of its parameters") {
  struct wide : stack::inference {
    using scalar = double;
  };
  const auto layer = nn::linear<wide>::make(2, 2);
  static_assert(std::is_same_v<decltype(layer.weight)::value_type, double>,
                "the element type is the stack's");
  CHECK(al::to_vector(layer.weight) == std::vector<double>(4));
}

TEST_CASE("nn/init: values depend on the seed and on the order of names alone") {
  const auto a = classifier<stack>::make(5, 42);
  const auto b = classifier<stack>::make(5, 42);
  const auto c = classifier<stack>::make(5, 43);
  CHECK(al::to_vector(a.hidden.weight) == al::to_vector(b.hidden.weight));
  CHECK(al::to_vector(a.out.weight) == al::to_vector(b.out.weight));
  CHECK(al::to_vector(a.hidden.weight) != al::to_vector(c.hidden.weight));
  // Streams of different parameters are different.
  auto two = std::vector{nn::linear<stack>::make(4, 4), nn::linear<stack>::make(4, 4)};
  nn::initialize(two, 1, nn::init::normal(0, 1));
  CHECK(al::to_vector(two[0].weight) != al::to_vector(two[1].weight));
  CHECK(al::to_vector(two[0].bias) == std::vector<float>(4));
  // 16 inputs: bounds sqrt(3 / 16).
  float most = 0;
  for (const float x : al::to_vector(a.hidden.weight)) {
    most = std::max(most, std::abs(x));
  }
  CHECK(most <= std::sqrt(3.0f / 16));
  CHECK(most > 0.9f * std::sqrt(3.0f / 16));
  CHECK(al::to_vector(a.scale.weight) == std::vector<float>(32, 1.0f));
}

TEST_CASE("nn/init: kaiming_normal has the deviation that it promises") {
  auto layer = nn::linear<stack>::make(64, 256, false);
  nn::initialize(layer, 7, nn::init::kaiming_normal(layer.weight.spec()));
  double sum = 0;
  double squares = 0;
  for (const float x : al::to_vector(layer.weight)) {
    sum += static_cast<double>(x);
    squares += static_cast<double>(x) * static_cast<double>(x);
  }
  const double n = 64 * 256;
  // Four deviations of the estimates: 1 / sqrt(n) of the mean, 1 / sqrt(2 n) of the deviation.
  const double deviation = std::sqrt(2.0 / 64);
  CHECK(std::abs(sum / n) < 4 * deviation / std::sqrt(n));
  CHECK(std::abs(std::sqrt(squares / n) / deviation - 1) < 4 / std::sqrt(2 * n));
}

TEST_CASE("nn/init: a tied tensor is filled once") {
  auto a = std::vector{nn::linear<stack>::make(4, 4), nn::linear<stack>::make(4, 4)};
  auto b = std::vector{nn::linear<stack>::make(4, 4), nn::linear<stack>::make(4, 4)};
  b[1].weight = b[0].weight;
  nn::initialize(a, 3, nn::init::normal(0, 1));
  nn::initialize(b, 3, nn::init::normal(0, 1));
  CHECK(al::to_vector(a[0].weight) == al::to_vector(b[1].weight));
}

TEST_CASE("nn/train: a small classifier learns addition modulo 5, with the same bits every time") {
  constexpr int modulus = 5;
  std::vector<std::int32_t> pairs, sums;
  for (int a = 0; a < modulus; ++a) {
    for (int b = 0; b < modulus; ++b) {
      pairs.insert(pairs.end(), {a, b});
      sums.push_back((a + b) % modulus);
    }
  }
  const auto ids = al::from_values<integers>({25, 2}, pairs);
  const auto targets = al::from_values<integers>({25}, sums);
  const auto train = [&](int threads) {
    const al::chip::thread_limit limit(threads);
    auto m = classifier<stack>::make(modulus, 1);
    nn::adamw optimizer(m, {.weight_decay = 0.01});
    const nn::warmup_cosine rate{.peak = 0.02, .warmup = 10, .total = 150};
    float first = 0;
    float last = 0;
    for (int step = 0; step < 150; ++step) {
      const auto loss = al::cross_entropy(m(ids), targets);
      (step == 0 ? first : last) = al::item(loss);
      al::backward(loss);
      nn::clip_grad_norm(m, 1.0);
      optimizer.step(rate(step));
      nn::zero_grad(m);
    }
    // Guessing costs log 5 = 1.6; the task can be learnt by heart.
    CHECK(first > 1.0f);
    CHECK(last < 0.05f);
    std::vector<float> all;
    for (const auto& p : nn::parameters(m)) {
      const auto v = al::to_vector(p);
      all.insert(all.end(), v.begin(), v.end());
    }
    // Without the tape: another stack, the same elements, the same answers.
    const auto served = nn::shared<classifier<stack::inference>>(m);
    const auto answers = al::argmax(served(al::without<al::keys::autograd>(ids)), 1);
    for (int i = 0; i < 25; ++i) {
      CHECK(answers.data()[i] == sums[static_cast<std::size_t>(i)]);
    }
    return all;
  };
  const auto weights = train(1);
  CHECK(train(1) == weights);
  CHECK(train(2) == weights);
}
