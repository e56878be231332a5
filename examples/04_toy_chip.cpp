// SPDX-License-Identifier: Apache-2.0
// A new chip from outside the library, which stands in toy_chip.hpp: one network, trained on it and
// on the host.
#include <cstdio>

#include "toy_chip.hpp"

template <class Stack>
struct network {
  BOOST_HANA_DEFINE_STRUCT(network, (al::nn::linear<Stack>, hidden), (al::nn::linear<Stack>, last));
  auto operator()(const auto& x) const { return last(al::tanh(hidden(x))); }
};
template <class Chip>
std::vector<float> losses() {
  using stack = al::stack<al::on<Chip>, al::differentiate<al::autograd::tape<>>>;
  const auto x = al::rand<typename stack::template tensor<float>>({32, 1}, /*seed=*/1);
  const auto y = x * (1.0 - x * x / 6.0);
  network<stack> net{al::nn::linear<stack>::make(1, 8), al::nn::linear<stack>::make(8, 1)};
  al::nn::initialize(net, /*seed=*/2, al::nn::init::normal(0.0, 0.5));
  al::nn::require_grad(net);
  al::nn::adamw optimizer(net);
  std::vector<float> all(21);
  for (float& seen : all) {
    const auto loss = al::mean(al::square(net(x) - y));
    al::backward(loss);
    optimizer.step(/*lr=*/0.05);
    al::nn::zero_grad(net);
    seen = al::item(loss);
  }
  return all;
}
int main() {
  const std::vector<float> here = losses<al::chip::host>();
  const std::vector<float> there = losses<toy>();
  for (std::size_t i = 0; i < here.size(); i += 5) {
    std::printf("step %2zu  host %.6f  toy %.6f\n", i, here[i], there[i]);
  }
  return there[20] < there[0] / 10 && std::abs(here[20] - there[20]) < 1e-4f * here[0] ? 0 : 1;
}
