// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/parallel.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace {
namespace chip = ashlar::chip;
}

TEST_CASE("chip/parallel: chunks cover every index once, in one piece per thread") {
  for (const int threads : {1, 2, 3, 8}) {
    const chip::thread_limit limit(threads);
    for (const std::int64_t n : {0, 1, 2, 7, 16, 1000}) {
      for (const std::int64_t grain : {0, 1, 5, 2000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        std::atomic<int> calls{0};
        chip::parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          ++calls;
          for (std::int64_t i = begin; i < end; ++i) {
            ++seen[static_cast<std::size_t>(i)];
          }
        });
        for (const auto& count : seen) {
          CHECK(count == 1);
        }
        CHECK(calls <= threads);
        CHECK((calls == 0) == (n == 0));
      }
    }
  }
}

TEST_CASE("chip/parallel: one chunk runs on the calling thread") {
  const auto me = std::this_thread::get_id();
  chip::parallel_for(10, 10, [&](std::int64_t begin, std::int64_t end) {
    CHECK(begin == 0);
    CHECK(end == 10);
    CHECK(std::this_thread::get_id() == me);
  });
}

TEST_CASE("chip/parallel: a loop inside a loop runs inline") {
  const chip::thread_limit limit(2);
  std::atomic<int> wrong{0};
  chip::parallel_for(2, 1, [&](std::int64_t first, std::int64_t last) {
    if (last - first == 2) {
      return;  // one thread was to be had
    }
    const auto me = std::this_thread::get_id();
    chip::parallel_for(100, 1, [&](std::int64_t begin, std::int64_t end) {
      wrong += std::this_thread::get_id() != me || begin != 0 || end != 100;
    });
  });
  CHECK(wrong == 0);
}

TEST_CASE("chip/parallel: an exception arrives at the caller, and the next loop works") {
  for (const int threads : {1, 3}) {
    const chip::thread_limit limit(threads);
    const auto fail = [] {
      chip::parallel_for(100, 1,
                         [](std::int64_t, std::int64_t) { throw std::runtime_error("chunk"); });
    };
    CHECK_THROWS_AS(fail(), std::runtime_error);
    std::atomic<std::int64_t> total{0};
    chip::parallel_for(100, 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
    CHECK(total == 100);
  }
}

TEST_CASE("chip/parallel: a limit holds for its scope and its thread") {
  const int before = chip::host_threads();
  CHECK(before >= 1);
  {
    const chip::thread_limit limit(1);
    CHECK(chip::host_threads() == 1);
    int elsewhere = 0;
    std::thread([&] { elsewhere = chip::host_threads(); }).join();
    CHECK(elsewhere == before);
    {
      const chip::thread_limit back(0);
      CHECK(chip::host_threads() == before);
    }
    CHECK(chip::host_threads() == 1);
  }
  CHECK(chip::host_threads() == before);
}
