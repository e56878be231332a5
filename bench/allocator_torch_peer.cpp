// SPDX-License-Identifier: Apache-2.0
// What LibTorch needs for a tensor of so many bytes, made and dropped; in a file of its own, since
// its headers are slow.
#include "allocator_torch_peer.hpp"

#include <ATen/ATen.h>

void allocator_bench::torch_empty(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  for (auto _ : state) {
    at::Tensor t = at::empty({state.range(0)}, at::kByte);
    benchmark::DoNotOptimize(t.data_ptr());
  }
  state.SetItemsProcessed(state.iterations());
}
