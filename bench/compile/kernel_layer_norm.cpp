// SPDX-License-Identifier: Apache-2.0
// The operator's tile program as native code of the host.
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/ops/tile/norm.hpp"

void normalise(ashlar::view<const float> x, ashlar::view<const float> weight,
               ashlar::view<const float> bias, ashlar::view<float> y) {
  ashlar::chip::launch<ashlar::ops::programs::layer_norm<float>>({x.extent(2), 1, 1}, y, x, weight,
                                                                 bias, 1e-5F);
}
