// EXPECT-ERROR: processors change logits before any filter; put them first
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/sampler.hpp"

namespace serve = ashlar::serve;
serve::sampler<serve::filters::top_k, serve::processors::penalties> sampler;
