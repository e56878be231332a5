// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/calibrate.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "ashlar/comm/select.hpp"
#include "ashlar/comm/threads.hpp"

namespace comm = ashlar::comm;

namespace {
/// Within `share` of `x`, however small that is.
doctest::Approx near(double x, double share) { return doctest::Approx(x).epsilon(share).scale(0); }
}  // namespace

TEST_CASE("comm/calibrate: what a simulated network costs is found out by measuring it") {
  // A step is overhead + latency + bytes / bandwidth: exact up to the rounding of the sums, which
  // cancel about four digits.
  for (const int p : {2, 3, 8, 17}) {
    for (const double latency : {1e-7, 2e-6, 5e-5}) {
      for (const double bandwidth : {1e8, 4e9, 3e11}) {
        for (const bool contention : {false, true}) {
          CAPTURE(p);
          CAPTURE(latency);
          CAPTURE(bandwidth);
          const auto found = comm::calibrate(comm::network{
              comm::presets::fully_connected(p, latency, bandwidth), 1e-6, 3e-11, contention});
          CHECK(found.alpha == near(latency + 1e-6, 1e-9));
          CHECK(found.beta == near(1 / bandwidth, 1e-9));
          CHECK(found.gamma == 3e-11);
        }
      }
    }
  }
  // Neighbours on a ring are one link apart; to a switch there are two, each of which stores.
  const auto ring = comm::calibrate({comm::presets::ring(8, 2e-6, 4e9), 0, 0, true});
  CHECK(ring.alpha == near(2e-6, 1e-9));
  CHECK(ring.beta == near(1 / 4e9, 1e-9));
  const auto star = comm::calibrate({comm::presets::switched(8, 2e-6, 4e9), 0, 0, true});
  CHECK(star.alpha == near(4e-6, 1e-9));
  CHECK(star.beta == near(2 / 4e9, 1e-9));
  // Nor does it need a latency: empty messages then take no time.
  const auto bare = comm::calibrate({comm::presets::fully_connected(4, 0, 4e9), 0, 0, false});
  CHECK(bare.alpha >= 0);
  CHECK(bare.alpha < 1e-15);
  CHECK(bare.beta == near(1 / 4e9, 1e-9));
}

TEST_CASE("comm/calibrate: the fit bears noise, and no number is negative") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 100; ++round) {
    CAPTURE(round);
    const double alpha = std::pow(10.0, -7 + static_cast<double>(random() % 30) / 10);
    const double beta = std::pow(10.0, -11 + static_cast<double>(random() % 30) / 10);
    std::vector<comm::sample> samples;
    for (double bytes = 0; bytes < 1e9; bytes = 4 * bytes + 64) {
      const double noise = 0.95 + 0.1 * static_cast<double>(random() % 1001) / 1000;
      samples.push_back({bytes, (alpha + beta * bytes) * noise});
    }
    const auto found = comm::fit(samples);
    // 13 sizes; a handful of them tell each number, each within 5 %.
    CHECK(found.alpha == near(alpha, 0.1));
    CHECK(found.beta == near(beta, 0.1));
    CHECK(found == comm::fit(samples));
  }
  const std::vector<comm::sample> falling{{0, 3e-6}, {1000, 2e-6}, {2000, 1e-6}};
  CHECK(comm::fit(falling).beta == 0);
  CHECK(comm::fit(falling).alpha > 0);
  const std::vector<comm::sample> below{{1000, 1e-6}, {2000, 4e-6}};
  CHECK(comm::fit(below).alpha == 0);
  CHECK(comm::fit(below).beta > 0);
  // Sizes that differ by a few in 10^9; rounding to double moves their times' difference by 2e-7 of
  // it.
  for (const double more : {1.0, 2.0, 7.0}) {
    const std::vector<comm::sample> close{{1e9, 1e-3}, {1e9 + more, 1e-3 + 1e-12 * more}};
    CHECK(comm::fit(close).beta == near(1e-12, 1e-6));
  }
  const std::vector<comm::sample> one{{1000, 1e-6}, {1000, 4e-6}};
  CHECK_THROWS_AS(static_cast<void>(comm::fit(one)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(comm::fit({})), ashlar::argument_error);
  const std::vector<comm::sample> timeless{{0, 0}, {1000, 4e-6}};
  CHECK_THROWS_AS(static_cast<void>(comm::fit(timeless)), ashlar::argument_error);
}

TEST_CASE("comm/calibrate: ranks agree on what they have measured, and choose the same by it") {
  const comm::calibration quick{{0, 1024, 65536}, 3};
  for (const int p : {1, 2, 4}) {
    const auto found = comm::run(p, [&](comm::threads& t) {
      const comm::step_cost cost = comm::calibrate(t, quick);
      const comm::by_cost choice(cost.on(t.size()));
      std::vector<float> data(1000, static_cast<float>(t.rank()));
      comm::all_reduce(t, std::span(data), comm::sum, choice);
      CHECK(data[999] == static_cast<float>(p * (p - 1) / 2));
      return std::pair(cost, choice.pick(1000, 4));
    });
    for (const auto& f : found) {
      CHECK(f == found[0]);
    }
    CHECK(found[0].first.gamma > 0);
    CHECK((p == 1 || found[0].first.alpha + found[0].first.beta > 0));
  }
}

TEST_CASE("comm/calibrate: choices by the calibrated cost are those of the network itself") {
  for (const int p : {6, 8, 16}) {
    const comm::network net{comm::presets::fully_connected(p, 2e-6, 4e9), 1e-6, 3e-11, false};
    const comm::by_cost known(net);
    const comm::by_cost measured(comm::calibrate(net).on(p));
    for (const std::size_t count : {1u, 1000u, 100003u, 1u << 22}) {
      CHECK(known.pick(count, 4) == measured.pick(count, 4));
    }
  }
}
