// SPDX-License-Identifier: Apache-2.0
// The operator's tile program as native code of the host, heads of 64 channels.
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/ops/tile/attention.hpp"

void attend(ashlar::view<const float> q, ashlar::view<const float> keys,
            ashlar::view<const float> v, ashlar::view<float> y) {
  using kernel = ashlar::ops::programs::attention<float, 64>;
  ashlar::chip::launch<kernel>({q.extent(2) / kernel::queries, 1, q.extent(0) * q.extent(1)}, y, q,
                               keys, v, 0.125F, std::int64_t{1});
}
