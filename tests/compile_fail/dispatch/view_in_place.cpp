// EXPECT-ERROR: a view, or what writes to its arguments anyway, has no in-place form
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/views.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  auto x = ashlar::empty<ashlar::tensor<float, keys>>({2, 2});
  ashlar::transpose.in_place(x);
}
