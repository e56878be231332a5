// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/step_timeline.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace par = ashlar::parallel;
using doctest::Approx;
using par::prefetch;

namespace {

/// Units whose collectives are shorter than computation, in whole nanoseconds.
std::vector<par::unit_cost> units_of(std::size_t n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto between = [&](std::uint64_t low, std::uint64_t high) {
    return static_cast<double>(low + random() % (high - low + 1));
  };
  std::vector<par::unit_cost> units(n);
  for (par::unit_cost& u : units) {
    const double elements = between(1000, 4000);
    u = {between(900, 1200) * 1e-9,
         between(1800, 2400) * 1e-9,
         between(200, 400) * 1e-9,
         between(200, 400) * 1e-9,
         2 * elements,
         4 * elements};
  }
  return units;
}

par::simulated_step run(const std::vector<par::unit_cost>& units, prefetch how,
                        bool copy_uses_compute = false) {
  return par::simulate_fsdp(
      units, {.prefetch = how, .forward_prefetch = false, .copy_uses_compute = copy_uses_compute});
}

}  // namespace

TEST_CASE(
    "parallel/step_timeline: gathering earlier hides more and holds more, as the model says") {
  int strict = 0;
  for (const std::size_t n : {2u, 3u, 7u, 32u}) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(n);
      CAPTURE(seed);
      auto units = units_of(n, seed);
      if (seed % 2 == 0) {  // as where layers are larger than an embedding and an output
        units.front().parameters = units.back().parameters = 2 * 1000;
        units.front().gradients = units.back().gradients = 4 * 1000;
      }
      const auto none = run(units, prefetch::none);
      const auto post = run(units, prefetch::post);
      const auto pre = run(units, prefetch::pre);
      CHECK(none.overlap.share() == 0.0);
      CHECK(post.overlap.share() > none.overlap.share());
      CHECK(pre.overlap.share() > post.overlap.share());
      CHECK(post.seconds < none.seconds);
      CHECK(pre.seconds < post.seconds);
      // One unit is whole at a time, or two.
      CHECK(post.peak.parameters == none.peak.parameters);
      CHECK(pre.peak.parameters > post.peak.parameters);
      // With gradients each step ahead holds more, but where the first or the last unit needs more
      // alone than others with what is beside them.
      CHECK(post.peak.together >= none.peak.together);
      CHECK(pre.peak.together >= post.peak.together);
      const auto size = [&](std::size_t i) { return units[i].parameters; };
      if (n > 2 && size(n - 1) <= size(n - 2) && size(0) <= std::min(size(1), size(2))) {
        ++strict;
        CHECK(post.peak.together > none.peak.together);
        CHECK(pre.peak.together > post.peak.together);
      }
      // What moves is the same.
      CHECK(pre.overlap.communication == none.overlap.communication);
      par::precision p;
      p.parameter = 2;
      p.gradient = 4;
      std::vector<double> elements;
      for (const par::unit_cost& u : units) {
        elements.push_back(u.parameters / 2);
      }
      // Gathering ahead begins while the unit before is whole, so the model is exact.
      CHECK(par::fsdp_peak(elements, p, prefetch::none) == none.peak);
      CHECK(par::fsdp_peak(elements, p, prefetch::post) == post.peak);
      CHECK(par::fsdp_peak(elements, p, prefetch::pre) == pre.peak);
    }
  }
  CHECK(strict >= 3 * 10);
}

TEST_CASE("parallel/step_timeline: on a chip whose transfers use its units nothing is gained") {
  const auto units = units_of(9, 3);
  double all = 0;
  for (const par::unit_cost& u : units) {
    all += u.forward + u.backward + 2 * u.gather + u.scatter;
  }
  for (const prefetch how : {prefetch::none, prefetch::post, prefetch::pre}) {
    const auto s = run(units, how, true);
    CHECK(s.seconds == Approx(all).epsilon(1e-12));
    CHECK(s.overlap.hidden == 0);
  }
}

TEST_CASE("parallel/step_timeline: steps take what closed forms say") {
  constexpr std::size_t n = 5;
  const std::vector<par::unit_cost> units(n, {10e-6, 20e-6, 3e-6, 4e-6, 100, 200});
  const double compute = n * 30e-6;
  CHECK(run(units, prefetch::none).seconds == Approx(compute + n * 10e-6).epsilon(1e-12));
  // Gathers are waited for; of the scatters, the last.
  CHECK(run(units, prefetch::post).seconds == Approx(compute + 2 * n * 3e-6 + 4e-6).epsilon(1e-12));
  CHECK(run(units, prefetch::pre).seconds ==
        Approx(compute + n * 3e-6 + 3e-6 + 4e-6).epsilon(1e-12));
  // One unit; one and a second one's gradients; two and their gradients.
  CHECK(run(units, prefetch::none).peak.together == 300);
  CHECK(run(units, prefetch::post).peak.together == 500);
  CHECK(run(units, prefetch::pre).peak.together == 600);
  const auto best = par::simulate_fsdp(units);
  CHECK(best.seconds == Approx(compute + 2 * 3e-6 + 4e-6).epsilon(1e-12));
  CHECK(best.timeline.events().size() == n * 5);
  CHECK(best.overlap.communication == static_cast<std::int64_t>(n) * 10000);
  CHECK(best.overlap.hidden == static_cast<std::int64_t>(n) * 10000 - 10000);
  // Units that stay whole are gathered once: 2 M are moved, not 3 M.
  const auto kept = par::simulate_fsdp(units, {.reshard_after_forward = false});
  CHECK(kept.seconds == Approx(compute + 3e-6 + 4e-6).epsilon(1e-12));
  CHECK(kept.overlap.communication == static_cast<std::int64_t>(n) * 7000);
  CHECK(kept.peak.parameters == n * 100);
  // Where transfers take longer, they are all that counts.
  const std::vector<par::unit_cost> slow(n, {1e-6, 2e-6, 30e-6, 40e-6, 100, 200});
  CHECK(par::simulate_fsdp(slow).seconds >= n * 100e-6);

  const std::vector<par::divided_layer_cost> layers(3, {10e-6, 20e-6, 5e-6});
  const auto divided = par::simulate_tensor_parallel(layers, 4, "chip");
  CHECK(divided.seconds == Approx(3 * (30e-6 + 4 * 5e-6)).epsilon(1e-12));
  CHECK(divided.overlap.share() == 0.0);
  CHECK(std::ranges::count(divided.timeline.events(), std::string("reduce"),
                           &ashlar::trace::event::name) == 12);
  CHECK(divided.timeline.events()[0].process == 4);
  CHECK(par::simulate_fsdp({}).seconds == 0);
}
