// EXPECT-ERROR: asks for more than Upstream::alignment
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/host.hpp"

ashlar::memory::caching_allocator<ashlar::chip::host::memory, ashlar::memory::aligned<65536>> a;

int main() {}
