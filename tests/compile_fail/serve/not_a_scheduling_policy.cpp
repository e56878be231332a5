// EXPECT-ERROR: a policy must model PrefillPolicy, PreemptionPolicy
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/scheduler.hpp"

struct budget_alone {
  static constexpr int token_budget = 8;
};
ashlar::serve::continuous<budget_alone> policy;
