// EXPECT-ERROR: Upstream must model ashlar::memory::Memory
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory.hpp"

ashlar::memory::caching_allocator<int> a;

int main() {}
