// EXPECT-ERROR: Hash must model PrefixHash
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv.hpp"

ashlar::kv::block_pool pool(4);
ashlar::kv::prefix_cache<int> cache(pool, 2);
