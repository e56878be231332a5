// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory/traces.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/replay.hpp"
#include "ashlar/plan/arena.hpp"
#include "memory/upstreams.hpp"

using namespace ashlar;

namespace {

using upstream = upstreams::paper<6>;

template <class... Policies>
memory::replay_result run(const memory::traces::trace& t) {
  upstream::reset();
  memory::caching_allocator<upstream, Policies...> a;
  return memory::replay(a, t);
}

}  // namespace

TEST_CASE("memory/traces: every made-up program gives back what it took, and reads as it writes") {
  for (const auto& each : memory::traces::all()) {
    const auto& name = each.name;
    const auto& requests = each.requests;
    CAPTURE(name);
    CHECK(memory::read_trace(memory::write_trace(requests)) == requests);
  }
}

TEST_CASE("memory/traces: a model that is too large, or too small to vary, is refused") {
  using memory::traces::training;
  constexpr std::size_t most = ~std::size_t{0};
  CHECK_THROWS_AS(training({1, 8, 1, 1}, 1, true), argument_error);
  CHECK_NOTHROW(training({1, 8, 1, 2}, 3, true));
  CHECK_NOTHROW(training({1, 8, 1, 1}, 1, false));
  for (const memory::traces::model& m :
       {memory::traces::model{1, most, 1, 1}, memory::traces::model{1, 8, most, 1},
        memory::traces::model{1, 8, 1, most}, memory::traces::model{1, 8, 1, 1, most},
        memory::traces::model{1, 8, 1, 8, 8, most},
        memory::traces::model{1, (1 << 22) + 1, 1, 1, 1}}) {
    CHECK_THROWS_AS(training(m, 0, false), argument_error);
  }
  CHECK_NOTHROW(training({1, 1 << 22, 1, 1, 1}, 0, false));  // 2^48 bytes
}

TEST_CASE("memory/traces: new chips reserve at most 0.85 of what PyTorch's rules do") {
  double sum = 0, live = 0;
  const auto all = memory::traces::all();
  for (const auto& [name, requests] : all) {
    const auto ours = run<>(requests), pytorch = run<memory::pytorch_policies>(requests);
    CHECK(ours.peak_live == pytorch.peak_live);
    sum += std::log(static_cast<double>(ours.peak_reserved) /
                    static_cast<double>(pytorch.peak_reserved));
    live += std::log(ours.overhead() + 1);
    MESSAGE(name, ": ", ours.overhead() + 1, " of what lives, PyTorch's ", pytorch.overhead() + 1);
  }
  const double n = static_cast<double>(all.size());
  CHECK(std::exp(sum / n) <= 0.85);
  CHECK(std::exp(live / n) <= 1.25);
}

TEST_CASE("memory/traces: a split limit and expandable segments hold tens of times what lives") {
  const auto requests = memory::traces::split_limit(64);
  CHECK(run<memory::pytorch_expandable_policies<200 * memory::mib>>(requests).overhead() > 20);
  CHECK(run<memory::pytorch_expandable_policies<>>(requests).overhead() < 1);
  CHECK(run<>(requests).overhead() < 1);  // within twice what lives
  CHECK(run<memory::expandable<>>(requests).overhead() < 1);
}

TEST_CASE("memory/traces: a plan from a recorded trace holds it, near what lives at once") {
  const auto requests = memory::traces::training({2, 128, 2, 32}, 2, true);
  const std::vector<plan::lifetime> lives = memory::lifetimes_of(requests);
  const plan::arena a = plan::plan_arena(lives, 512);
  std::size_t peak = run<>(requests).peak_live;
  CHECK(a.bound == static_cast<std::int64_t>(peak));
  CHECK(a.bytes >= a.bound);
  CHECK(a.ratio() < 1.1);
  for (std::size_t i = 0; i < lives.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (plan::meet(lives[i], lives[k])) {
        CHECK((a.offsets[i] >= a.offsets[k] + lives[k].bytes ||
               a.offsets[k] >= a.offsets[i] + lives[i].bytes));
      }
    }
  }
}
