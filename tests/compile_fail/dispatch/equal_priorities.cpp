// EXPECT-ERROR: two keys have the same priority, so no rule says whose turn it is
// EXPECT-TYPES: priorities_differ<first_key, second_key>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/host.hpp"
#include "ashlar/dispatch/keys.hpp"

struct first_key {
  static constexpr int priority = 300;
};
struct second_key {
  static constexpr int priority = 300;
};

int main() {
  using host = ashlar::keys::backend<ashlar::chip::host>;
  return sizeof(ashlar::make_key_set<first_key, host, second_key>);
}
