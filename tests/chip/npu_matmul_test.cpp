// SPDX-License-Identifier: Apache-2.0
#include "chip/npu_matmul.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/npu.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/simd/vec.hpp"

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using npu_matmul::blocking;

namespace {

template <class T>
std::vector<T> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> any(-2, 2);
  std::vector<T> v(n);
  for (T& x : v) {
    x = static_cast<T>(std::is_same_v<T, std::int8_t> ? 50 * any(random) : any(random));
  }
  return v;
}

template <class T, class C>
isa::run_report multiply(const chip::npu_description& d, const isa::program& p, std::vector<T>& a,
                         std::vector<T>& b, std::vector<C>& c,
                         const isa::run_options& options = {}) {
  const std::array regions{isa::region::of(std::span(a)), isa::region::of(std::span(b)),
                           isa::region::of(std::span(c))};
  const std::array arguments{regions[0].address, regions[1].address, regions[2].address};
  return isa::simulate(d, p, regions, arguments, options);
}

template <class T, class C>
void check_product(std::int32_t M, std::int32_t N, std::int32_t K, const blocking& t) {
  CAPTURE(M);
  CAPTURE(N);
  CAPTURE(K);
  auto a = random_values<T>(static_cast<std::size_t>(M * K), 1);
  auto b = random_values<T>(static_cast<std::size_t>(K * N), 2);
  std::vector<C> c(static_cast<std::size_t>(M * N), C(-1));
  constexpr auto type = std::is_same_v<T, std::int8_t>        ? isa::element::i8
                        : std::is_same_v<T, ashlar::float16>  ? isa::element::f16
                        : std::is_same_v<T, ashlar::bfloat16> ? isa::element::bf16
                                                              : isa::element::f32;
  multiply(npu_matmul::balanced, npu_matmul::matmul(M, N, K, t, type), a, b, c);
  std::size_t wrong = 0;
  for (std::int32_t i = 0; i < M; ++i) {
    for (std::int32_t j = 0; j < N; ++j) {
      C sum = 0;
      for (std::int32_t k = 0; k < K; ++k) {
        const auto x = static_cast<C>(a[static_cast<std::size_t>(i * K + k)]);
        const auto y = static_cast<C>(b[static_cast<std::size_t>(k * N + j)]);
        if constexpr (std::is_same_v<C, float>) {
          sum = ashlar::simd::madd(x, y, sum);
        } else {
          sum += x * y;
        }
      }
      wrong += sum == c[static_cast<std::size_t>(i * N + j)] ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

/// Cycles of the best blocking, by arithmetic alone: what the simulator is compared with.
struct estimate {
  double compute = 0, dma = 0;
  [[nodiscard]] double ratio() const { return dma / compute; }
  [[nodiscard]] double bound() const { return std::max(compute, dma); }
};
estimate estimate_matmul(const chip::npu_description& d, double M, double N, double K) {
  estimate best;
  best.dma = 1e300;
  best.compute =
      M * N * K * d.matrix_cycles.f16 / (d.matrix_unit[0] * d.matrix_unit[1] * d.matrix_unit[2]);
  for (double m = d.matrix_unit[0]; m <= M; m *= 2) {
    for (double n = d.matrix_unit[1]; n <= N; n *= 2) {
      for (double k = d.matrix_unit[2]; k <= K; k *= 2) {
        const double scratch = 2 * (m * k + k * n) * 2 + 2 * m * n * 4;  // two buffers of each
        const double bytes = M * K * 2 * (N / n) + K * N * 2 * (M / m) + M * N * 4;
        if (scratch <= d.scratchpad_bytes) {
          best.dma = std::min(best.dma, bytes / d.dma_bytes_per_cycle);
        }
      }
    }
  }
  return best;
}

isa::run_report run_512(const chip::npu_description& d, const blocking& t) {
  constexpr std::size_t n = 512 * 512;
  auto a = random_values<ashlar::bfloat16>(n, 1);
  auto b = random_values<ashlar::bfloat16>(n, 2);
  std::vector<float> c(n);
  return multiply(d, npu_matmul::matmul(512, 512, 512, t), a, b, c);
}

}  // namespace

TEST_CASE("chip/npu/matmul: products of any shape have the bits of a chain over k") {
  const blocking small{16, 32, 32, 2};
  for (const auto& [M, N, K] : std::array<std::array<std::int32_t, 3>, 7>{{{1, 1, 1},
                                                                           {16, 32, 32},
                                                                           {17, 31, 33},
                                                                           {64, 64, 64},
                                                                           {5, 97, 61},
                                                                           {1, 200, 64},
                                                                           {100, 1, 7}}}) {
    check_product<ashlar::bfloat16, float>(M, N, K, small);
    check_product<ashlar::float16, float>(M, N, K, small);
    check_product<float, float>(M, N, K, small);
    check_product<std::int8_t, std::int32_t>(M, N, K, small);
  }
  check_product<float, float>(40, 50, 60, {16, 16, 32, 1});
  check_product<float, float>(40, 50, 60, {32, 16, 32, 3});
  check_product<ashlar::bfloat16, float>(0, 5, 5, small);
}

TEST_CASE("chip/npu/matmul: 512 x 512 x 512 in bf16 is bound by compute or by DMA alone") {
  struct expected {
    const chip::npu_description& d;
    double ratio;
  };
  for (const auto& [d, ratio] :
       {expected{npu_matmul::fast_memory, 0.3}, expected{npu_matmul::balanced, 0.9},
        expected{npu_matmul::slow_memory, 3.0}}) {
    const estimate e = estimate_matmul(d, 512, 512, 512);
    const isa::run_report r = run_512(d, {});
    const double cycles = static_cast<double>(r.cycles);
    MESSAGE(std::string(d.name.view()), ": DMA / compute ", e.ratio(), ", cycles ", r.cycles,
            ", of the bound ", cycles / e.bound());
    CHECK(e.ratio() == doctest::Approx(ratio).epsilon(0.03));
    CHECK(cycles >= e.bound());
    CHECK(cycles <= 1.15 * e.bound());
    CHECK(r.bank_conflicts == 0);
    CHECK(static_cast<double>(r.engines[isa::matrix_unit].busy) == e.compute);
    CHECK(r.bytes_loaded == 4 * 1024 * 1024);
    CHECK(r.bytes_stored == 1024 * 1024);
    // The model that chooses blocks is near, too: it stores c in bf16, a tenth of the bytes less.
    const chip::matmul_work work{.element = ashlar::dtype::bfloat16};
    const chip::matmul_blocks chosen = chip::best_blocks(d.general(), work);
    CHECK(chosen.m == 128);
    CHECK(chosen.n == 128);
    const double estimated = chip::estimate(d.general(), work, chosen).cycles;
    CHECK(estimated >= 0.88 * cycles);
    CHECK(estimated <= 1.05 * cycles);
  }
}

TEST_CASE("chip/npu/matmul: without a second buffer the balanced machine takes 1.6 times as long") {
  const isa::run_report pipelined = run_512(npu_matmul::balanced, {});
  const isa::run_report in_turn = run_512(npu_matmul::balanced, {128, 128, 64, 1});
  MESSAGE("pipelined ", pipelined.cycles, ", in turn ", in_turn.cycles);
  CHECK(static_cast<double>(in_turn.cycles) >= 1.6 * static_cast<double>(pipelined.cycles));
}

TEST_CASE("chip/npu/matmul: where copies use the compute units, times add up") {
  for (chip::npu_description d :
       {npu_matmul::fast_memory, npu_matmul::balanced, npu_matmul::slow_memory}) {
    d.copy_uses_compute = true;
    const isa::run_report r = run_512(d, {});
    const estimate e = estimate_matmul(d, 512, 512, 512);
    const double cycles = static_cast<double>(r.cycles);
    MESSAGE(std::string(d.name.view()), ": cycles ", r.cycles, ", of the sum ",
            cycles / (e.compute + e.dma));
    CHECK(cycles >= 0.95 * (e.compute + e.dma));
    CHECK(cycles <= 1.05 * (e.compute + e.dma));
    // The timeline shows why: on the matrix unit's lane no copy overlaps a product.
    const auto& t = r.timeline;
    std::int64_t products = 0;
    std::int64_t copies = 0;
    for (const auto& event : t.events()) {
      if (event.lane == isa::matrix_unit) {
        products += event.category == "compute" ? event.duration : 0;
        copies += event.category == "copy uses compute" ? event.duration : 0;
      }
    }
    CHECK(copies == r.channel_cycles);
    CHECK(products == r.engines[isa::matrix_unit].busy);
  }
}
