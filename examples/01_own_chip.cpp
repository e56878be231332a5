// SPDX-License-Identifier: Apache-2.0
#include <ashlar/ashlar.hpp>
#include <cstdio>
namespace al = ashlar;

struct my_add {  // a kernel written by hand: a struct that names its operator
  using op = al::ops::add;
  static void impl(auto& /*context*/, al::view<float> out, al::view<const float> a,
                   al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.data[i] = a.data[i % a.size()] + b.data[i % b.size()];
    }
  }
};
struct my_npu {  // the chip: a description, memory, a queue, its kernels; the rest on the host
  static constexpr al::chip_description description{.name = "my_npu", .vector_bytes = 64};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = al::kernels<my_add>;
  using falls_back_to = al::chip::host;
};
using stack = al::stack<al::on<my_npu>, al::differentiate<al::autograd::tape<>>>;

template <class Stack>
struct network {  // a module is a struct; its members' names are the state dict's keys
  using layer = al::nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(network, (layer, hidden), (layer, last));
  auto operator()(const auto& x) const { return last(al::tanh(hidden(x))); }
};

int main() {  // fit a curve with a network whose every tensor lives on my_npu
  const auto x = al::randn<stack::tensor<float>>({256, 1}, /*seed=*/1);
  const auto y = x * (1.0 - x * x / 6.0);
  network<stack> net{al::nn::linear<stack>::make(1, 16), al::nn::linear<stack>::make(16, 1)};
  al::nn::initialize(net, /*seed=*/2, al::nn::init::normal(0.0, 0.5));
  al::nn::require_grad(net);
  al::nn::adamw optimizer(net);
  for (int step = 0; step <= 300; ++step) {
    const auto loss = al::mean(al::square(net(x) - y));
    al::backward(loss);
    optimizer.step(/*lr=*/0.02);
    al::nn::zero_grad(net);
    if (step % 100 == 0) {
      std::printf("step %3d  loss %.5f\n", step, al::item(loss));
    }
  }
}
