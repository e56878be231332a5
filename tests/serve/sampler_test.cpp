// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "laws/sampling_filter.hpp"

namespace serve = ashlar::serve;
using serve::token;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<double> softmax(const std::vector<double>& logits) {
  const double best = *std::ranges::max_element(logits);
  std::vector<double> p;
  for (const double l : logits) {
    p.push_back(std::exp(l - best));
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) {
    x /= total;
  }
  return p;
}

/// The distribution in the order temperature, min_p, top_k, top_p, by full sorts and masks.
std::vector<double> naive_distribution(const std::vector<float>& logits,
                                       const serve::sampling_options& o) {
  constexpr double masked = -std::numeric_limits<double>::infinity();
  std::vector<double> l(logits.begin(), logits.end());
  for (double& x : l) {
    x /= o.temperature;
  }
  const auto p = softmax(l);
  const double best = *std::ranges::max_element(p);
  for (std::size_t i = 0; i < l.size(); ++i) {
    l[i] = p[i] < o.min_p * best ? masked : l[i];
  }
  if (o.top_k > 0 && o.top_k < std::ssize(l)) {
    auto sorted = l;
    std::ranges::sort(sorted, std::ranges::greater{});
    const double least = sorted[static_cast<std::size_t>(o.top_k) - 1];
    for (double& x : l) {
      x = x < least ? masked : x;
    }
  }
  const auto q = softmax(l);
  std::vector<std::size_t> order(l.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return l[a] > l[b]; });
  double before = 0;
  for (const std::size_t i : order) {
    if (o.top_p < 1 && before >= o.top_p) {
      l[i] = masked;
    }
    before += q[i];
  }
  return softmax(l);
}

template <class Sampler = serve::vllm_sampler>
std::vector<double> drawn(const std::vector<float>& logits, const serve::sampling_options& o,
                          int draws) {
  Sampler sample;
  std::vector<double> share(logits.size());
  for (int i = 0; i < draws; ++i) {
    const token t = sample(logits, o, {{}, {}, static_cast<std::uint64_t>(i)});
    share[static_cast<std::size_t>(t)] += 1.0 / draws;
  }
  return share;
}

}  // namespace

TEST_CASE_TEMPLATE("serve/sampler: the laws of a filter hold", Filter, serve::filters::temperature,
                   serve::filters::min_p, serve::filters::top_k, serve::filters::top_p,
                   ashlar::laws::first_alone) {
  ashlar::laws::check_sampling_filter<Filter>();
}

TEST_CASE("serve/sampler: it asks no more of a filter than the concept does") {
  serve::sampler<ashlar::laws::first_alone> sample;
  const std::vector<float> logits{1, 2, 3, 4};
  const std::vector<token> history{0};
  const std::vector<token> forbidden{0};
  CHECK(sample(logits, {.temperature = 1}, {history, forbidden, 5}) == 1);
  CHECK(sample(logits, {.temperature = 0}, {history, forbidden, 5}) == 3);
}

TEST_CASE("serve/sampler: greedy takes the largest logit, and of equal ones the lowest id") {
  serve::vllm_sampler sample;
  const std::vector<float> logits{-1, 3, 2, 3, -inf};
  CHECK(sample(logits, {}, {}) == 1);
  CHECK(sample(logits, {.temperature = 1e-6}, {}) == 1);
  CHECK(sample(std::vector<float>{-5}, {}, {}) == 0);
  CHECK(sample(std::vector<float>{0, 0, 0}, {}, {}) == 0);
}

TEST_CASE("serve/sampler: forbidden tokens are not chosen") {
  serve::vllm_sampler sample;
  const std::vector<float> logits{1, 3, 2};
  const std::array<token, 1> one{1};
  CHECK(sample(logits, {}, {{}, one, 0}) == 2);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    CHECK(sample(logits, {.temperature = 5}, {{}, one, seed}) != 1);
  }
  const std::array<token, 3> all{0, 1, 2};
  CHECK_THROWS_AS(sample(logits, {}, {{}, all, 0}), serve::bad_logits);
}

TEST_CASE("serve/sampler: the repetition penalty divides positive and multiplies negative logits") {
  serve::vllm_sampler sample;
  const std::array<token, 3> history{1, 1, 2};
  // 3 / 2 = 1.5 once, though the token stands twice in the history
  CHECK(sample(std::vector<float>{1.6F, 3, -1}, {.repetition_penalty = 2}, {history, {}, 0}) == 0);
  CHECK(sample(std::vector<float>{1.4F, 3, -1}, {.repetition_penalty = 2}, {history, {}, 0}) == 1);
  CHECK(sample(std::vector<float>{-1.6F, -5, -1}, {.repetition_penalty = 2}, {history, {}, 0}) ==
        0);
}

TEST_CASE("serve/sampler: logits that are no numbers are refused with the position") {
  serve::vllm_sampler sample;
  const std::array<token, 2> history{0, 0};
  for (const std::vector<float>& logits :
       {std::vector<float>{1, std::nanf(""), 0}, std::vector<float>{std::nanf(""), 1},
        std::vector<float>{1, inf}, std::vector<float>{-inf, -inf}, std::vector<float>{}}) {
    try {
      sample(logits, {.temperature = 1}, {history, {}, 0});
      FAIL("a token was chosen");
    } catch (const serve::bad_logits& e) {
      CHECK(e.position == 2);
    }
  }
  CHECK(sample(std::vector<float>{1, 2}, {}, {}) == 1);
}

TEST_CASE("serve/sampler: extreme logits and temperatures still give a token") {
  serve::vllm_sampler sample;
  const float big = std::numeric_limits<float>::max();
  CHECK(sample(std::vector<float>{-big, big, -big}, {.temperature = 0.001}, {}) == 1);
  CHECK(sample(std::vector<float>{-big, big, -inf}, {.temperature = 1e30}, {}) != 2);
}

TEST_CASE("serve/sampler: draws follow the distribution that masks and sorts define") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 2);
  const std::vector<serve::sampling_options> table{
      {.temperature = 1},
      {.temperature = 0.7, .top_k = 3},
      {.temperature = 1.5, .top_p = 0.8},
      {.temperature = 1, .min_p = 0.1},
      {.temperature = 1.2, .top_k = 6, .top_p = 0.9, .min_p = 0.02},
      {.temperature = 1, .top_k = 1},
      {.temperature = 1, .top_p = 1e-9},
      {.temperature = 1, .min_p = 1},
  };
  constexpr int draws = 20000;
  for (const auto& options : table) {
    std::vector<float> logits(11);
    for (float& l : logits) {
      l = normal(random);
    }
    const auto expected = naive_distribution(logits, options);
    const auto share = drawn(logits, options, draws);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      // five standard deviations of a share of `draws`, and what adding up a share may lose
      CHECK(std::abs(share[i] - expected[i]) <=
            5 * std::sqrt(expected[i] * (1 - expected[i]) / draws) + 1e-9);
    }
  }
}

TEST_CASE("serve/sampler: top_k keeps ties, top_p breaks them by id") {
  const std::vector<float> logits{0, 1, 1, 1, 0};
  const auto k = drawn(logits, {.temperature = 1, .top_k = 2}, 3000);
  CHECK(k[0] == 0);
  CHECK((k[1] > 0 && k[2] > 0 && k[3] > 0));
  const auto p = drawn(logits, {.temperature = 1, .top_p = 0.4}, 3000);
  CHECK((p[1] > 0 && p[2] > 0 && p[3] == 0));
}

TEST_CASE("serve/sampler: the order of the filters is part of the type") {
  // At temperature 4 the nucleus of 0.6 holds two tokens; before the temperature it holds one.
  const std::vector<float> logits{4, 2, 0};
  const serve::sampling_options options{.temperature = 4, .top_p = 0.6};
  CHECK(drawn<serve::vllm_sampler>(logits, options, 500)[1] > 0);
  CHECK(drawn<serve::llama_cpp_sampler>(logits, options, 500)[0] == doctest::Approx(1));
}

TEST_CASE("serve/sampler: a draw depends on seed and position alone") {
  const std::vector<float> logits(50, 0.0F);
  const serve::sampling_options options{.temperature = 1};
  serve::vllm_sampler a;
  serve::vllm_sampler b;
  const std::vector<token> history(40, 0);
  std::vector<token> forward;
  for (std::size_t i = 0; i < 40; ++i) {
    forward.push_back(a(logits, options, {std::span(history).first(i), {}, 9}));
  }
  for (std::size_t i = 40; i-- > 0;) {
    CHECK(b(logits, options, {std::span(history).first(i), {}, 9}) == forward[i]);
  }
  CHECK(std::ranges::count(forward, forward[0]) < 20);
}
