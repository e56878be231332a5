// EXPECT-ERROR: a policy must say with `kind` which question
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/host.hpp"

ashlar::memory::caching_allocator<ashlar::chip::host::memory, int> a;

int main() {}
