// EXPECT-ERROR: these are not the arguments of Op; give the tensors
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  const auto x = ashlar::empty<ashlar::tensor<float, keys>>({2});
  ashlar::add(x);
}
