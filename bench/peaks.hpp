// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <benchmark/benchmark.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/groups.hpp"
#include "ashlar/simd/reg.hpp"
#include "ashlar/simd/tile_unit.hpp"

// The most multiply-adds per second that one core does: nothing but the instruction, on registers.
namespace peaks {

namespace simd = ashlar::simd;

inline constexpr int chains = 20;  // more than latency times instructions per cycle
inline constexpr int rounds = 4096;

template <class R, class Madd>
void by_registers(benchmark::State& state, int operations, Madd madd) {
  [&]<int... Q>(std::integer_sequence<int, Q...>) {
    simd::reg<R> sum[chains] = {((void)Q, simd::reg_broadcast(R(0)))...};
    for (auto _ : state) {
      for (int i = 0; i < rounds; ++i) {
        ((sum[Q] = madd(sum[Q]), simd::reg_pin(sum[Q])), ...);
      }
    }
    R out[simd::reg<R>::width];
    ((simd::reg_store(out, sum[Q]), benchmark::DoNotOptimize(out)), ...);
  }(std::make_integer_sequence<int, chains>{});
  state.SetItemsProcessed(state.iterations() * rounds * chains * operations);
}

inline void of_float(benchmark::State& state) {
  auto x = simd::reg_broadcast(1.0f);
  auto y = simd::reg_broadcast(0.0f);
  benchmark::DoNotOptimize(x);
  benchmark::DoNotOptimize(y);
  by_registers<float>(state, 2 * simd::reg<float>::width,
                      [&](const auto& sum) { return simd::reg_madd(x, y, sum); });
}

#if ASHLAR_DETAIL_BF16_GROUPS || ASHLAR_DETAIL_INT8_GROUPS
template <simd::Grouped T>
void of_groups(benchmark::State& state) {
  auto y = simd::reg_broadcast(std::int32_t{0});
  std::int32_t x = 0;
  benchmark::DoNotOptimize(x);
  benchmark::DoNotOptimize(y);
  by_registers<simd::group_sum<T>>(state, 2 * simd::reg<float>::width * simd::group_size<T>,
                                   [&](const auto& sum) { return simd::group_madd<T>(x, y, sum); });
}
#endif

#if ASHLAR_DETAIL_TILE_UNIT
template <simd::Grouped T>
void of_tiles(benchmark::State& state) {
  if (!simd::tile_unit_available()) {
    state.SkipWithError("no permission to use the tile unit");
    return;
  }
  const simd::tile_unit_scope configured;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (auto _ : state) {
    for (int i = 0; i < rounds; ++i) {
      if constexpr (std::same_as<T, ashlar::bfloat16>) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
      } else {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * rounds * 4 * 2 * 16 * 16 * simd::step_size<T>);
}
#endif

inline void add() {
  benchmark::RegisterBenchmark("peak/f32/unit:fma", of_float);
#if ASHLAR_DETAIL_BF16_GROUPS
  benchmark::RegisterBenchmark("peak/bf16/unit:groups", of_groups<ashlar::bfloat16>);
#endif
#if ASHLAR_DETAIL_INT8_GROUPS
  benchmark::RegisterBenchmark("peak/i8/unit:groups", of_groups<std::int8_t>);
#endif
#if ASHLAR_DETAIL_TILE_UNIT
  benchmark::RegisterBenchmark("peak/bf16/unit:tiles", of_tiles<ashlar::bfloat16>);
  benchmark::RegisterBenchmark("peak/i8/unit:tiles", of_tiles<std::int8_t>);
#endif
}

}  // namespace peaks
