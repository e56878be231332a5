// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/logprobs.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <vector>

namespace serve = ashlar::serve;
using serve::token;

namespace {

constexpr float out = -std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::mt19937& random, std::size_t count) {
  std::vector<float> logits;
  for (std::size_t i = 0; i < count; ++i) {  // with ties
    logits.push_back(random() % 7 == 0 ? out : static_cast<float>(random() % 100) / 4 - 12);
  }
  logits[random() % count] = 1;
  return logits;
}

}  // namespace

TEST_CASE("serve/logprobs: they are what a full sort and a sum in quadruple care say") {
  std::mt19937 random(4);
  for (const std::size_t vocabulary : {1u, 2u, 7u, 101u, 1009u}) {
    for (const int top : {0, 1, 2, 5, 2000}) {
      const auto logits = random_logits(random, vocabulary);
      const auto chosen = static_cast<token>(random() % vocabulary);
      long double total = 0;
      for (const float l : logits) {
        total += std::exp(static_cast<long double>(l));
      }
      const auto expected = [&](token t) {
        const float l = logits[static_cast<std::size_t>(t)];
        return l == out ? double{out} : static_cast<double>(l - std::log(total));
      };
      const auto near = [&](const serve::token_logprob& p) {
        // values below 40 and sums of a thousand positive terms, in double precision
        return p.logprob == expected(p.token) || std::abs(p.logprob - expected(p.token)) < 1e-12;
      };
      std::vector<token> order(vocabulary);
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, std::ranges::greater{},
                               [&](token t) { return logits[static_cast<std::size_t>(t)]; });
      const auto found = serve::logprobs_of(logits, chosen, top);
      CHECK(found.chosen.token == chosen);
      CHECK(near(found.chosen));
      CHECK(found.rank == 1 + std::ranges::count_if(logits, [&](float l) {
                            return l > logits[static_cast<std::size_t>(chosen)];
                          }));
      REQUIRE(found.top.size() == std::min(static_cast<std::size_t>(top), vocabulary));
      for (std::size_t i = 0; i < found.top.size(); ++i) {
        CHECK(found.top[i].token == order[i]);
        CHECK(near(found.top[i]));
      }
    }
  }
}

TEST_CASE("serve/logprobs: extreme logits give finite probabilities") {
  const float big = std::numeric_limits<float>::max();
  CHECK(serve::logprobs_of(std::vector<float>{big, -big}, 0).chosen.logprob == 0);
  CHECK(serve::logprobs_of(std::vector<float>{-big}, 0).chosen.logprob == 0);
  CHECK(serve::logprobs_of(std::vector<float>{3, out}, 1).chosen.logprob == double{out});
}

TEST_CASE("serve/logprobs: a prompt's are those of each token in the row before it") {
  std::mt19937 random(5);
  const std::vector<token> prompt{3, 1, 1, 0};
  const auto rows = random_logits(random, 4 * 5);
  const auto found = serve::prompt_logprobs(rows, prompt, 5, 2);
  REQUIRE(found.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto one = serve::logprobs_of(std::span(rows).subspan(i * 5, 5), prompt[i + 1], 2);
    CHECK(found[i].chosen == one.chosen);
    CHECK(found[i].rank == one.rank);
    CHECK(found[i].top == one.top);
  }
  CHECK(serve::prompt_logprobs({}, std::vector<token>{4}, 5).empty());
}
