// SPDX-License-Identifier: Apache-2.0
// How much memory blocks waste and sharing saves, on lengths like those of two data sets. Counted:
// no model and no time is in it.
#include "ashlar/kv/usage.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <list>
#include <random>
#include <vector>

namespace kv = ashlar::kv;

namespace {

/// Mean lengths of prompt and output (PagedAttention, figure 11); log-normal around them.
struct length_mix {
  double prompt;
  double output;
};
constexpr length_mix sharegpt{161.3, 338.0};
constexpr length_mix alpaca{19.3, 58.5};
constexpr int longest = 2048;

struct averages {
  double waste = 0;
  double sharing = 0;
  double contiguous_waste = 0;  ///< of `longest` places for each sequence
};

/// `groups` requests at a time, each sampled `samples` times; one that ends is followed by another.
averages simulate(length_mix mix, int groups, int samples, std::int32_t block_tokens) {
  struct group {
    std::vector<kv::block_table> tables;
    int left = 0;  ///< samples of a request are equally long, as in the paper's benchmark
  };
  std::mt19937 random(5);
  const auto draw = [&random](double mean, int most) {
    std::lognormal_distribution<double> lengths(std::log(mean) - 0.5, 1.0);
    return std::clamp(static_cast<int>(lengths(random)), 1, most);
  };
  kv::block_pool pool(groups * samples * (longest / block_tokens + 1));
  std::list<group> running;
  averages sum;
  constexpr int steps = 4500;
  constexpr int warm_up = 500;
  for (int step = 0; step < steps; ++step) {
    while (std::ssize(running) < groups) {
      group& g = running.emplace_back();
      g.tables.emplace_back(pool, block_tokens);
      g.tables.front().append(draw(mix.prompt, longest / 2));
      for (int i = 1; i < samples; ++i) {
        g.tables.push_back(g.tables.front().fork());
      }
      g.left = draw(mix.output, longest / 2);
    }
    std::vector<const kv::block_table*> all;
    std::int64_t tokens = 0;
    for (group& g : running) {
      for (kv::block_table& table : g.tables) {
        table.append(1);
      }
      for (const kv::block_table& table : g.tables) {
        all.push_back(&table);
        tokens += table.tokens();
      }
    }
    if (step >= warm_up) {
      const auto now = kv::measure(
          pool, block_tokens, all,
          [](const kv::block_table* table) -> const kv::block_table& { return *table; });
      sum.waste += now.waste() / (steps - warm_up);
      sum.sharing += now.sharing() / (steps - warm_up);
      sum.contiguous_waste +=
          (1 - static_cast<double>(tokens) / static_cast<double>(std::ssize(all) * longest)) /
          (steps - warm_up);
    }
    std::erase_if(running, [](group& g) { return --g.left == 0; });
  }
  running.clear();
  CHECK(pool.used() == 0);
  return sum;
}

}  // namespace

TEST_CASE("kv/usage: blocks of 16 waste less than 4 % where sequences are long") {
  const averages a = simulate(sharegpt, 64, 1, 16);
  MESSAGE("waste in blocks of 16: " << a.waste << ", contiguous: " << a.contiguous_waste);
  CHECK(a.waste < 0.04);
  CHECK(a.sharing == 0);
  CHECK(a.contiguous_waste > 0.6);
  CHECK(simulate(sharegpt, 64, 1, 1).waste == 0);
  CHECK(simulate(sharegpt, 64, 1, 128).waste > a.waste);
}

TEST_CASE("kv/usage: parallel samples share their prompts, at least as much as the paper counted") {
  // PagedAttention, 6.3: blocks of 16, from 2 to 6 samples. Beams: serve/llama_invariance_test.cpp.
  const double two = simulate(sharegpt, 16, 2, 16).sharing;
  const double six = simulate(sharegpt, 16, 6, 16).sharing;
  const double two_short = simulate(alpaca, 16, 2, 16).sharing;
  const double six_short = simulate(alpaca, 16, 6, 16).sharing;
  MESSAGE("sharing: " << two << " to " << six << ", short: " << two_short << " to " << six_short);
  CHECK(two >= 0.162);
  CHECK(six >= 0.305);
  CHECK(two_short >= 0.061);
  CHECK(six_short >= 0.098);
}
