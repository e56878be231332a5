// EXPECT-ERROR: the key does not let scopes switch it off
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/dispatch/keys.hpp"

struct plain_key {
  static constexpr int priority = 10;
};

int main() { const ashlar::excluding<plain_key> off; }
