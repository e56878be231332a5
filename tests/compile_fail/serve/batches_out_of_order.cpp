// EXPECT-ERROR: sizes of batches from 1, in ascending order
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/static_engine.hpp"

auto last = ashlar::serve::static_engine<1, 8, 4>::buckets.back();
