// EXPECT-ERROR: the result cannot be cast to the element type of what is changed in place
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  auto x = ashlar::empty<ashlar::tensor<int, keys>>({2});
  ashlar::mul.in_place(x, ashlar::empty<ashlar::tensor<float, keys>>({2}));
}
