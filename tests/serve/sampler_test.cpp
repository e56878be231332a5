// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "laws/sampling_filter.hpp"

namespace serve = ashlar::serve;
using serve::token;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

using row = std::vector<double>;
constexpr double out = -std::numeric_limits<double>::infinity();

row softmax(const row& logits) {
  const double best = *std::ranges::max_element(logits);
  row p;
  for (const double l : logits) {
    p.push_back(std::exp(l - best));
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) {
    x /= total;
  }
  return p;
}

/// Every stage once more, in double precision, by full sorts and masks over the whole vocabulary.
namespace twin {

using stage = void (*)(row&, const serve::sampling_options&, const serve::sampling_state&);

/// Masks what comes, in the order of `key` and then of ids, after tokens that add up to `share`.
void keep_share(row& l, double share, const row& key) {
  if (share >= 1) {
    return;
  }
  const row p = softmax(l);
  std::vector<std::size_t> order(l.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return key[a] < key[b]; });
  double before = 0;
  for (const std::size_t i : order) {
    const bool drop = before >= share;
    before += p[i];
    l[i] = drop ? out : l[i];
  }
}

void bias(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  for (const auto& b : o.logit_bias) {
    l[static_cast<std::size_t>(b.token)] += std::min(100.0, std::max(-100.0, double{b.bias}));
  }
}
void allowed(row& l, const serve::sampling_options& o, const serve::sampling_state& s) {
  const serve::token_mask* mask = o.mask ? o.mask(s.generated()) : nullptr;
  for (std::size_t i = 0; i < l.size(); ++i) {
    const auto id = static_cast<token>(i);
    if ((!o.allowed_tokens.empty() && std::ranges::count(o.allowed_tokens, id) == 0) ||
        std::ranges::count(s.forbidden, id) != 0 || (mask != nullptr && !mask->allows(id))) {
      l[i] = out;
    }
  }
}
void bad_words(row& l, const serve::sampling_options& o, const serve::sampling_state& s) {
  for (std::size_t i = 0; i < l.size(); ++i) {  // would the output end with a bad word?
    std::vector<token> next(s.history.begin() + static_cast<std::ptrdiff_t>(s.prompt_tokens),
                            s.history.end());
    next.push_back(static_cast<token>(i));
    for (const auto& word : o.bad_words) {
      if (word.size() <= next.size() && std::equal(word.rbegin(), word.rend(), next.rbegin())) {
        l[i] = out;
      }
    }
  }
}
void penalize(row& l, const serve::sampling_options& o, std::span<const token> seen,
              std::span<const token> counted) {
  for (std::size_t i = 0; i < l.size(); ++i) {
    const auto id = static_cast<token>(i);
    if (std::ranges::count(seen, id) != 0) {
      l[i] = l[i] > 0 ? l[i] / o.repetition_penalty : l[i] * o.repetition_penalty;
    }
    const auto times = std::ranges::count(counted, id);
    l[i] -= o.frequency_penalty * static_cast<double>(times);
    l[i] -= times > 0 ? o.presence_penalty : 0;
  }
}
void penalties(row& l, const serve::sampling_options& o, const serve::sampling_state& s) {
  penalize(l, o, s.history, s.history.subspan(s.prompt_tokens));
}
void last_64(row& l, const serve::sampling_options& o, const serve::sampling_state& s) {
  const auto window = s.history.last(std::min<std::size_t>(64, s.history.size()));
  penalize(l, o, window, window);
}
void temperature(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  for (double& x : l) {
    x /= std::max(o.temperature, 0.01);
  }
}
void min_p(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  const row p = softmax(l);
  const double best = *std::ranges::max_element(p);
  for (std::size_t i = 0; i < l.size(); ++i) {
    l[i] = p[i] < o.min_p * best ? out : l[i];
  }
}
void top_k(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  if (o.top_k > 0 && o.top_k < std::ssize(l)) {
    row sorted = l;
    std::ranges::sort(sorted, std::ranges::greater{});
    const double least = sorted[static_cast<std::size_t>(o.top_k) - 1];
    for (double& x : l) {
      x = x < least ? out : x;
    }
  }
}
void top_p(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  row key;
  for (const double x : l) {
    key.push_back(-x);
  }
  keep_share(l, o.top_p, key);
}
void typical(row& l, const serve::sampling_options& o, const serve::sampling_state&) {
  const row p = softmax(l);
  double entropy = 0;
  for (const double x : p) {
    entropy -= x > 0 ? x * std::log(x) : 0;
  }
  row key;
  for (const double x : p) {
    key.push_back(std::abs(-std::log(x) - entropy));
  }
  keep_share(l, o.typical_p, key);
}

const std::vector<stage> vllm{allowed, bad_words, bias,  penalties, temperature,
                              typical, min_p,     top_k, top_p};
const std::vector<stage> vllm_v0{allowed, bad_words, bias,    penalties, temperature,
                                 top_k,   top_p,     typical, min_p};
const std::vector<stage> llama_cpp{bias,    allowed, bad_words, last_64,    top_k,
                                   typical, top_p,   min_p,     temperature};

row distribution(const std::vector<stage>& order, const std::vector<float>& logits,
                 const serve::sampling_options& o, const serve::sampling_state& s) {
  row l(logits.begin(), logits.end());
  if (o.temperature >= 1e-5) {
    for (const stage apply : order) {
      apply(l, o, s);
    }
    return softmax(l);
  }
  for (const stage apply : order) {
    if (apply == bias || apply == allowed || apply == bad_words || apply == penalties ||
        apply == last_64) {
      apply(l, o, s);
    }
  }
  row p(l.size());
  p[static_cast<std::size_t>(std::ranges::max_element(l) - l.begin())] = 1;
  return p;
}

}  // namespace twin

template <class Sampler>
row dense(Sampler& sample, const std::vector<float>& logits, const serve::sampling_options& o,
          const serve::sampling_state& s) {
  row p(logits.size());
  token before = -1;
  for (const serve::weighted_token& t : sample.distribution(logits, o, s)) {
    CHECK(t.id > before);
    before = t.id;
    p[static_cast<std::size_t>(t.id)] = t.probability;
  }
  return p;
}

/// Random wishes; about half of them at their defaults.
struct wishes {
  std::mt19937 random{7};
  std::vector<float> logits;
  std::vector<token> history;
  std::vector<token> forbidden;
  serve::token_mask mask{0};

  double unit() { return static_cast<double>(random()) / 0x1p32; }
  bool coin() { return random() % 2 == 0; }
  token any() { return static_cast<token>(random() % logits.size()); }

  serve::sampling_options make(std::size_t vocabulary) {
    const bool ties = random() % 3 == 0;
    logits.clear();
    for (std::size_t i = 0; i < vocabulary; ++i) {
      const double x = 16 * unit() - 8;
      logits.push_back(random() % 11 == 0 ? -inf
                                          : static_cast<float>(ties ? std::round(x) / 2 : x));
    }
    logits[0] = 0.25F;  // what nothing rules out
    history.clear();
    for (auto i = random() % 150; i-- > 0;) {
      history.push_back(any());
    }
    serve::sampling_options o;
    o.temperature = random() % 5 == 0 ? 0 : 0.2 + 2 * unit();
    o.top_k = coin() ? 0 : static_cast<int>(1 + random() % (vocabulary + 3));
    o.top_p = coin() ? 1 : 0.01 + 0.98 * unit();
    o.min_p = coin() ? 0 : unit() * unit();
    o.typical_p = coin() ? 1 : 0.01 + 0.98 * unit();
    o.repetition_penalty = coin() ? 1 : 0.5 + unit();
    o.frequency_penalty = coin() ? 0 : 2 * unit() - 1;
    o.presence_penalty = coin() ? 0 : 2 * unit() - 1;
    for (auto i = random() % 4; i-- > 0;) {
      o.logit_bias.push_back({any(), static_cast<float>(4 * unit() - 2)});
    }
    if (random() % 3 == 0) {
      for (std::size_t i = 0; i <= vocabulary; ++i) {
        o.allowed_tokens.push_back(any());
      }
      o.allowed_tokens.push_back(0);
    }
    for (auto i = random() % 4; i-- > 0;) {
      o.bad_words.emplace_back();
      const auto size = std::min<std::size_t>(random() % 3, history.size());
      o.bad_words.back().assign(history.end() - static_cast<std::ptrdiff_t>(size), history.end());
      o.bad_words.back().push_back(any());
      if (o.bad_words.back().back() == 0) {
        o.bad_words.pop_back();
      }
    }
    forbidden.clear();
    if (vocabulary > 2 && coin()) {
      forbidden = {2, 1};
    }
    if (random() % 3 == 0) {
      mask = serve::token_mask(static_cast<std::int64_t>(vocabulary));
      for (std::size_t i = 0; i < vocabulary; ++i) {
        mask.allow(any());
      }
      mask.allow(0);
      o.mask = [this](std::span<const token>) { return &mask; };
    }
    return o;
  }
};

template <class Sampler>
void check_against(const std::vector<twin::stage>& order, std::size_t vocabulary, int rounds) {
  wishes random;
  Sampler sample;
  for (int round = 0; round < rounds; ++round) {
    const auto options = random.make(vocabulary);
    const serve::sampling_state state{random.history, random.forbidden, 0,
                                      random.history.size() / 3};
    const row expected = twin::distribution(order, random.logits, options, state);
    const row p = dense(sample, random.logits, options, state);
    // Logits below 32 are kept in single precision: their errors of 2^-20 and those of a few
    // operations, an exponential among them, are relative errors of probabilities. A token on the
    // wrong side of a threshold would be off by all of its probability.
    bool same = true;
    for (std::size_t i = 0; i < p.size(); ++i) {
      same = same && std::abs(p[i] - expected[i]) <= 2e-5 * expected[i] + 1e-12;
    }
    CAPTURE(vocabulary);
    CAPTURE(round);
    CHECK(same);
  }
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
                   serve::filters::typical, ashlar::laws::first_alone) {
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

TEST_CASE("serve/sampler: weights are exponentials to the last bits of a float") {
  double worst = 0;
  for (float x = 0; x > -87; x -= 0.0009765625F + x * -1e-4F) {
    const double exact = std::exp(double{x});
    worst = std::max(worst, std::abs(serve::detail::exp_weight(x) - exact) / exact);
  }
  CHECK(worst < 2.4e-7);  // two units in the last place
  CHECK(serve::detail::exp_weight(0) == 1);
  CHECK(serve::detail::exp_weight(-200) == 0);
  CHECK(serve::detail::exp_weight(-inf) == 0);
}

TEST_CASE("serve/sampler: every preset has the distribution that its stages define") {
  for (const std::size_t vocabulary : {1u, 2u, 3u, 17u, 127u, 1009u}) {
    const int rounds = vocabulary < 500 ? 300 : 60;
    check_against<serve::vllm_sampler>(twin::vllm, vocabulary, rounds);
    check_against<serve::vllm_v0_sampler>(twin::vllm_v0, vocabulary, rounds);
    check_against<serve::llama_cpp_sampler>(twin::llama_cpp, vocabulary, rounds);
  }
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

TEST_CASE("serve/sampler: typical sampling has no use for what is ruled out") {
  constexpr float never = -std::numeric_limits<float>::infinity();
  const serve::sampling_options o{.temperature = 1, .typical_p = 0.4};
  std::vector<serve::candidate> with{{0, -4}, {1, never}, {2, 2}, {3, 1.9F}};
  std::vector<serve::candidate> without{{0, -4}, {2, 2}, {3, 1.9F}};
  serve::filters::typical::apply(with, o);
  serve::filters::typical::apply(without, o);
  REQUIRE(with.size() == without.size());
  for (std::size_t i = 0; i < with.size(); ++i) {
    CHECK(with[i].id == without[i].id);
  }
}

TEST_CASE("serve/sampler: draws follow the distribution") {
  wishes random;
  serve::vllm_sampler sample;
  constexpr int draws = 20000;
  for (const auto& options : std::vector<serve::sampling_options>{
           {.temperature = 1}, {.temperature = 1.2, .top_k = 6, .top_p = 0.9, .min_p = 0.02}}) {
    random.make(11);
    const auto expected = dense(sample, random.logits, options, {});
    const auto share = drawn(random.logits, options, draws);
    for (std::size_t i = 0; i < expected.size(); ++i) {
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
