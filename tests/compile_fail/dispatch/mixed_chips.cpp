// EXPECT-ERROR: the tensors of a call must be on one chip
// EXPECT-TYPES: on_one_chip<.*backend<ashlar::chip::host>.*backend<ashlar::chip::meta>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

int main() {
  using host = ashlar::tensor<float, ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>>;
  using meta = ashlar::tensor<float, ashlar::key_set<ashlar::keys::backend<ashlar::chip::meta>>>;
  const auto y = ashlar::mul(ashlar::empty<host>({2}), ashlar::empty<meta>({2}));
}
