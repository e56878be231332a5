// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/description.hpp"

namespace npu_matmul {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;

/// The three machines of docs/npu_isa.md: one matrix unit of 1024 products a cycle, memory that is
/// faster than it, as fast, and slower.
inline constexpr chip::npu_description fast_memory{
    .name = "fast memory", .matrix_cycles = {32, 8, 4}, .dma_bytes_per_cycle = 133};
inline constexpr chip::npu_description balanced{
    .name = "balanced", .matrix_cycles = {32, 8, 4}, .dma_bytes_per_cycle = 44};
inline constexpr chip::npu_description slow_memory{
    .name = "slow memory", .matrix_cycles = {32, 8, 4}, .dma_bytes_per_cycle = 13};

struct blocking {
  std::int32_t m = 128, n = 128, k = 64;
  std::int32_t stages =
      4;  ///< buffers for tiles of a and b; 1 loads, multiplies and stores in turn
};

/// c (M x N, f32) = a (M x K) b (K x N), all row-major; arguments: a, b, c.
inline isa::program matmul(std::int32_t M, std::int32_t N, std::int32_t K, const blocking& t,
                           isa::element type = isa::element::bf16) {
  isa::builder b(3);
  const isa::global_view a_view{type, b.argument(0), M, K, K};
  const isa::global_view b_view{type, b.argument(1), K, N, N};
  const auto sum = type == isa::element::i8 ? isa::element::i32 : isa::element::f32;
  const isa::global_view c_view{sum, b.argument(2), M, N, N};

  // Stage s has its tiles at base + s * bytes, and two semaphores: full and free.
  const isa::scratch_tile a0 = b.allocate(type, t.m, t.k);
  const std::int32_t a_bytes = t.m * t.k * isa::size_of(type);
  b.allocate(type, (t.stages - 1) * t.m, t.k);
  const isa::scratch_tile b0 = b.allocate(type, t.k, t.n);
  const std::int32_t b_bytes = t.k * t.n * isa::size_of(type);
  b.allocate(type, (t.stages - 1) * t.k, t.n);
  const std::int32_t sums = t.stages == 1 ? 1 : 2;
  const isa::scratch_tile c0 = b.allocate(sum, t.m, t.n);
  const std::int32_t c_bytes = t.m * t.n * 4;
  b.allocate(sum, (sums - 1) * t.m, t.n);
  const std::int32_t full = 0, free = 16, done = 32, stored = 34;

  b.source("prologue");
  for (std::int32_t s = 0; s < t.stages; ++s) {
    b.signal(isa::control_unit, free + s);
  }
  for (std::int32_t s = 0; s < sums; ++s) {
    b.signal(isa::control_unit, stored + s);
  }
  const isa::scalar stage = b.constant(0), which = b.constant(0);
  b.loop(0, M, t.m, [&](isa::scalar i) {
    b.loop(0, N, t.n, [&](isa::scalar j) {
      const isa::scratch_tile c = c0.at(b.add(b.mul(which, c_bytes), c0.base));
      b.source("acc = zeros()");
      b.wait(isa::matrix_unit, which + stored);
      b.loop(0, K, t.k, [&](isa::scalar k) {
        const isa::scratch_tile a_tile = a0.at(b.add(b.mul(stage, a_bytes), a0.base));
        const isa::scratch_tile b_tile = b0.at(b.add(b.mul(stage, b_bytes), b0.base));
        b.source("load a[i, k], b[k, j]");
        b.wait(isa::dma_unit(0), stage + free);
        b.load(0, a_tile, a_view, i, k);
        b.load(0, b_tile, b_view, k, j);
        b.signal(isa::dma_unit(0), stage + full);
        b.source("acc += dot(a, b)");
        b.wait(isa::matrix_unit, stage + full);
        b.when(isa::opcode::beq, k, 0, [&] { b.mma(c, a_tile, b_tile, false); });
        b.when(isa::opcode::bne, k, 0, [&] { b.mma(c, a_tile, b_tile, true); });
        b.signal(isa::matrix_unit, stage + free);
        b.scalar_op(isa::opcode::s_rem, stage, b.add(stage, 1), t.stages);
      });
      b.source("store c[i, j]");
      b.signal(isa::matrix_unit, which + done);
      b.wait(isa::dma_unit(1), which + done);
      const std::int32_t slices = t.m % 4 == 0 ? 4 : 1;  // loads get the channel in between
      for (std::int32_t s = 0; s < slices; ++s) {
        const std::int32_t rows = t.m / slices;
        b.store(1, c.part(s * rows, 0, rows, t.n), c_view, i + s * rows, j);
      }
      b.signal(isa::dma_unit(1), which + stored);
      b.scalar_op(isa::opcode::s_rem, which, b.add(which, 1), sums);
    });
  });
  return b.finish();
}

}  // namespace npu_matmul
