// EXPECT-ERROR: has no `impl` for these element types
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/arithmetic.hpp"

struct float_mul {
  using op = ashlar::ops::mul;
  template <class Context>
  static void impl(Context&, ashlar::view<float>, ashlar::view<const float>,
                   ashlar::view<const float>) {}
};
struct float_npu {
  static constexpr ashlar::chip_description description{.name = "float_npu"};
  using memory = ashlar::chip::host::memory;
  using queue = ashlar::chip::host::queue;
  using kernels = ashlar::kernels<float_mul>;
};

int main() {
  using npu = ashlar::tensor<double, ashlar::key_set<ashlar::keys::backend<float_npu>>>;
  const auto x = ashlar::empty<npu>({2});
  const auto y = ashlar::mul(x, x);
}
