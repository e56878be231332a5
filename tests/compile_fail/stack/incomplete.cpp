// EXPECT-ERROR: exp.*bare_npu.*list one in the chip, or give Op .* or define fallback<Key>
// EXPECT-TYPES: softmax.*bare_npu.*list one in the chip, or give Op .* or define fallback<Key>
// SPDX-License-Identifier: Apache-2.0
// EXPECT-LINES: 15
#include "bare_npu.hpp"

struct model {
  using operators = ashlar::ops::operators<ashlar::ops::add, ashlar::ops::exp, ashlar::ops::matmul,
                                           ashlar::ops::transpose, ashlar::ops::softmax>;
};
static_assert(ashlar::complete<stack, model>);
