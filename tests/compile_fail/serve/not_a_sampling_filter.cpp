// EXPECT-ERROR: a stage must model LogitsProcessor or
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/sampler.hpp"

struct no_filter {
  static int apply(int candidates) { return candidates; }
};
ashlar::serve::sampler<no_filter> sampler;
