// EXPECT-ERROR: a policy must model PagedPolicy
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv.hpp"

struct not_a_policy {};
ashlar::kv::paged<16, not_a_policy> cache;
