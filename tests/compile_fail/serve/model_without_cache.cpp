// EXPECT-ERROR: Model must model LanguageModel
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve.hpp"

struct no_model {
  int vocabulary() const { return 1; }
};
using engine = ashlar::serve::engine<no_model>;
void use(engine& e) { e.step(); }
