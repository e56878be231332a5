// EXPECT-ERROR: preemption by swap needs a cache with
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"

namespace kv = ashlar::kv;
namespace serve = ashlar::serve;
using cache = kv::paged<16>;
void use(serve::continuous<serve::preempt_by_swap>::queue<serve::sequence<cache>>& queue,
         cache::pool& pool) {
  queue.next(pool);
}
