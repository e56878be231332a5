// SPDX-License-Identifier: Apache-2.0
#include <ashlar/ashlar.hpp>
#include <cstdio>
namespace al = ashlar;

struct my_add {  // a kernel of the chip: a struct that names its operator
  using op = al::ops::add;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i, out) + b.at(i, out);
    }
  }
};
struct my_npu {  // the chip; what it has no kernel for happens on the host
  static constexpr al::chip_description description{.name = "my_npu"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = al::kernels<my_add>;
  using falls_back_to = al::chip::host;
};
using stack = al::stack<al::on<my_npu>, al::differentiate<al::autograd::tape<>>>;

int main() {  // fit a line, every tensor on my_npu
  const auto x = al::randn<stack::tensor<float>>({256, 1}, /*seed=*/1);
  auto line = al::nn::linear<stack>::make(1, 1);
  al::nn::require_grad(line);
  al::nn::adamw optimizer(line);
  for (int step = 0; step < 300; ++step) {
    al::backward(al::mean(al::square(line(x) - (2.0 * x + 1.0))));
    optimizer.step(/*lr=*/0.05);
    al::nn::zero_grad(line);
  }
  std::printf("y = %.2f x + %.2f\n", al::item(line.weight), al::item(line.bias));
}
