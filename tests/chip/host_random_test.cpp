// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>

#include "ashlar/chip/host/random.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using host_test::array;
using host_test::scattered;

TEST_CASE("chip/host/random: a fill continues where its offset says, in any layout") {
  for (const std::int64_t n : {0, 1, 3, 4, 5, 17, 1001}) {
    array<float> whole({n + 8});
    hk::random_normal(whole.out(), 42, 0);
    array<float> rest({n});
    hk::random_normal(rest.out(), 42, 2);  // two blocks are eight floats
    bool same = true;
    for (std::int64_t i = 0; i < n; ++i) {
      same = same && rest[i] == whole[i + 8];
    }
    CHECK(same);
  }
  CHECK(hk::random_blocks<float>(9) == 3);
  CHECK(hk::random_blocks<double>(9) == 5);
  array<double> a({5, 7, 3});
  auto b = scattered(a);
  hk::random_uniform(a.out(), 1, 2);
  hk::random_uniform(b.out(), 1, 2);
  CHECK(host_test::same_bits(a, b));
}

TEST_CASE("chip/host/random: seeds and offsets give different numbers") {
  array<float> a({64});
  array<float> b({64});
  hk::random_uniform(a.out(), 1, 0);
  hk::random_uniform(b.out(), 2, 0);
  CHECK(!host_test::same_bits(a, b));
  hk::random_uniform(b.out(), 1, 1);
  CHECK(!host_test::same_bits(a, b));
}

TEST_CASE("chip/host/random: uniform numbers fill [0, 1) evenly") {
  constexpr std::int64_t n = 1 << 18;
  array<float> u({n});
  hk::random_uniform(u.out(), 7, 0);
  std::array<int, 64> bins{};
  bool inside = true;
  for (std::int64_t i = 0; i < n; ++i) {
    inside = inside && u[i] >= 0.0f && u[i] < 1.0f;
    ++bins[static_cast<std::size_t>(u[i] * 64.0f)];
  }
  CHECK(inside);
  double chi2 = 0.0;
  for (const int count : bins) {
    const double expected = double(n) / 64.0;
    chi2 += (count - expected) * (count - expected) / expected;
  }
  // 63 degrees of freedom: above 120 with probability 2e-5, and the seed is fixed.
  CHECK(chi2 < 120.0);
  array<ashlar::float16> half({1 << 14});
  hk::random_uniform(half.out(), 7, 0);
  for (std::int64_t i = 0; i < half.size(); ++i) {
    inside = inside && static_cast<float>(half[i]) < 1.0f;
  }
  CHECK(inside);
}

TEST_CASE("chip/host/random: normal numbers have the moments of the normal distribution") {
  constexpr std::int64_t n = 1 << 18;
  array<double> z({n});
  hk::random_normal(z.out(), 7, 0, 3.0, 2.0);
  double moment[5] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = (z[i] - 3.0) / 2.0;
    double power = 1.0;
    for (double& m : moment) {
      m += power / double(n);
      power *= x;
    }
  }
  // Standard errors are sqrt(1, 2, 15, 96) / 512; five of them.
  CHECK(std::abs(moment[1]) < 0.01);
  CHECK(std::abs(moment[2] - 1.0) < 0.014);
  CHECK(std::abs(moment[3]) < 0.038);
  CHECK(std::abs(moment[4] - 3.0) < 0.096);
}

TEST_CASE("chip/host/random: threads do not change a bit") {
  CHECK(host_test::threads_agree([] {
    array<float> z({100003});
    hk::random_normal(z.out(), 5, 9);
    return z;
  }));
}
