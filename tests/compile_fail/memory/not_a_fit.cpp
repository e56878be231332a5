// EXPECT-ERROR: a policy of kind fit must model FitPolicy
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/host.hpp"

struct worst_fit {
  using kind = ashlar::memory::kinds::fit;
};
ashlar::memory::caching_allocator<ashlar::chip::host::memory, worst_fit> a;

int main() {}
