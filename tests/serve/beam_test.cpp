// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/beam.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fake_model.hpp"

namespace serve = ashlar::serve;
using serve::hypothesis;
using serve::token;
using tokens = std::vector<token>;

namespace {

tokens joined(const tokens& prompt, const tokens& more) {
  tokens all = prompt;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<double> logprobs(const tokens& text, int vocabulary) {
  const auto logits = serve::testing::naive_logits(text, vocabulary);
  double total = 0;
  for (const float l : logits) {
    total += std::exp(double{l});
  }
  std::vector<double> result;
  for (const float l : logits) {
    result.push_back(l - std::log(total));
  }
  return result;
}

std::vector<hypothesis> search(const tokens& prompt, const serve::beam_options& options,
                               int vocabulary, int* steps = nullptr) {
  serve::beam b(options, std::ssize(prompt));
  while (!b.over()) {
    std::vector<std::vector<serve::token_logprob>> next;
    for (const hypothesis& h : b.live()) {
      next.push_back(
          b.continuations(serve::testing::naive_logits(joined(prompt, h.tokens), vocabulary)));
    }
    const auto before = b.live();
    const auto from = b.advance(next);
    REQUIRE(from.size() == b.live().size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      CHECK(b.live()[i].tokens == joined(before[from[i].parent].tokens, {from[i].token}));
    }
    if (steps != nullptr) {
      ++*steps;
    }
  }
  return b.best();
}

double score_of(const tokens& prompt, const hypothesis& h, const serve::beam_options& o) {
  const bool ended = std::ranges::count(o.eos_tokens, h.tokens.back()) != 0;
  const auto length = prompt.size() + h.tokens.size() - (ended ? 1 : 0);
  return h.logprob / std::pow(static_cast<double>(length), o.length_penalty);
}

/// Every text there is.
void enumerate(const tokens& prompt, const hypothesis& so_far, const serve::beam_options& o,
               int vocabulary, std::vector<hypothesis>& all) {
  const auto p = logprobs(joined(prompt, so_far.tokens), vocabulary);
  for (token t = 0; t < vocabulary; ++t) {
    hypothesis h{joined(so_far.tokens, {t}), so_far.logprob + p[static_cast<std::size_t>(t)], 0};
    if (std::ranges::count(o.eos_tokens, t) != 0 || std::ssize(h.tokens) == o.max_tokens) {
      h.score = score_of(prompt, h, o);
      all.push_back(h);
    } else {
      enumerate(prompt, h, o, vocabulary, all);
    }
  }
}

/// The search once more, with sorts of everything and no early end.
std::vector<hypothesis> naive(const tokens& prompt, const serve::beam_options& o, int vocabulary) {
  std::vector<hypothesis> live(1);
  std::vector<hypothesis> complete;
  for (int step = 0; step < o.max_tokens; ++step) {
    std::vector<hypothesis> next;
    for (const hypothesis& h : live) {
      const auto p = logprobs(joined(prompt, h.tokens), vocabulary);
      for (token t = 0; t < vocabulary; ++t) {
        const auto likelier =
            std::ranges::count_if(p, [&](double x) { return x > p[static_cast<std::size_t>(t)]; });
        if (likelier >= 2 * o.width) {
          continue;
        }
        hypothesis more{joined(h.tokens, {t}), h.logprob + p[static_cast<std::size_t>(t)], 0};
        more.score = score_of(prompt, more, o);
        (std::ranges::count(o.eos_tokens, t) != 0 ? complete : next).push_back(more);
      }
    }
    std::ranges::stable_sort(next, std::ranges::greater{}, &hypothesis::logprob);
    next.resize(std::min(next.size(), static_cast<std::size_t>(o.width)));
    live = next;
  }
  complete.insert(complete.end(), live.begin(), live.end());
  std::ranges::stable_sort(complete, std::ranges::greater{}, &hypothesis::score);
  complete.resize(std::min(complete.size(), static_cast<std::size_t>(o.width)));
  return complete;
}

void check_same(const std::vector<hypothesis>& found, const std::vector<hypothesis>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].tokens == expected[i].tokens);
    // two sums of a few logarithms in double precision
    CHECK(std::abs(found[i].score - expected[i].score) < 1e-12);
  }
}

}  // namespace

TEST_CASE("serve/beam: as wide as the tree it finds the best of all texts") {
  for (token seed = 0; seed < 12; ++seed) {
    const tokens prompt{seed, 1, static_cast<token>(seed % 3)};
    for (const double penalty : {0.0, 1.0, 2.5, -1.0}) {
      for (const tokens& eos : {tokens{}, tokens{0}, tokens{0, 3}}) {
        const serve::beam_options o{
            .width = 300, .length_penalty = penalty, .max_tokens = 4, .eos_tokens = eos};
        std::vector<hypothesis> all;
        enumerate(prompt, {}, o, 4, all);
        std::ranges::stable_sort(all, std::ranges::greater{}, &hypothesis::score);
        all.resize(std::min<std::size_t>(all.size(), 300));
        check_same(search(prompt, o, 4), all);
      }
    }
  }
}

TEST_CASE("serve/beam: at every width it finds what sorting everything finds, if need be sooner") {
  int steps = 0;
  int full = 0;
  for (const int width : {1, 2, 3, 5}) {
    for (token seed = 0; seed < 15; ++seed) {
      for (const double penalty : {0.0, 1.0, 2.0, -0.5}) {
        const tokens prompt{seed, 2, 5, 1};
        const serve::beam_options o{
            .width = width, .length_penalty = penalty, .max_tokens = 12, .eos_tokens = {0, 7}};
        check_same(search(prompt, o, 13, &steps), naive(prompt, o, 13));
        full += 12;
      }
    }
  }
  CHECK(steps < full);
}

TEST_CASE("serve/beam: a beam of one takes the largest logit") {
  const tokens prompt{3, 1};
  tokens greedy;
  for (int i = 0; i < 10; ++i) {
    const auto logits = serve::testing::naive_logits(joined(prompt, greedy), 23);
    greedy.push_back(static_cast<token>(std::ranges::max_element(logits) - logits.begin()));
  }
  CHECK(search(prompt, {.width = 1, .max_tokens = 10}, 23).at(0).tokens == greedy);
}

TEST_CASE("serve/beam: a vocabulary of one, and what is ruled out") {
  CHECK(search({0}, {.width = 3, .max_tokens = 4}, 1).size() == 1);
  serve::beam b({.width = 2, .max_tokens = 3}, 1);
  const float out = -std::numeric_limits<float>::infinity();
  const std::vector<std::vector<serve::token_logprob>> next{
      b.continuations(std::vector<float>{out, 1, out})};
  CHECK(b.advance(next).size() == 1);
  CHECK(b.live().at(0).tokens == tokens{1});
  CHECK_THROWS_AS(static_cast<void>(b.continuations(std::vector<float>{1, std::nanf("")})),
                  serve::bad_logits);
  CHECK_THROWS_AS(static_cast<void>(b.continuations(std::vector<float>{out, out})),
                  serve::bad_logits);
  CHECK_THROWS_AS(static_cast<void>(b.continuations(std::vector<float>{1, -out})),
                  serve::bad_logits);
  b.finish();
  CHECK(b.over());
  CHECK(b.best().at(0).tokens == tokens{1});
}

TEST_CASE("serve/beam: tokens that may not come leave room for as many others") {
  const serve::beam b({.width = 1, .max_tokens = 3}, 1);
  const auto next = b.continuations(std::vector<float>{5, 9, 8, 7, 6}, tokens{1, 2, 1});
  REQUIRE(next.size() == 2);
  CHECK(next[0].token == 3);
  CHECK(next[1].token == 4);
  CHECK(b.continuations(std::vector<float>{5, 9}, tokens{0, 1}).empty());
}

TEST_CASE("serve/beam: options out of range are refused") {
  CHECK_THROWS_AS(serve::beam({.width = 0}, 1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::beam({.width = (1 << 20) + 1}, 1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::beam({.length_penalty = -101}, 1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::beam({.max_tokens = 0}, 1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::beam({.length_penalty = std::nan("")}, 1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::beam({}, 0), ashlar::argument_error);
}
