// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "ashlar/serve/processors.hpp"

/// Laws of `serve::LogitsProcessor`, and a processor that does as little as one may.
namespace ashlar::laws {

/// What is ruled out stays so; logits stay numbers; where `wanted` says no nothing changes; results
/// depend on the arguments alone, whatever the processor did before.
template <serve::LogitsProcessor P>
void check_logits_processor() {
  constexpr float out = -std::numeric_limits<float>::infinity();
  std::mt19937 random(2);
  P used;
  for (const int vocabulary : {1, 2, 3, 61, 64, 65, 1009}) {
    const auto any = [&] {
      return static_cast<serve::token>(random() % static_cast<unsigned>(vocabulary));
    };
    for (int round = 0; round < 40; ++round) {
      std::vector<float> before;
      for (int i = 0; i < vocabulary; ++i) {
        before.push_back(random() % 9 == 0 ? out : static_cast<float>(random() % 81) / 4 - 10);
      }
      std::vector<serve::token> history;
      for (auto i = random() % 100; i-- > 0;) {
        history.push_back(any());
      }
      std::vector<serve::token> forbidden;
      serve::token_mask mask(vocabulary);
      serve::sampling_options options;
      if (random() % 3 != 0) {
        forbidden = {any(), any()};
        options.repetition_penalty = 0.5 + static_cast<double>(random() % 100) / 50;
        options.frequency_penalty = static_cast<double>(random() % 100) / 50 - 1;
        options.presence_penalty = static_cast<double>(random() % 100) / 50 - 1;
        options.logit_bias = {{any(), 7}, {any(), -1000}};
        options.allowed_tokens = {any(), any(), any()};
        options.bad_words = {{any()}, {any(), any()}};
        mask.allow(any());
        options.mask = [&mask](std::span<const serve::token>) { return &mask; };
      }
      const serve::sampling_state state{
          .history = history, .forbidden = forbidden, .prompt_tokens = history.size() / 2};
      auto after = before;
      used.apply(std::span(after), options, state);
      for (std::size_t i = 0; i < before.size(); ++i) {
        CHECK(after[i] < std::numeric_limits<float>::infinity());  // so no NaN either
        CHECK((before[i] != out || after[i] == out));
      }
      CHECK((P::wanted(options, state) || after == before));
      auto again = before;
      P().apply(std::span(again), options, state);
      CHECK(after == again);
    }
  }
}

/// Takes one from the logit of the first token.
struct less_of_the_first {
  static bool wanted(const serve::sampling_options&, const serve::sampling_state&) { return true; }
  static void apply(std::span<float> logits, const serve::sampling_options&,
                    const serve::sampling_state&) {
    logits[0] -= 1;
  }
};

}  // namespace ashlar::laws
