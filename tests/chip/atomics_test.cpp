// SPDX-License-Identifier: Apache-2.0
// Threads are the test's own, so that ThreadSanitizer, which does not know OpenMP's, sees them.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using host_test::array;

TEST_CASE_TEMPLATE("chip/atomics: programs that want the same places lose nothing", T, std::int32_t,
                   std::int64_t, float) {
  using kernel = tile_kernels::contended<T, 8>;
  using source = al::chip::host_codegen::source<kernel>;
  constexpr std::int64_t programs = 4001;
  constexpr std::int64_t n = programs * 8 - 3;
  constexpr std::int64_t places = 5;
  constexpr int threads = 4;

  // Whole numbers whose sums stay below 2^24: floats add up in any order, too.
  array<T> x({n});
  array<std::int64_t> at({n});
  std::mt19937 random(11);
  array<T> expected({3, places});
  array<T> start({3, places});
  for (std::int64_t i = 0; i < places; ++i) {
    start[places + i] = T(-100);
    start[2 * places + i] = T(100);
  }
  std::copy_n(start.data(), start.size(), expected.data());
  for (std::int64_t i = 0; i < n; ++i) {
    x[i] = static_cast<T>(static_cast<int>(random() % 2001) - 1000);
    at[i] = static_cast<std::int64_t>(random() % (places + 1)) - 1;  // some are outside
    if (at[i] >= 0) {
      expected[at[i]] += x[i];
      expected[places + at[i]] = std::max(expected[places + at[i]], x[i]);
      expected[2 * places + at[i]] = std::min(expected[2 * places + at[i]], x[i]);
    }
  }

  for (int round = 0; round < 3; ++round) {
    array<T> y = start;
    const std::array<tile::argument, 3> arguments{tile::argument(x.in()), tile::argument(at.in()),
                                                  tile::argument(y.out())};
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&, t] {
        for (std::int64_t i = t; i < programs; i += threads) {
          al::chip::host_codegen::execute<source>(arguments.data(), i, i + 1, {programs, 1, 1});
        }
      });
    }
    for (std::thread& one : all) {
      one.join();
    }
    CHECK(host_test::same_bits(y, expected));

    array<T> z = start;
    const al::chip::thread_limit limit(threads);
    al::chip::launch<kernel>({programs, 1, 1}, x.in(), at.in(), z.out());
    CHECK(host_test::same_bits(z, expected));
  }
}
