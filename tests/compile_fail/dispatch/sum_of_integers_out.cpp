// EXPECT-ERROR: the output has another element type than the result
// SPDX-License-Identifier: Apache-2.0
// Integers are summed as int64, in every form.
#include <cstdint>

#include "ashlar/ops/reduction.hpp"

int main() {
  using keys = ashlar::key_set<ashlar::keys::backend<ashlar::chip::host>>;
  auto x = ashlar::empty<ashlar::tensor<std::int32_t, keys>>({2});
  ashlar::sum.out(x, x);
}
