// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "ashlar/chip/npu/codegen/run.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"
#include "chip/npu_matmul.hpp"

namespace {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
namespace codegen = ashlar::chip::npu_codegen;
namespace tile = ashlar::tile;
using ashlar::bfloat16;

/// c = a b, `M` x `N` of it in one program.
template <int M, int N, int K>
struct product {
  static constexpr auto name = "product";
  constexpr void operator()(tile::scope& k, tile::in<bfloat16, 2> a, tile::in<bfloat16, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto to) {
          const auto x = tile::load<M, K>(a, m, i);
          const auto w = tile::load<K, N>(b, i, n);
          return tile::dot(x, w, to);
        },
        k.zeros<float, M, N>());
    tile::store(c, sum, m, n);
  }
};

std::vector<bfloat16> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> any(-2, 2);
  std::vector<bfloat16> v(n);
  std::generate(v.begin(), v.end(), [&] { return bfloat16(any(random)); });
  return v;
}

template <class T>
tile::argument matrix(T* data, std::int64_t rows, std::int64_t cols) {
  const std::array extents{rows, cols};
  const std::array strides{cols, std::int64_t{1}};
  return tile::argument(data, extents, strides);
}

/// Cycles that nothing can go below, by arithmetic alone: see docs/npu_isa.md.
struct bounds {
  double compute, dma;
  [[nodiscard]] double both() const { return std::max(compute, dma); }
};
bounds bounds_of(const chip::npu_description& d, double n) {
  const auto& unit = d.matrix_unit;
  const double bytes = n * n * 2 * (n / 128) + n * n * 2 * (n / 128) + n * n * 4;
  return {n * n * n * d.matrix_cycles.f16 / (unit[0] * unit[1] * unit[2]),
          bytes / d.dma_bytes_per_cycle};
}

struct run_512 {
  std::vector<bfloat16> a = random_values(512 * 512, 1);
  std::vector<bfloat16> b = random_values(512 * 512, 2);
  std::vector<float> c = std::vector<float>(512 * 512, -1.0F);

  isa::run_report operator()(const chip::npu_description& d, int stages, bool timeline = false) {
    static constexpr tile::program program = tile::program_of<product<128, 128, 64>>;
    const std::array<tile::argument, 3> arguments{matrix<const bfloat16>(a.data(), 512, 512),
                                                  matrix<const bfloat16>(b.data(), 512, 512),
                                                  matrix(c.data(), 512, 512)};
    const auto made = codegen::compile(d, program, {.stages = stages});
    return codegen::launch(made, {4, 4, 1}, arguments, {.timeline = timeline});
  }
};

}  // namespace

TEST_CASE("chip/npu_codegen: a product of 512 x 512 x 512 is bound by compute or by DMA alone") {
  run_512 run;
  for (const auto& d : {npu_matmul::fast_memory, npu_matmul::balanced, npu_matmul::slow_memory}) {
    const bounds least = bounds_of(d, 512);
    const isa::run_report r = run(d, 0);
    const auto cycles = static_cast<double>(r.cycles);
    MESSAGE(std::string(d.name.view()), ": cycles ", r.cycles, ", of the bound ",
            cycles / least.both());
    CHECK(cycles >= least.both());
    CHECK(cycles <= 1.15 * least.both());
    CHECK(r.bank_conflicts == 0);
    CHECK(r.bytes_loaded == 4 * 1024 * 1024);
    CHECK(r.bytes_stored == 1024 * 1024);
  }
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < 512; i += 37) {
    for (std::size_t j = 0; j < 512; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < 512; ++k) {
        sum = ashlar::simd::madd(static_cast<float>(run.a[i * 512 + k]),
                                 static_cast<float>(run.b[k * 512 + j]), sum);
      }
      wrong += sum == run.c[i * 512 + j] ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "chip/npu_codegen: without a second buffer the balanced machine takes 1.6 times as long") {
  run_512 run;
  const isa::run_report pipelined = run(npu_matmul::balanced, 0);
  const isa::run_report in_turn = run(npu_matmul::balanced, 1);
  MESSAGE("pipelined ", pipelined.cycles, ", in turn ", in_turn.cycles);
  CHECK(static_cast<double>(in_turn.cycles) >= 1.6 * static_cast<double>(pipelined.cycles));
}

TEST_CASE("chip/npu_codegen: where copies use the compute units, times add up") {
  run_512 run;
  for (chip::npu_description d :
       {npu_matmul::fast_memory, npu_matmul::balanced, npu_matmul::slow_memory}) {
    d.copy_uses_compute = true;
    const bounds least = bounds_of(d, 512);
    const isa::run_report r = run(d, 0, true);
    const double sum = least.compute + least.dma;
    const auto cycles = static_cast<double>(r.cycles);
    MESSAGE(std::string(d.name.view()), ": cycles ", r.cycles, ", of the sum ", cycles / sum);
    CHECK(cycles >= 0.95 * sum);
    CHECK(cycles <= 1.05 * sum);
    std::int64_t products = 0;  // the timeline shows why
    std::int64_t copies = 0;
    for (const auto& event : r.timeline.events()) {
      if (event.lane == isa::matrix_unit) {
        products += event.category == "compute" ? event.duration : 0;
        copies += event.category == "copy uses compute" ? event.duration : 0;
      }
    }
    CHECK(copies == r.channel_cycles);
    CHECK(products == r.engines[isa::matrix_unit].busy);
  }
}

TEST_CASE(
    "chip/npu_codegen: rounds on their way follow from latency, bandwidth, compute and room") {
  static constexpr tile::program program = tile::program_of<product<64, 64, 64>>;
  const auto slots_of = [](const chip::npu_description& d) {
    int slots = 0;
    for (const codegen::buffer& b : codegen::compile(d, program).ir.buffers) {
      const bool moved = b.engines >> isa::first_dma_unit != 0;
      const bool multiplied = (b.engines >> isa::matrix_unit & 1u) != 0;
      slots = moved && multiplied ? std::max(slots, b.slots) : slots;
    }
    return slots;
  };
  // By arithmetic alone: a round of the sum brings two blocks and multiplies them.
  const auto wanted = [](const chip::npu_description& d) {
    const int compute = 64 * 64 * 64 * d.matrix_cycles.f16 /
                        (d.matrix_unit[0] * d.matrix_unit[1] * d.matrix_unit[2]);
    const int transfer = 2 * 64 * 64 * 2 / d.dma_bytes_per_cycle;
    const int whole = d.dma_latency + transfer + compute + d.matrix_latency;
    return static_cast<int>(std::ceil(static_cast<double>(whole) / std::max(compute, transfer))) +
           1;
  };
  chip::npu_description far = npu_matmul::balanced;
  far.dma_latency = 1500;
  chip::npu_description little = far;
  little.scratchpad_bytes = 64 * 64 * 4 + 4 * 64 * 64 * 2;  // a sum and two rounds of operands
  CHECK(slots_of(npu_matmul::balanced) == wanted(npu_matmul::balanced));
  CHECK(slots_of(far) == wanted(far));
  CHECK(slots_of(little) == 2);
  CHECK(wanted(far) > wanted(npu_matmul::balanced));
  CHECK(wanted(npu_matmul::balanced) > 2);

  // No other number is faster by more than a fiftieth.
  const std::vector<bfloat16> a = random_values(256 * 256, 1);
  std::vector<float> c(256 * 256);
  const std::array<tile::argument, 3> arguments{matrix<const bfloat16>(a.data(), 256, 256),
                                                matrix<const bfloat16>(a.data(), 256, 256),
                                                matrix(c.data(), 256, 256)};
  for (const auto& d : {npu_matmul::fast_memory, npu_matmul::slow_memory, far}) {
    const auto cycles = [&](int stages) {
      return codegen::launch(codegen::compile(d, program, {.stages = stages}), {4, 4, 1}, arguments)
          .cycles;
    };
    const std::int64_t chosen = cycles(0);
    for (int stages = 1; stages <= 8; ++stages) {
      CAPTURE(stages);
      CHECK(static_cast<double>(chosen) <= 1.02 * static_cast<double>(cycles(stages)));
    }
  }
}
