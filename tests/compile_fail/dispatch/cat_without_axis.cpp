// EXPECT-ERROR: the axis stands after the tensors; give one
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/cat.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  const auto x = ashlar::empty<ashlar::tensor<float, keys>>({2});
  ashlar::cat(x, x);
}
