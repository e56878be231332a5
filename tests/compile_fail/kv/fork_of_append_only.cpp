// EXPECT-ERROR: the table does not fork; leave append_only out
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/kv.hpp"

ashlar::kv::paged<16, ashlar::kv::append_only, ashlar::kv::copy_on_write> cache;
