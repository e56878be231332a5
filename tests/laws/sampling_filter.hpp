// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "ashlar/serve/sampler.hpp"

/// Laws of `serve::SamplingFilter`, and a filter that does as little as one may.
namespace ashlar::laws {

/// What is left is never nothing, stands in order of ids, was there before, and depends on the
/// arguments alone.
template <serve::SamplingFilter F>
void check_sampling_filter() {
  std::mt19937 random(1);
  for (const int count : {1, 2, 3, 17, 1009}) {
    for (int round = 0; round < 50; ++round) {
      std::vector<serve::candidate> before;
      for (int i = 0; i < count; ++i) {  // ids with gaps, logits with ties
        before.push_back(
            {i * 3 + static_cast<int>(random() % 3), static_cast<float>(random() % 41) / 4 - 5});
      }
      const serve::sampling_options options{
          .temperature = 0.01 + static_cast<double>(random() % 300) / 100,
          .top_k = static_cast<std::int32_t>(random() % 20),
          .top_p = 0.05 + static_cast<double>(random() % 96) / 100,
          .min_p = static_cast<double>(random() % 100) / 100};
      auto after = before;
      F::apply(after, options);
      CHECK(!after.empty());
      CHECK(std::ranges::adjacent_find(after, std::ranges::greater_equal{},
                                       &serve::candidate::id) == after.end());
      for (const serve::candidate& c : after) {
        CHECK(!std::isnan(c.logit));
        CHECK(c.logit < std::numeric_limits<float>::infinity());
        CHECK(std::ranges::binary_search(before, c.id, {}, &serve::candidate::id));
      }
      auto again = before;
      F::apply(again, options);
      CHECK(std::ranges::equal(after, again, [](const auto& a, const auto& b) {
        return a.id == b.id && a.logit == b.logit;
      }));
    }
  }
}

/// Leaves one.
struct first_alone {
  static void apply(std::vector<serve::candidate>& candidates, const serve::sampling_options&) {
    candidates.resize(1);
  }
};

}  // namespace ashlar::laws
