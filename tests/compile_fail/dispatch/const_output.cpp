// EXPECT-ERROR: the output is const; give a handle that is not
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/softmax.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  const auto x = ashlar::empty<ashlar::tensor<float, keys>>({2});
  ashlar::softmax.out(x, x);
}
