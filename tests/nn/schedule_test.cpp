// SPDX-License-Identifier: Apache-2.0
#include "ashlar/nn/schedule.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numbers>

namespace nn = ashlar::nn;

namespace {
constexpr nn::warmup_cosine schedule{.peak = 2.0, .floor = 0.5, .warmup = 10, .total = 110};
static_assert(schedule(9) == 2.0 && schedule(110) == 0.5, "a schedule is a constant expression");
}  // namespace

TEST_CASE("nn/schedule: the rate rises linearly, falls along half a cosine and stays") {
  CHECK(schedule(0) == doctest::Approx(0.2).epsilon(1e-15));
  CHECK(schedule(4) == doctest::Approx(1.0).epsilon(1e-15));
  CHECK(schedule(10) == 2.0);
  CHECK(schedule(60) == doctest::Approx(1.25).epsilon(1e-15));
  CHECK(schedule(1'000'000) == 0.5);
  for (std::int64_t step = 10; step < 110; ++step) {
    const double angle = std::numbers::pi * static_cast<double>(step - 10) / 100.0;
    const double expected = 0.5 + 1.5 * 0.5 * (1.0 + std::cos(angle));
    // The series and the library's cosine are each within an ulp or two of 1.
    CHECK(std::abs(schedule(step) - expected) <= 1e-15);
    CHECK(schedule(step + 1) < schedule(step));
  }
}

TEST_CASE("nn/schedule: no warm-up and no decay are fine") {
  constexpr nn::warmup_cosine plain{.peak = 1.0, .total = 4};
  CHECK(plain(0) == 1.0);
  CHECK(plain(4) == 0.0);
  constexpr nn::warmup_cosine only_warmup{.peak = 1.0, .warmup = 4, .total = 4};
  CHECK(only_warmup(3) == 1.0);
  CHECK(only_warmup(4) == 0.0);
  constexpr nn::warmup_cosine constant{.peak = 1.0, .floor = 1.0, .total = 10};
  CHECK(constant(3) == 1.0);
}
