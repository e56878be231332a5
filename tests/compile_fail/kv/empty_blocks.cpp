// EXPECT-ERROR: a block must hold at least one token
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv.hpp"

ashlar::kv::paged<0> cache;
