// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <benchmark/benchmark.h>

namespace allocator_bench {

void torch_empty(benchmark::State& state);

}  // namespace allocator_bench
