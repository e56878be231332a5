// EXPECT-ERROR: separate_phases computes prompts whole
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/scheduler.hpp"

namespace serve = ashlar::serve;
serve::continuous<serve::chunked_prefill<8>, serve::separate_phases>::choices policies;
