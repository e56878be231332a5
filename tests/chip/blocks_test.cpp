// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/blocks.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <type_traits>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "chip/npu_matmul.hpp"
#include "laws/block_policy.hpp"

namespace al = ashlar;
namespace chip = ashlar::chip;
using al::chip_description;
using al::dtype;
using chip::matmul_blocks;
using chip::matmul_work;

namespace {

constexpr chip_description bare{.name = "bare"};
constexpr chip_description wide{
    .name = "wide", .vector_bytes = 64, .scratchpad_bytes = 1 << 20, .dma_engines = 2};
constexpr chip_description one_copier{.name = "copies",
                                      .matrix_unit = {8, 8, 16},
                                      .scratchpad_bytes = 64 * 1024,
                                      .dma_engines = 1,
                                      .matrix_cycles = {8, 4, 2},
                                      .matrix_latency = 20,
                                      .copy_uses_compute = true};
const std::array all{chip::host::description,
                     bare,
                     wide,
                     one_copier,
                     chip::npu_description{}.general(),
                     npu_matmul::fast_memory.general(),
                     npu_matmul::balanced.general(),
                     npu_matmul::slow_memory.general()};
constexpr std::array elements{dtype::float32, dtype::bfloat16, dtype::float16, dtype::int8,
                              dtype::float64};

/// Bytes of the scratchpad that a product's blocks need, counted tile by tile.
std::int64_t counted_bytes(const chip_description& d, dtype e, const matmul_blocks& b) {
  const auto size = static_cast<std::int64_t>(al::size_of(e));
  const std::int64_t sum = e == dtype::float64 ? 8 : 4;
  std::int64_t bytes = 0;
  for (int buffer = 0; buffer < (d.dma_engines > 0 ? 2 : 1); ++buffer) {
    bytes += std::int64_t{b.m} * b.k * size + std::int64_t{b.k} * b.n * size;
    bytes += d.register_bytes > 0 ? 0 : std::int64_t{b.m} * b.n * sum;
  }
  return bytes + (d.register_bytes > 0 || size == sum ? 0 : std::int64_t{b.m} * b.n * size);
}

/// All multiples of the unit by powers of two, with no regard to what fits.
template <class F>
void each_multiple(const chip_description& d, const matmul_work& w, const F& f) {
  const auto unit = chip::detail::product_unit(d, w.element);
  for (std::int64_t m = unit[0]; m < 2 * std::max<std::int64_t>(w.m, unit[0]); m *= 2) {
    for (std::int64_t n = unit[1]; n < 2 * std::max<std::int64_t>(w.n, unit[1]); n *= 2) {
      for (std::int64_t k = unit[2]; k < 2 * std::max<std::int64_t>(w.k, unit[2]); k *= 2) {
        f(matmul_blocks{static_cast<int>(m), static_cast<int>(n), static_cast<int>(k)});
      }
    }
  }
}

}  // namespace

TEST_CASE("chip/blocks: what a product needs of the scratchpad is what its tiles take") {
  for (const chip_description& d : all) {
    for (const dtype e : elements) {
      const matmul_work w{.m = 100, .n = 64, .k = 300, .element = e};
      each_multiple(d, w, [&](const matmul_blocks& b) {
        const auto c = estimate(d, w, b);
        REQUIRE(c.bytes == counted_bytes(d, e, b));
        REQUIRE((!c.fits || c.bytes <= static_cast<std::int64_t>(d.scratchpad_bytes)));
        const std::int64_t sums = std::int64_t{b.m} * b.n * (e == dtype::float64 ? 8 : 4);
        REQUIRE((!c.fits || d.register_bytes == 0 ||
                 sums < static_cast<std::int64_t>(d.register_bytes)));
      });
    }
  }
}

TEST_CASE("chip/blocks: the blocks of a product are the cheapest of all that fit") {
  for (const chip_description& d : all) {
    for (const dtype e : elements) {
      for (const auto& s : std::array<std::array<std::int64_t, 3>, 5>{
               {{512, 512, 512}, {1, 2048, 2048}, {100, 7, 33}, {1, 1, 1}, {64, 512, 3000}}}) {
        const matmul_work w{.m = s[0], .n = s[1], .k = s[2], .element = e};
        const matmul_blocks chosen = best_blocks(d, w);
        const auto cost = estimate(d, w, chosen);
        CAPTURE(std::string(d.name));
        CHECK(cost.fits);
        int cheaper = 0;
        each_multiple(d, w, [&](const matmul_blocks& b) {
          const auto c = estimate(d, w, b);
          cheaper += c.fits && (c.cycles < cost.cycles ||
                                (c.cycles == cost.cycles && c.bytes < cost.bytes))
                         ? 1
                         : 0;
        });
        CHECK(cheaper == 0);
      }
    }
  }
}

TEST_CASE("chip/blocks: rows and queries are the cheapest that fit") {
  for (const chip_description& d : all) {
    for (const dtype e : elements) {
      for (const int inputs : {0, 1, 2, 4}) {
        const chip::row_work w{.inputs = inputs, .element = e};
        const int chosen = best_blocks(d, w);
        const auto cost = estimate(d, w, chosen);
        CHECK(cost.fits);
        for (int b = 1; b <= 2048; b *= 2) {
          const auto c = estimate(d, w, b);
          const bool vectors =
              b * chip::detail::sum_bytes(e) >= static_cast<std::int64_t>(d.vector_bytes);
          CHECK((!c.fits || !vectors || c.cycles >= cost.cycles));
        }
      }
      const chip::attention_work a{.element = e};
      const int queries = best_blocks(d, a);
      const auto cost = estimate(d, a, queries);
      for (int m = chip::detail::product_unit(d, e)[0]; m <= 512; m *= 2) {
        const auto c = estimate(d, a, m);
        CHECK((!c.fits || (cost.fits && c.cycles >= cost.cycles)));
      }
      CHECK((cost.fits || queries == 16));
    }
  }
}

TEST_CASE("chip/blocks: more scratchpad, registers or memory speed never make an estimate worse") {
  const auto check = [](const chip_description& less, const chip_description& more) {
    for (const dtype e : elements) {
      const matmul_work w{.element = e};
      CHECK(estimate(more, w, best_blocks(more, w)).cycles <=
            estimate(less, w, best_blocks(less, w)).cycles);
      const chip::row_work r{.element = e};
      CHECK(estimate(more, r, best_blocks(more, r)).cycles <=
            estimate(less, r, best_blocks(less, r)).cycles);
      const chip::attention_work a{.element = e};
      if (estimate(less, a, best_blocks(less, a)).fits) {
        CHECK(estimate(more, a, best_blocks(more, a)).cycles <=
              estimate(less, a, best_blocks(less, a)).cycles);
      }
    }
  };
  for (const chip_description& d : all) {
    chip_description before = d;
    for (before.scratchpad_bytes = 8 * 1024; before.scratchpad_bytes < 2 * 1024 * 1024;) {
      chip_description after = before;
      after.scratchpad_bytes += after.scratchpad_bytes / 3;
      check(before, after);
      before = after;
    }
    if (d.register_bytes > 0) {
      chip_description more = d;
      more.register_bytes *= 2;
      check(d, more);
    }
    chip_description faster = d;
    faster.memory_bytes_per_cycle *= 2;
    check(d, faster);
  }
}

TEST_CASE(
    "chip/blocks: the three machines of the manual take 128 x 128 sums, as its page derives") {
  for (const auto& machine :
       {npu_matmul::fast_memory, npu_matmul::balanced, npu_matmul::slow_memory}) {
    const chip_description d = machine.general();
    const matmul_work w{.element = dtype::bfloat16};
    const matmul_blocks b = best_blocks(d, w);
    CHECK(b.m == 128);
    CHECK(b.n == 128);
    // 5 MiB: a is read 512 / 128 times, b 512 / 128 times, c is written once (bf16 here).
    const auto c = estimate(d, w, b);
    const double bytes = 2.0 * 512 * 512 * 2 * 4 + 2.0 * 512 * 512;
    CHECK(c.memory == doctest::Approx(bytes / machine.dma_bytes_per_cycle).epsilon(1e-12));
    const double products = 512.0 * 512 * 512 / 1024;
    CHECK(c.compute >= products);
    CHECK(c.compute <= 1.1 * products);
    CHECK(c.cycles >= std::max(c.compute, c.memory));
    chip_description shared = d;
    shared.copy_uses_compute = true;
    CHECK(estimate(shared, w, b).cycles >= c.compute + c.memory);
  }
}

namespace {

/// The least that a policy has.
struct sixteen {
  static constexpr int fold = 16;
  static constexpr matmul_blocks product(const chip_description&, const matmul_work&) {
    return {16, 16, 16};
  }
  static constexpr int row(const chip_description&, const chip::row_work&) { return 16; }
  static constexpr int queries(const chip_description&, const chip::attention_work&) { return 16; }
};
struct own_blocks {
  using blocks = sixteen;
};
struct no_blocks {};

static_assert(chip::BlockPolicy<sixteen> && chip::BlockPolicy<chip::default_blocks>);
static_assert(!chip::BlockPolicy<no_blocks>);
static_assert(std::is_same_v<chip::blocks_of<own_blocks>, sixteen>);
static_assert(std::is_same_v<chip::blocks_of<no_blocks>, chip::default_blocks>);

// Constant expressions, within the default limits of both compilers.
constexpr matmul_blocks on_host =
    chip::default_blocks::product(chip::host::description, matmul_work{});
static_assert(on_host.n % 16 == 0 && on_host.m > 1);
constexpr matmul_blocks on_npu =
    chip::default_blocks::product(chip::npu_description{}.general(), matmul_work{});
static_assert(on_npu.m == 128 && on_npu.n == 128);

static_assert(al::laws::constant_blocks<chip::default_blocks, chip::host>);
static_assert(al::laws::constant_blocks<sixteen, chip::host>);

}  // namespace

TEST_CASE_TEMPLATE("chip/blocks: the laws of a block policy hold on every chip", Policy,
                   chip::default_blocks, sixteen) {
  for (const chip_description& d : all) {
    al::laws::check_block_policy<Policy>(d);
  }
}
