// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/speculative.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ashlar/serve/proposers.hpp"
#include "fake_model.hpp"
#include "laws/proposer.hpp"

namespace serve = ashlar::serve;
using serve::token;
using serve::testing::fake_model;
using tokens = std::vector<token>;

namespace {

/// What follows a text.
using language = std::function<std::vector<float>(std::span<const token>)>;

std::vector<float> fake(std::span<const token> text) {
  return serve::testing::naive_logits(text, 23);
}

/// One token at a time.
tokens plain(const language& target, tokens text, std::size_t count,
             const serve::sampling_options& options, std::uint64_t seed) {
  serve::vllm_sampler sample;
  const std::size_t prompt = text.size();
  while (text.size() < prompt + count) {
    text.push_back(sample(target(text), options, {text, {}, seed, prompt}));
  }
  return text;
}

struct counts {
  int steps = 0;
  int drafts = 0;
  int accepted = 0;
};

/// The same with drafts: what an engine does, without one.
template <class P>
tokens speculated(const language& target, P& proposer, tokens text, std::size_t count,
                  const serve::sampling_options& options, std::uint64_t seed, int most,
                  counts* counted = nullptr, std::uint64_t sequence = 0) {
  serve::vllm_sampler sample;
  const std::size_t prompt = text.size();
  while (text.size() < prompt + count) {
    serve::proposal drafts;
    proposer.propose({sequence, text, prompt, &options, seed}, most, drafts);
    std::size_t at = 0;
    for (bool accepted = true; accepted && at < drafts.tokens.size(); ++at) {
      const auto v = serve::verify(sample, target(text), drafts.tokens[at], drafts.from(at),
                                   options, {text, {}, seed, prompt});
      text.push_back(v.chosen);
      accepted = v.accepted;
      if (counted != nullptr) {
        counted->accepted += accepted ? 1 : 0;
      }
      if (!accepted) {
        break;
      }
    }
    if (at == drafts.tokens.size()) {
      text.push_back(sample(target(text), options, {text, {}, seed, prompt}));
    }
    if (counted != nullptr) {
      ++counted->steps;
      counted->drafts += static_cast<int>(drafts.tokens.size());
    }
  }
  proposer.finish(sequence);
  text.resize(prompt + count);
  return text;
}

/// The target's logits with noise: right now and then.
struct worse_model : fake_model {
  std::vector<float> forward(const serve::step& s, cache_type& cache) {
    auto logits = fake_model::forward(s, cache);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      logits[i] +=
          static_cast<float>(
              serve::testing::mix(i, static_cast<std::uint64_t>(s.positions.back())) >> 44) *
          0x1p-18F;  // [0, 4)
    }
    return logits;
  }
};

const tokens prompt{4, 8, 15, 16, 4, 8};

/// Pearson's statistic of pairs of tokens, less what it is expected to be, in its deviations.
double surprise(const std::vector<int>& seen, const std::vector<double>& expected, int draws) {
  double statistic = 0;
  double rest_seen = 0;
  double rest_expected = 0;
  double cells = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double e = expected[i] * draws;
    if (e == 0) {
      CHECK(seen[i] == 0);
    } else if (e < 5) {
      rest_seen += seen[i];
      rest_expected += e;
    } else {
      statistic += (seen[i] - e) * (seen[i] - e) / e;
      ++cells;
    }
  }
  if (rest_expected > 0) {
    statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    ++cells;
  }
  return (statistic - (cells - 1)) / std::sqrt(2 * (cells - 1));
}

/// A language of ten words in which what follows depends on the last one.
struct ten_words {
  std::array<std::array<float, 10>, 10> logits{};
  explicit ten_words(unsigned seed) {
    std::mt19937 random(seed);
    for (auto& row : logits) {
      for (float& l : row) {
        l = static_cast<float>(random() % 300) / 100;
      }
    }
  }
  std::vector<float> operator()(std::span<const token> text) const {
    const auto& row = logits[static_cast<std::size_t>(text.back())];
    return {row.begin(), row.end()};
  }
};

/// Draws from another language of ten words.
struct ten_words_proposer {
  ten_words words;
  serve::vllm_sampler sample{};
  void propose(const serve::proposal_context& c, int most, serve::proposal& out) {
    tokens text(c.text.begin(), c.text.end());
    for (int i = 0; i < most; ++i) {
      const auto q = sample.distribution(words(text), *c.options, {text, {}, c.seed});
      out.drawn_from.emplace_back(q.begin(), q.end());
      text.push_back(
          serve::draw(q, serve::uniform_of(serve::random_stream::draft, c.seed, text.size())));
      out.tokens.push_back(text.back());
    }
  }
  static void finish(std::uint64_t) {}
};

}  // namespace

TEST_CASE("serve/speculative: the laws of a proposer hold") {
  ashlar::laws::check_proposer([] { return serve::no_proposer(); }, 23);
  ashlar::laws::check_proposer([] { return ashlar::laws::once_more(); }, 23);
  ashlar::laws::check_proposer([] { return serve::ngram_proposer<1, 4>(); }, 5);
  ashlar::laws::check_proposer([] { return serve::suffix_proposer<4, 4, 200>(); }, 5);
  fake_model model;
  ashlar::laws::check_proposer([&] { return serve::draft_model(model, 40, 4); }, 23);
}

TEST_CASE("serve/speculative: greedy decoding with any drafts is plain greedy decoding") {
  for (const auto& options : std::vector<serve::sampling_options>{
           {}, {.repetition_penalty = 1.3, .presence_penalty = 0.5, .bad_words = {{3}, {1, 2}}}}) {
    const tokens expected = plain(fake, prompt, 60, options, 0);
    for (const int most : {0, 1, 4}) {
      fake_model same;
      worse_model worse;
      serve::draft_model perfect(same, 40, 4);
      serve::draft_model doubtful(worse, 40, 4);
      serve::ngram_proposer<> ngram;
      serve::suffix_proposer<> suffix;
      ashlar::laws::once_more archetype;
      counts c;
      CHECK(speculated(fake, perfect, prompt, 60, options, 0, most, &c) == expected);
      CHECK(c.accepted == c.drafts);
      counts d;
      CHECK(speculated(fake, doubtful, prompt, 60, options, 0, most, &d) == expected);
      CHECK((most == 0 || (d.accepted > 0 && d.accepted < d.drafts)));
      CHECK(speculated(fake, ngram, prompt, 60, options, 0, most) == expected);
      CHECK(speculated(fake, suffix, prompt, 60, options, 0, most) == expected);
      CHECK(speculated(fake, archetype, prompt, 60, options, 0, most) == expected);
      CHECK(perfect.pool().used() == 0);
    }
  }
}

TEST_CASE("serve/speculative: with drafts that were not drawn, random decoding is the plain one") {
  const serve::sampling_options options{.temperature = 0.7, .top_k = 5};
  // A language with much repetition: two words are likely after each.
  const language repeats = [](std::span<const token> text) {
    std::vector<float> logits(11, 0);
    logits[static_cast<std::size_t>(text.back() * 3 + 1) % 11] = 4;
    logits[static_cast<std::size_t>(text.back() + 5) % 11] = 3;
    return logits;
  };
  serve::suffix_proposer<> suffix;
  serve::ngram_proposer<> ngram;
  counts c;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const tokens expected = plain(repeats, {1, 2}, 80, options, seed);
    CHECK(speculated(repeats, suffix, {1, 2}, 80, options, seed, 4, &c, seed) == expected);
    CHECK(speculated(repeats, ngram, {1, 2}, 80, options, seed, 4, &c) == expected);
  }
  CHECK(c.accepted > 500);
  CHECK(c.steps < 20 * 80 * 2 - 400);
}

TEST_CASE("serve/speculative: drawn drafts leave the distribution as it is, in 100,000 samples") {
  const ten_words target(1);
  constexpr int draws = 100000;
  for (const auto& options : std::vector<serve::sampling_options>{
           {.temperature = 1}, {.temperature = 0.8, .top_k = 6, .top_p = 0.9}}) {
    serve::vllm_sampler sample;
    std::vector<double> expected(100);
    std::vector<serve::weighted_token> first;
    const tokens begin{0};
    const auto p = sample.distribution(target(begin), options, {begin, {}, 0});
    first.assign(p.begin(), p.end());
    for (const auto& a : first) {
      const tokens text{0, a.id};
      for (const auto& b : sample.distribution(target(text), options, {text, {}, 0})) {
        expected[static_cast<std::size_t>(a.id * 10 + b.id)] = a.probability * b.probability;
      }
    }
    std::vector<int> seen(100);
    std::vector<int> uncorrected(100);
    ten_words_proposer proposer{ten_words(2)};
    counts c;
    for (int seed = 0; seed < draws; ++seed) {
      const auto s = static_cast<std::uint64_t>(seed);
      const tokens text = speculated(target, proposer, begin, 2, options, s, 2, &c);
      ++seen[static_cast<std::size_t>(text[1] * 10 + text[2])];
      const tokens drafts = plain(proposer.words, begin, 2, options, s);
      ++uncorrected[static_cast<std::size_t>(drafts[1] * 10 + drafts[2])];
    }
    CHECK(c.accepted > draws / 5);
    CHECK(c.accepted < c.drafts * 9 / 10);
    // Chance is beyond five deviations about once in a million; what the drafts alone would give is
    // far beyond (where it does not hold pairs that the target never has).
    CHECK(surprise(seen, expected, draws) < 5);
    if (options.top_k == 0) {
      CHECK(surprise(uncorrected, expected, draws) > 100);
    }
  }
}

TEST_CASE("serve/speculative: a draft is accepted with p over q, and its replacement is the rest") {
  serve::vllm_sampler sample;
  const serve::sampling_options options{.temperature = 1};
  const std::vector<float> logits{0, 0, -1e9F};  // a half, a half, nothing
  const std::vector<serve::weighted_token> q{{0, 0.8}, {1, 0.1}, {2, 0.1}};
  int accepted = 0;
  for (std::uint64_t seed = 0; seed < 10000; ++seed) {
    const auto v = serve::verify(sample, logits, 0, q, options, {{}, {}, seed});
    accepted += v.accepted ? 1 : 0;
    CHECK(v.chosen == (v.accepted ? 0 : 1));
    CHECK(serve::verify(sample, logits, 1, q, options, {{}, {}, seed}).accepted);
    CHECK(!serve::verify(sample, logits, 2, q, options, {{}, {}, seed}).accepted);
  }
  CHECK(std::abs(accepted - 6250) < 5 * std::sqrt(10000 * 0.625 * 0.375));
  // Residuals of lists with different tokens.
  const std::vector<serve::weighted_token> p{{1, 0.25}, {3, 0.5}, {4, 0.25}};
  const std::vector<serve::weighted_token> other{{0, 0.25}, {3, 0.25}, {4, 0.5}};
  const auto rest = serve::residual(p, other);
  REQUIRE(rest.size() == 2);
  CHECK((rest[0].id == 1 && rest[0].probability == 0.25));
  CHECK((rest[1].id == 3 && rest[1].probability == 0.25));
  CHECK(serve::residual(p, p).empty());
  CHECK(serve::draw(rest, 0) == 1);
  CHECK(serve::draw(rest, 0.49) == 1);
  CHECK(serve::draw(rest, 0.5) == 3);
}

TEST_CASE("serve/speculative: n-grams are found where a search from the longest finds them") {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    tokens text(1 + random() % 25);
    for (token& t : text) {
      t = static_cast<token>(random() % (2 + random() % 2));
    }
    tokens expected;
    bool found = false;
    for (std::size_t n = 3; n >= 2 && !found; --n) {
      for (std::size_t at = 0; at + n < text.size() && !found; ++at) {
        found = std::equal(text.end() - static_cast<std::ptrdiff_t>(n), text.end(),
                           text.begin() + static_cast<std::ptrdiff_t>(at));
        if (found) {
          for (std::size_t i = at + n; i < std::min(text.size(), at + n + 4); ++i) {
            expected.push_back(text[i]);
          }
        }
      }
    }
    serve::proposal drafts;
    serve::ngram_proposer<2, 3>::propose({.text = text}, 4, drafts);
    CHECK(drafts.tokens == expected);
  }
}

TEST_CASE(
    "serve/speculative: suffixes propose what most often followed, by a count over all texts") {
  std::mt19937 random(12);
  std::vector<tokens> texts(3);
  serve::suffix_proposer<3, 3> proposer(0.3);
  // How often `part` stands in all texts.
  const auto times = [&](const tokens& part) {
    int count = 0;
    for (const tokens& text : texts) {
      for (std::size_t at = 0; at + part.size() <= text.size(); ++at) {
        count +=
            std::equal(part.begin(), part.end(), text.begin() + static_cast<std::ptrdiff_t>(at))
                ? 1
                : 0;
      }
    }
    return count;
  };
  for (int round = 0; round < 400; ++round) {
    const std::size_t which = random() % 3;
    tokens& text = texts[which];
    text.push_back(static_cast<token>(random() % 4));
    tokens expected;
    for (std::size_t n = std::min<std::size_t>(3, text.size()); n > 0; --n) {
      tokens part(text.end() - static_cast<std::ptrdiff_t>(n), text.end());
      double probability = 1;
      double before = times(part) - 1;
      bool followed = false;
      while (part.size() < n + 3) {
        token best = 0;
        int most = 0;
        for (token t = 0; t < 4; ++t) {
          part.push_back(t);
          if (times(part) > most) {
            most = times(part);
            best = t;
          }
          part.pop_back();
        }
        if (most == 0) {
          break;
        }
        followed = true;
        probability *= most / std::max(before, 1.0);
        before = most;
        if (probability < 0.3) {
          break;
        }
        part.push_back(best);
        expected.push_back(best);
      }
      if (followed) {
        break;
      }
    }
    serve::proposal drafts;
    proposer.propose({.sequence = which, .text = text}, 3, drafts);
    CHECK(drafts.tokens == expected);
  }
}

TEST_CASE("serve/speculative: a draft model without room proposes less, and goes on later") {
  fake_model model{.context = 20};
  serve::draft_model proposer(model, 4, 4);
  const serve::sampling_options options;
  const auto proposed = [&](std::uint64_t sequence, std::size_t length, int most) {
    serve::proposal drafts;
    const tokens text(length, 1);
    proposer.propose({.sequence = sequence, .text = text, .options = &options}, most, drafts);
    return drafts.tokens.size();
  };
  CHECK(proposed(1, 14, 5) == 3);  // 16 places: the 14 and two drafts, after which comes one more
  CHECK(proposed(2, 3, 5) == 0);
  proposer.finish(1);
  CHECK(proposed(2, 3, 5) == 5);
  CHECK(proposed(3, 21, 5) == 0);  // longer than its context
  proposer.finish(2);
  proposer.finish(3);
  CHECK(proposer.pool().used() == 0);
}

TEST_CASE("serve/speculative: the draft length comes near the best fixed one at every acceptance") {
  for (const double share : {0.05, 0.3, 0.6, 0.8, 0.95}) {
    for (const double cost : {0.02, 0.1, 0.5}) {
      std::uint64_t number = 0;
      // Tokens per unit of time over 5,000 steps; `fixed` below 0: by the policy.
      const auto speed = [&](int fixed) {
        serve::draft_length policy(8, cost);
        double spent = 0;
        double made = 0;
        for (int step = 0; step < 5000; ++step) {
          const int n = fixed >= 0 ? fixed : policy.next();
          int accepted = 0;
          while (accepted < n && ashlar::philox_uniform(3, number++) < share) {
            ++accepted;
          }
          policy.record(n, accepted);
          spent += 1 + n * cost;
          made += 1 + accepted;
        }
        return made / spent;
      };
      double best = 0;
      for (int n = 0; n <= 8; ++n) {
        best = std::max(best, speed(n));
      }
      CAPTURE(share);
      CAPTURE(cost);
      CHECK(speed(-1) > 0.93 * best);
    }
  }
  serve::draft_length none(0);
  for (int i = 0; i < 40; ++i) {
    CHECK(none.next() == 0);
  }
  CHECK_THROWS_AS(serve::draft_length(-1), ashlar::argument_error);
  CHECK_THROWS_AS(serve::draft_length(2, 0), ashlar::argument_error);
}
