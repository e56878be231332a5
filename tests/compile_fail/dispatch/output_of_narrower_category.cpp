// EXPECT-ERROR: the result cannot be cast to the element type of the output
// SPDX-License-Identifier: Apache-2.0
// Quotients of integers are floating, in every form.
#include "ashlar/ops/arithmetic.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  auto x = ashlar::empty<ashlar::tensor<int, keys>>({2});
  ashlar::div.out(x, x, x);
}
