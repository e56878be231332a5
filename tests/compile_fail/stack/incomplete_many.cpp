// EXPECT-ERROR: matmul.*bare_npu.*list one in the chip, or give Op .* or define fallback<Key>
// EXPECT-TYPES: and.others
// SPDX-License-Identifier: Apache-2.0
// EXPECT-LINES: 15
#include "ashlar/ops/complete.hpp"
#include "ashlar/stack.hpp"

struct own_add {
  using op = ashlar::ops::add;
  static void impl(auto&&...) {}
};
struct bare_npu {
  static constexpr ashlar::chip_description description{.name = "bare_npu"};
  using memory = ashlar::chip::host::memory;
  using queue = ashlar::chip::host::queue;
  using kernels = ashlar::kernels<own_add>;
};
struct model {
  using operators =
      ashlar::ops::operators<ashlar::ops::add, ashlar::ops::exp, ashlar::ops::matmul,
                             ashlar::ops::sub, ashlar::ops::mul, ashlar::ops::div, ashlar::ops::log,
                             ashlar::ops::tanh, ashlar::ops::sum, ashlar::ops::softmax>;
};
using stack = ashlar::stack<ashlar::on<bare_npu>, ashlar::differentiate<ashlar::autograd::tape<>>>;
static_assert(ashlar::complete<stack, model>);
