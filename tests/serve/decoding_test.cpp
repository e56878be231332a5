// SPDX-License-Identifier: Apache-2.0
// What an engine does with tokens: drafts, completions that share a prompt, beams, stop strings,
// log probabilities. Everything is compared with one request alone, without a cache.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/proposers.hpp"
#include "ashlar/serve/schedule_log.hpp"
#include "fake_model.hpp"

namespace kv = ashlar::kv;
namespace serve = ashlar::serve;
using serve::finish_reason;
using serve::token;
using serve::testing::fake_model;
using tokens = std::vector<token>;

namespace {

tokens naive(tokens text, int most, const serve::sampling_options& options, std::uint64_t seed,
             int words = 23) {
  serve::vllm_sampler sample;
  const std::size_t prompt = text.size();
  for (int i = 0; i < most; ++i) {
    text.push_back(
        sample(serve::testing::naive_logits(text, words), options, {text, {}, seed, prompt}));
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt), text.end()};
}

/// Proposes what another function says, with whatever tables it likes.
struct any_proposer {
  std::function<void(const serve::proposal_context&, int, serve::proposal&)> say;
  int over = 0;
  bool throws_at_end = false;
  void propose(const serve::proposal_context& c, int most, serve::proposal& out) {
    say(c, most, out);
  }
  void finish(std::uint64_t) {
    ++over;
    if (throws_at_end) {
      throw std::runtime_error("no such sequence");
    }
  }
};

// Few types: each one compiles the whole engine again.
using small_chunks = serve::continuous<serve::chunked_prefill<40>, serve::max_sequences<8>>;
using engine =
    serve::engine<fake_model, kv::paged<4>, serve::recording<small_chunks>, any_proposer>;

any_proposer silent() {
  return {.say = [](const serve::proposal_context&, int, serve::proposal&) {}};
}
/// The next tokens, but for every third one, which is wrong.
any_proposer nearly_right() {
  return {.say = [](const serve::proposal_context& c, int most, serve::proposal& out) {
    tokens next = naive({c.text.begin(), c.text.end()}, most, {}, 0);
    for (std::size_t i = 0; i < next.size(); ++i) {
      out.tokens.push_back((c.text.size() + i) % 3 == 0 ? (next[i] + 1) % 23 : next[i]);
    }
  }};
}

std::vector<serve::request> requests() {
  std::vector<serve::request> all;
  for (int i = 0; i < 9; ++i) {
    serve::request r{.max_tokens = 5 + 3 * i};
    for (int t = 0; t < 1 + 5 * (i % 4); ++t) {
      r.tokens.push_back((7 * i + 3 * t) % 23);
    }
    if (i % 3 == 2) {
      r.sampling = {.temperature = 0.9, .top_k = 7, .seed = 40u + static_cast<unsigned>(i)};
    } else if (i % 3 == 1) {  // what is allowed depends on the drafts before
      r.sampling = {.repetition_penalty = 1.2, .presence_penalty = 0.5, .bad_words = {{3}, {5, 9}}};
      r.sampling.mask = [](std::span<const token> output) {
        static const std::vector<serve::token_mask> masks = [] {
          std::vector<serve::token_mask> halves(2, serve::token_mask(23));
          for (token t = 0; t < 23; ++t) {
            halves[static_cast<std::size_t>(t % 2)].allow(t);
          }
          return halves;
        }();
        return &masks[output.size() % 2];
      };
    }
    all.push_back(r);
  }
  return all;
}

const std::string letters = "abcdefghijklmnopqrstuvw";
std::string text_of(std::span<const token> ids) {
  std::string s;
  for (const token t : ids) {
    s += letters[static_cast<std::size_t>(t)];
  }
  return s;
}
serve::engine_options with_text() {
  return {.encode =
              [](std::string_view s) {
                tokens ids;
                for (const char c : s) {
                  ids.push_back(static_cast<token>(letters.find(c)));
                }
                return ids;
              },
          .decode = text_of};
}

}  // namespace

TEST_CASE("serve/decoding: with drafts, right or wrong, tokens are those without") {
  std::int64_t steps_without = 0;
  for (const std::int64_t room : {2048, 60}) {  // with enough blocks, and with preemptions
    for (int kind = 0; kind < 4; ++kind) {
      any_proposer proposer = kind == 0 ? silent() : nearly_right();
      if (kind == 2) {
        proposer.say = [](const serve::proposal_context& c, int most, serve::proposal& out) {
          serve::ngram_proposer<1, 3>::propose(c, most, out);
        };
      } else if (kind == 3) {
        proposer.say = [](const serve::proposal_context&, int, serve::proposal& out) {
          out.tokens.push_back(1);
          throw std::runtime_error("no idea");
        };
      }
      fake_model model;
      engine e(model, {.cache_tokens = room}, proposer);
      for (const auto& r : requests()) {
        e.submit(r);
      }
      const auto results = e.run();
      REQUIRE(results.size() == 9);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const auto r = requests()[i];
        CHECK(results[i].reason == finish_reason::length);
        CHECK(results[i].tokens ==
              naive(r.tokens, r.max_tokens, r.sampling, r.sampling.seed.value_or(0)));
      }
      const auto s = e.statistics();
      CHECK(s.blocks_used == 0);
      CHECK((s.preemptions > 0) == (room == 60));
      CHECK(proposer.over == 9);
      if (kind == 0) {
        steps_without = s.steps;
      }
      if (kind == 1) {
        CHECK(s.accepted_drafts > s.drafts / 5);
        CHECK(s.accepted_drafts < s.drafts);
        CHECK(s.steps < steps_without);
      }
      CHECK((s.drafts == 0) == (kind == 0 || kind == 3));
    }
  }
}

TEST_CASE("serve/decoding: of a proposal what is too much or no token is left out") {
  const tokens prompt{4, 8, 15};
  for (const token bad : {-1, 23, 2'000'000'000, 0}) {  // 0: no bad one, but too many good ones
    for (const bool draws : {false, true}) {
      fake_model model;
      any_proposer proposer{
          .say = [&](const serve::proposal_context& c, int most, serve::proposal& out) {
            out.tokens = naive({c.text.begin(), c.text.end()}, most + 20, {}, 0);
            if (bad != 0) {
              out.tokens.insert(out.tokens.begin() + 1, bad);
            }
            if (draws) {  // one only
              out.drawn_from.push_back({{out.tokens.front(), 1.0}});
            }
          }};
      engine e(model, {.most_drafts = 3}, proposer);
      e.submit({.tokens = prompt, .max_tokens = 30, .sampling = {.repetition_penalty = 1.000001}});
      std::int64_t before = 0;
      std::int64_t widest = 0;
      for (bool more = true; more;) {
        more = e.step();
        widest = std::max(widest, e.statistics().drafts - before);
        before = e.statistics().drafts;
      }
      CHECK(widest == (bad == 0 && !draws ? 3 : 1));
      CHECK(e.take_finished().at(0).tokens.size() == 30);
    }
  }
}

TEST_CASE("serve/decoding: a proposer that throws at the end costs no result") {
  fake_model model;
  any_proposer proposer = silent();
  proposer.throws_at_end = true;
  engine e(model, {}, proposer);
  e.submit({.tokens = {1, 2}, .max_tokens = 4});
  e.submit({.tokens = {1, 3}, .max_tokens = 5, .n = 2});
  CHECK(e.run().size() == 3);
  CHECK(proposer.over == 3);
  CHECK(e.statistics().blocks_used == 0);
}

TEST_CASE("serve/decoding: where one completion has no first token, the request fails whole") {
  for (const int fails : {0, 1, 2}) {
    fake_model model;
    any_proposer proposer = silent();
    engine e(model, {}, proposer);
    int calls = 0;
    serve::request r{.tokens = {1, 2}, .max_tokens = 4, .logprobs = 1, .n = 3};
    r.sampling.mask = [&calls, fails](std::span<const token>) -> const serve::token_mask* {
      if (calls++ == fails) {
        throw std::runtime_error("no grammar");
      }
      return nullptr;
    };
    e.submit(r);
    const auto results = e.run();
    REQUIRE(results.size() == 1);
    CHECK(results[0].reason == finish_reason::error);
    CHECK(results[0].tokens.empty());
    CHECK(results[0].logprobs.empty());
    CHECK_THROWS_AS(std::rethrow_exception(results[0].error), std::runtime_error);
    CHECK(e.statistics().blocks_used == 0);
  }
}

TEST_CASE("serve/decoding: options of drafts out of range are refused") {
  fake_model model;
  any_proposer proposer = silent();
  for (const serve::engine_options& o :
       std::vector<serve::engine_options>{{.most_drafts = -1},
                                          {.most_drafts = 1025},
                                          {.draft_cost = 0},
                                          {.draft_cost = HUGE_VAL}}) {
    CHECK_THROWS_AS(engine(model, o, proposer), ashlar::argument_error);
  }
}

TEST_CASE("serve/decoding: after each step blocks are those that the known tokens need") {
  const auto used = [](any_proposer proposer) {
    fake_model model;
    engine e(model, {.cache_tokens = 2048}, proposer);
    e.submit({.tokens = {5, 6, 7}, .max_tokens = 60, .ignore_eos = true});
    std::vector<std::int64_t> by_length(96);
    std::size_t computed = 0;
    while (e.step()) {
      const auto s = e.statistics();
      computed = static_cast<std::size_t>(s.generated_tokens) + 2;  // all but the newest token
      by_length[computed] = s.blocks_used;
    }
    return by_length;
  };
  // Every draft is wrong: the same lengths, so the same blocks at every one of them.
  any_proposer wrong{.say = [](const serve::proposal_context& c, int most, serve::proposal& out) {
    const tokens next = naive({c.text.begin(), c.text.end()}, 1, {}, 0);
    out.tokens.assign(static_cast<std::size_t>(most), (next[0] + 1) % 23);
  }};
  const auto without = used(silent());
  CHECK(used(wrong) == without);
  // Some are right: at the lengths that it stops at, the blocks are those, too.
  const auto some = used(nearly_right());
  int compared = 0;
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (some[i] != 0) {
      CHECK(some[i] == without[i]);
      ++compared;
    }
  }
  CHECK(compared > 10);
}

TEST_CASE("serve/decoding: end of text among accepted drafts ends it there") {
  const tokens prompt{7, 7, 7};
  const tokens run = naive(prompt, 30, {}, 0);
  any_proposer right{.say = [](const serve::proposal_context& c, int most, serve::proposal& out) {
    out.tokens = naive({c.text.begin(), c.text.end()}, most, {}, 0);
  }};
  for (std::size_t at = 3; at < 12; ++at) {
    fake_model model;
    engine e(model, {.eos_tokens = {run[at]}}, right);
    e.submit({.tokens = prompt, .max_tokens = 30});
    const auto first = std::ranges::find(run, run[at]) - run.begin();
    const auto f = e.run().at(0);
    CHECK(f.reason == finish_reason::eos);
    CHECK(f.tokens == tokens(run.begin(), run.begin() + first + 1));
    CHECK(e.statistics().blocks_used == 0);
  }
}

TEST_CASE("serve/decoding: completions of one prompt are requests with seeds of their own") {
  for (const std::int64_t room : {2048, 104}) {
    fake_model model;
    any_proposer proposer = silent();
    engine e(model, {.cache_tokens = room}, proposer);
    const tokens prompt{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};
    const serve::sampling_options options{.temperature = 1, .seed = 77};
    serve::request three{.tokens = prompt, .max_tokens = 20, .sampling = options, .n = 3};
    if (room == 2048) {
      three.logprobs = 2;
    }
    e.submit(three);
    e.submit({.tokens = {3}, .max_tokens = 30});
    e.submit({.tokens = prompt, .max_tokens = 9, .sampling = options});
    const auto results = e.run();
    REQUIRE(results.size() == 5);
    for (std::size_t b = 0; b < 3; ++b) {
      CHECK(results[b].id == 0);
      CHECK(results[b].branch == static_cast<int>(b));
      CHECK(results[b].tokens == naive(prompt, 20, options, serve::branch_seed(77, b)));
      REQUIRE(results[b].logprobs.size() == (room == 2048 ? 20 : 0));
      for (std::size_t i = 0; i < results[b].logprobs.size(); ++i) {
        CHECK(results[b].logprobs[i].chosen.token == results[b].tokens[i]);
      }
    }
    CHECK(results[0].tokens != results[1].tokens);
    CHECK(results[3].tokens == naive({3}, 30, {}, 0));
    const auto s = e.statistics();
    CHECK(s.blocks_used == 0);
    CHECK((s.preemptions > 0) == (room == 104));
    if (room == 2048) {
      CHECK(s.computed_tokens == 18 + 3 * 19 + 1 + 29 + 18 + 8);  // the prompt once for three
      CHECK(s.copied_blocks == 2);  // the third writes to the block itself
      CHECK(s.sharing_mean > 0.1);
    }
  }
}

TEST_CASE("serve/decoding: a beam search finds the same texts as one without blocks") {
  for (const std::int64_t room : {2048, 88}) {
    for (const double penalty : {0.0, 1.0}) {
      fake_model model;
      any_proposer proposer = silent();
      engine e(model, {.cache_tokens = room, .eos_tokens = {4}}, proposer);
      std::vector<serve::request> wishes;
      for (const int width : {1, 2, 4}) {
        wishes.push_back({.tokens = tokens(static_cast<std::size_t>(3 + 4 * width), width),
                          .max_tokens = 15,
                          .beam_width = width,
                          .length_penalty = penalty});
      }
      const tokens longer(60, 3);
      e.submit({.tokens = longer, .max_tokens = 20, .ignore_eos = true});
      for (const auto& r : wishes) {
        e.submit(r);
      }
      const auto results = e.run();
      REQUIRE(results.size() == 1 + 1 + 2 + 4);
      CHECK(results[0].tokens == naive(longer, 20, {}, 0));
      std::size_t at = 1;
      for (const auto& r : wishes) {
        serve::beam b(
            {.width = r.beam_width, .length_penalty = penalty, .max_tokens = 15, .eos_tokens = {4}},
            std::ssize(r.tokens));
        while (!b.over()) {
          std::vector<std::vector<serve::token_logprob>> next;
          for (const auto& h : b.live()) {
            tokens text = r.tokens;
            text.insert(text.end(), h.tokens.begin(), h.tokens.end());
            next.push_back(b.continuations(serve::testing::naive_logits(text, 23)));
          }
          b.advance(next);
        }
        REQUIRE(b.best().size() == static_cast<std::size_t>(r.beam_width));
        for (const auto& h : b.best()) {
          CHECK(results[at].tokens == h.tokens);
          CHECK(results[at].score == h.score);
          CHECK(results[at].reason ==
                (h.tokens.back() == 4 ? finish_reason::eos : finish_reason::length));
          ++at;
        }
      }
      CHECK(e.statistics().blocks_used == 0);
      CHECK((e.statistics().preemptions > 0) == (room == 88));
    }
  }
}

TEST_CASE("serve/decoding: a beam search that may not end yet goes on with other tokens") {
  const tokens prompt{1, 2};
  const auto logits = serve::testing::naive_logits(prompt, 23);
  tokens ends(23);  // the five likeliest tokens, more than a beam of 2 proposes
  for (std::size_t i = 0; i < ends.size(); ++i) {
    ends[i] = static_cast<token>(i);
  }
  std::ranges::sort(ends, [&logits](token a, token b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  ends.resize(5);
  fake_model model;
  any_proposer proposer = silent();
  engine e(model, {.eos_tokens = ends}, proposer);
  e.submit({.tokens = prompt, .max_tokens = 8, .min_tokens = 8, .beam_width = 2});
  const auto results = e.run();
  REQUIRE(results.size() == 2);
  for (const auto& f : results) {
    CHECK(f.tokens.size() == 8);
    CHECK(std::ranges::count(ends, f.tokens.front()) == 0);
  }
}

TEST_CASE("serve/decoding: a beam search that is aborted gives what it has") {
  fake_model model;
  any_proposer proposer = silent();
  engine e(model, {}, proposer);
  e.submit({.tokens = {1, 2}, .max_tokens = 20, .beam_width = 3});
  e.submit({.tokens = {1, 2}, .max_tokens = 20, .beam_width = 3});
  for (int i = 0; i < 5; ++i) {
    e.step();
  }
  CHECK(e.abort(0));
  const auto results = e.take_finished();
  REQUIRE(results.size() == 3);
  CHECK(results[0].reason == finish_reason::aborted);
  CHECK(results[0].tokens.size() == 5);
  CHECK(e.run().size() == 3);
  CHECK(e.statistics().blocks_used == 0);
  model.nan_at = model.steps + 2;
  e.submit({.tokens = {1, 2}, .max_tokens = 20, .beam_width = 3});
  const auto failed = e.run();
  REQUIRE(!failed.empty());
  CHECK(failed[0].reason == finish_reason::error);
  CHECK(e.statistics().blocks_used == 0);
}

TEST_CASE("serve/decoding: stop strings end texts, held back until they are complete") {
  const tokens prompt{1, 2, 3};
  const tokens run = naive(prompt, 30, {}, 0);
  const std::string whole = text_of(run);
  const std::string stop = whole.substr(9, 3);
  const std::string never = whole.substr(4, 2) + "!";
  const std::size_t ends = whole.find(stop);
  for (const bool keep : {false, true}) {
    for (const int least : {0, static_cast<int>(ends) + 3}) {
      fake_model model;
      any_proposer proposer = nearly_right();
      auto options = with_text();
      std::string streamed;
      std::size_t behind = 0;
      tokens announced;
      options.on_token = [&](const serve::token_event& event) {
        streamed += event.text;
        announced.push_back(event.token);
        behind = std::max(behind, announced.size() - streamed.size());
      };
      engine e(model, std::move(options), proposer);
      e.submit({.tokens = prompt,
                .max_tokens = 30,
                .min_tokens = least,
                .stop_strings = {never, stop},
                .keep_stop_string = keep});
      const auto f = e.run().at(0);
      CHECK(f.text == streamed);
      CHECK(f.tokens == announced);
      if (least == 0) {
        CHECK(f.reason == finish_reason::stop_string);
        CHECK(f.text == whole.substr(0, ends + (keep ? 3 : 0)));
        CHECK(f.tokens == tokens(run.begin(), run.begin() + static_cast<std::ptrdiff_t>(ends) + 3));
        CHECK(behind == (keep ? 2 : 3));
      } else if (whole.find(stop, ends + 1) == std::string::npos) {
        CHECK(f.reason == finish_reason::length);
        CHECK(f.text == whole);
      }
    }
  }
  fake_model model;
  any_proposer proposer = silent();
  engine bare(model, {}, proposer);
  CHECK_THROWS_AS(bare.submit({.tokens = {1}, .stop_strings = {"x"}}), serve::invalid_request);
}

TEST_CASE("serve/decoding: a log holds texts that end in the midst of accepted drafts") {
  const tokens prompt{1, 2, 3};
  const std::string whole = text_of(naive(prompt, 30, {}, 0));
  for (std::size_t at = 4; at < 14; ++at) {
    fake_model model;
    any_proposer proposer{
        .say = [](const serve::proposal_context& c, int most, serve::proposal& out) {
          out.tokens = naive({c.text.begin(), c.text.end()}, most, {}, 0);
        }};
    engine e(model, with_text(), proposer);
    for (int i = 0; i < 3; ++i) {  // while one ends, the others are longer than they will be
      e.submit({.tokens = prompt, .max_tokens = 30, .stop_strings = {whole.substr(at, 3)}});
    }
    const auto results = e.run();
    REQUIRE(results.size() == 3);
    CHECK(results[2].text == results[0].text);
    kv::paged<4>::pool pool(static_cast<kv::block_id>(e.statistics().blocks));
    CHECK(serve::replay<small_chunks, kv::paged<4>>(e.scheduler().log(), pool) ==
          static_cast<std::size_t>(e.scheduler().statistics().steps));
  }
}

TEST_CASE("serve/decoding: pieces add up to the text, with cut characters and a space that goes") {
  const std::vector<std::string> bytes{" a", "b",    "\xe2\x82",      "\xac",
                                       " ",  "\xf0", "\x9f\x98\x80 x"};
  const auto decode = [&](std::span<const token> ids) {  // as SentencePiece does
    std::string s;
    for (const token t : ids) {
      s += bytes[static_cast<std::size_t>(t)];
    }
    return s.starts_with(' ') ? s.substr(1) : s;
  };
  for (unsigned seed = 0; seed < 50; ++seed) {
    tokens output;
    std::string text;
    for (unsigned i = 0; i < 30; ++i) {
      output.push_back(static_cast<token>(serve::testing::mix(seed, i) % bytes.size()));
      text += serve::piece_of(decode, output, i);
      CHECK(text == decode(output));
    }
  }
}

TEST_CASE("serve/decoding: log probabilities are those of the model's own logits") {
  fake_model model;
  any_proposer proposer = nearly_right();
  engine e(model, {.cache_tokens = 2048}, proposer);
  tokens prompt;
  for (int i = 0; i < 50; ++i) {  // two chunks
    prompt.push_back(i * i % 23);
  }
  e.submit({.tokens = prompt, .max_tokens = 12, .logprobs = 3, .prompt_logprobs = 1});
  e.submit({.tokens = prompt, .max_tokens = 4});
  const auto results = e.run();
  const auto& f = results.at(0);
  tokens text = prompt;
  text.insert(text.end(), f.tokens.begin(), f.tokens.end());
  const auto same = [](const serve::position_logprobs& a, const serve::position_logprobs& b) {
    return a.chosen == b.chosen && a.rank == b.rank && a.top == b.top;
  };
  REQUIRE(f.prompt_logprobs.size() == prompt.size() - 1);
  REQUIRE(f.logprobs.size() == 12);
  for (std::size_t i = 1; i < text.size(); ++i) {
    const bool told = i < prompt.size();
    const auto expected = serve::logprobs_of(
        serve::testing::naive_logits(std::span(text).first(i), 23), text[i], told ? 1 : 3);
    CHECK(same(told ? f.prompt_logprobs[i - 1] : f.logprobs[i - prompt.size()], expected));
  }
  CHECK(results.at(1).logprobs.empty());
}

TEST_CASE("serve/decoding: behind a window a beginning that fills the pool is found, and fits") {
  fake_model model{.seen = 7};
  using windowed =
      serve::engine<fake_model,
                    kv::paged<4, kv::append_only, kv::sliding_window<8>, kv::prefix_cached<>>>;
  const serve::engine_options options{.cache_tokens = 44};  // ten blocks and the null block
  serve::request r{.tokens = tokens(40, 5), .max_tokens = 1};
  windowed warm(model, options);
  warm.submit(r);
  warm.run();
  r.tokens.push_back(6);
  r.max_tokens = 30;
  warm.submit(r);
  windowed cold(model, {.cache_tokens = 400});
  cold.submit(r);
  const auto expected = cold.run().at(0).tokens;
  CHECK(expected.size() == 30);
  CHECK(warm.run().at(0).tokens == expected);
  CHECK(warm.statistics().prefix_hit_rate == 40.0 / 81);  // of both prompts
  CHECK(warm.statistics().blocks_used == 0);
  // What branches of a request have in common is such a beginning, too.
  serve::request both{.tokens = tokens(40, 5), .max_tokens = 8, .n = 2};
  windowed small(model, options);
  small.submit(both);
  cold.submit(both);
  const auto branches = cold.run();
  CHECK(small.run().at(0).tokens == branches.at(0).tokens);
  CHECK(branches.at(0).tokens.size() == 8);
}
