// SPDX-License-Identifier: Apache-2.0
// Compute times of the planner by measurement: the table between sizes, and products as the
// reference accelerator's simulator counts them.
#include "ashlar/parallel/product_times.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/parallel/measured_products.hpp"
#include "ashlar/parallel/planner.hpp"

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace par = ashlar::parallel;
using doctest::Approx;
using par::product_times;

namespace {

using npu = chip::npu<chip::npu_description{}>;
using on_npu = al::tensor<float, al::make_key_set<al::keys::backend<npu>>>;
using on_host = al::tensor<float, al::make_key_set<al::keys::backend<chip::host>>>;

constexpr double hertz = 1e9;

/// A table of what `cost(m, n, k)` says.
template <class F>
product_times table_of(const product_times::sizes& of, const F& cost) {
  return product_times::measured(of, [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    return cost(static_cast<double>(m), static_cast<double>(n), static_cast<double>(k));
  });
}

}  // namespace

TEST_CASE("parallel/product_times: what costs by blocks, rows and columns is hit everywhere") {
  const auto cost = [](double m, double n, double k) {
    return 1e-6 + 3e-9 * m * k + 2e-9 * n + 5e-12 * m * n * k;
  };
  const auto t = table_of({{16, 64}, {8, 24}, {100, 300}}, cost);
  for (const double m : {16., 48., 64., 640.}) {
    for (const double n : {8., 16., 24., 4096.}) {
      for (const double k : {100., 200., 300., 1e6}) {
        CHECK(t(m, n, k) == Approx(cost(m, n, k)).epsilon(1e-12));  // rounding of eight terms
      }
    }
  }
  CHECK(t(3, 5, 7) == cost(16, 8, 100));  // a block is a block
  CHECK(t(0, 8, 100) == cost(16, 8, 100));
  CHECK(t(17, 24, 201) == Approx(cost(32, 24, 300)).epsilon(1e-12));
  // More sizes: each piece has its own slope.
  const auto bent = [](double m, double, double) { return m <= 8 ? m : 8 + 3 * (m - 8); };
  const auto pieces = table_of({{2, 8, 32}, {1}, {4}}, bent);
  CHECK(pieces(6, 1, 4) == Approx(6));
  CHECK(pieces(5, 1, 4) == Approx(6));
  CHECK(pieces(8, 1, 4) == 8);
  CHECK(pieces(20, 1, 4) == Approx(44));
  CHECK(pieces(64, 1, 4) == Approx(176));
  CHECK(pieces(6, 3, 2) == Approx(18));  // one size along an axis: in proportion above it
  // What a noisy clock says of a larger product does not make the next one cheaper.
  const auto noisy = table_of({{1, 2}, {1}, {1}}, [](double m, double, double) { return 4 - m; });
  CHECK(noisy(2, 1, 1) == 2);
  CHECK(noisy(100, 1, 1) == 2);
}

TEST_CASE("parallel/product_times: an axis that does not rise and a time that is none are errors") {
  const auto one = [](double, double, double) { return 1.0; };
  const std::vector<std::int64_t> good{1, 2};
  for (const std::vector<std::int64_t>& bad :
       {std::vector<std::int64_t>{}, {0, 1}, {2, 2}, {3, 1}, {-1}}) {
    CHECK_THROWS_AS(static_cast<void>(table_of({bad, good, good}, one)), al::argument_error);
    CHECK_THROWS_AS(static_cast<void>(table_of({good, good, bad}, one)), al::argument_error);
  }
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity()}) {
    const auto wrong = [&](double, double, double) { return bad; };
    CHECK_THROWS_AS(static_cast<void>(table_of({good, good, good}, wrong)), al::argument_error);
  }
  CHECK(product_times().empty());
}

TEST_CASE("parallel/product_times: a plan by the simulator's cycles has the simulator's count") {
  par::measured_products<on_npu, chip::npu_clock<npu>> count({hertz});
  const auto table = product_times::measured(par::block_sizes<npu, float>(), count);
  const double cube = count(128, 128, 128);
  CHECK(cube == count(128, 128, 128));                            // the same on every run
  CHECK(cube > 128.0 * 128 * 128 / (16 * 16 * 32) * 64 / hertz);  // of the matrix unit alone
  CHECK(count(256, 128, 128) > 1.5 * cube);  // a doubled size is two blocks in a row
  CHECK(count(128, 256, 128) > 1.5 * cube);
  CHECK(count(128, 128, 256) > 1.5 * cube);
  const par::transformer model{.layers = 1,
                               .width = 128,
                               .heads = 2,
                               .kv_heads = 2,
                               .head_dim = 64,
                               .hidden = 320,
                               .vocabulary = 300,
                               .sequence = 192,
                               .gated = true};
  const double attention = 2 * (count(192, 192, 64) + count(192, 64, 192));
  const double layer =
      4 * count(192, 128, 128) + 2 * count(192, 320, 128) + count(192, 128, 320) + attention;
  const double counted = 3 * (layer + count(192, 300, 128));
  auto rates = par::device_rates::of(npu::description, hertz, 16e9);
  rates.products = table;
  const par::training_job job{model, par::precision::megatron_bf16(), 1};
  const auto net = al::plan::network::ring(1, {1e9, 1e-6});
  const auto found = par::plan(job, rates, net);
  // Blocks over an edge move fewer bytes than whole ones: nothing else differs.
  CHECK(found.best().time.compute >= counted);
  CHECK(found.best().time.compute <= 1.03 * counted);
  rates.products = {};
  CHECK(par::plan(job, rates, net).best().time.compute < counted / 2);  // peaks know no blocks
}

TEST_CASE("parallel/product_times: a plan by this machine's clock adds up a layer's products") {
  par::measured_products<on_host, chip::wall_clock> took({.repetitions = 3});
  const auto table = product_times::measured({{8, 64}, {64}, {64}}, took);
  const par::device_rates rates{.memory_bandwidth = 1e30, .products = table};
  const par::transformer model{.layers = 3,
                               .width = 64,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = 16,
                               .hidden = 256,
                               .vocabulary = 512,
                               .sequence = 32};
  const auto found = par::plan({model, par::precision::megatron_bf16(), 1}, rates,
                               al::plan::network::ring(1, {1e9, 1e-6}));
  const double attention = 4 * (table(32, 32, 16) + table(32, 16, 32));
  const double layer = 2 * table(32, 64, 64) + 2 * table(32, 32, 64) + table(32, 256, 64) +
                       table(32, 64, 256) + attention;
  // Of one rank, forward and twice as much backward; sums in another order.
  CHECK(found.best().time.compute == Approx(3 * (3 * layer + table(32, 512, 64))).epsilon(1e-12));
}
