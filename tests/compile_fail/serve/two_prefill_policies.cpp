// EXPECT-ERROR: two policies of one kind; keep one
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve.hpp"

namespace serve = ashlar::serve;
serve::continuous<serve::chunked_prefill<8>, serve::whole_prefill<8>> policy;
