// EXPECT-ERROR: this kernel<Op, Key> has no `impl` for these element types
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/norm.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  const auto x = ashlar::empty<ashlar::tensor<int, keys>>({2, 2});
  ashlar::call<ashlar::ops::layer_norm_backward_weight>(x, x, 1e-5);
}
