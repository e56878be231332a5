// EXPECT-ERROR: this operator writes to its arguments and has no out= form
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/optimizer.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  auto x = ashlar::empty<ashlar::tensor<float, keys>>({2});
  ashlar::op_function<ashlar::ops::sgd_step>{}.out(x, x, x, x, ashlar::sgd_options{}, 1.0);
}
