// EXPECT-ERROR: matmul.*bare_npu.*list one in the chip, or give Op .* or define fallback<Key>
// EXPECT-TYPES: and.others
// SPDX-License-Identifier: Apache-2.0
// EXPECT-LINES: 15
#include "bare_npu.hpp"

struct model {
  using operators =
      ashlar::ops::operators<ashlar::ops::add, ashlar::ops::exp, ashlar::ops::matmul,
                             ashlar::ops::sub, ashlar::ops::mul, ashlar::ops::div, ashlar::ops::log,
                             ashlar::ops::tanh, ashlar::ops::sum, ashlar::ops::softmax>;
};
static_assert(ashlar::complete<stack, model>);
