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

int main() {  // gradients, with every tensor on my_npu
  const auto x = al::require_grad(al::from_values<stack::tensor<float>>({3}, {0, 1, 2}));
  al::backward(al::sum(al::square(x) + al::exp(x)));
  const auto slope = al::to_vector(al::gradient(x));
  std::printf("2x + exp(x): %.2f %.2f %.2f\n", slope[0], slope[1], slope[2]);
}
// prints: 2x + exp(x): 1.00 4.72 11.39
