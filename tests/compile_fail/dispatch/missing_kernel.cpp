// EXPECT-ERROR: no kernel<Op, Key>; list one in the chip
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

struct bare_npu {
  static constexpr ashlar::chip_description description{.name = "bare_npu"};
  using memory = ashlar::chip::host::memory;
  using queue = ashlar::chip::host::queue;
};

int main() {
  using npu = ashlar::tensor<float, ashlar::key_set<ashlar::keys::backend<bare_npu>>>;
  const auto x = ashlar::empty<npu>({2});
  const auto y = ashlar::mul(x, x);
}
