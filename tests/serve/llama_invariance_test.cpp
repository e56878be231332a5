// SPDX-License-Identifier: Apache-2.0
// The logits that follow a text depend on that text alone: not on the requests beside it, on how
// its prompt was cut, on where its cache lies, on threads, or on preemption. All equal to the bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/proposers.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/speculative.hpp"
#include "io/io_support.hpp"
#include "support/llama.hpp"

namespace al = ashlar;
namespace kv = ashlar::kv;
namespace serve = ashlar::serve;
namespace testing = ashlar::testing;

namespace {

using tokens = std::vector<std::int32_t>;
using row = std::vector<float>;
/// The logits that followed each text.
using book = std::map<tokens, row>;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Greedy, and writes down the logits it is shown.
struct recording_sampler {
  static inline book* to = nullptr;
  serve::vllm_sampler greedy;

  serve::token operator()(std::span<const float> logits, const serve::sampling_options& options,
                          const serve::sampling_state& state) {
    to->insert_or_assign(tokens(state.history.begin(), state.history.end()),
                         row(logits.begin(), logits.end()));
    return greedy(logits, options, state);
  }
};

/// Texts whose logits differ in `b`, or that only one of the two has.
std::size_t differences(const book& a, const book& b) {
  std::size_t count = 0;
  for (const auto& [text, logits] : a) {
    const auto other = b.find(text);
    count += other == b.end() || !same_bits(logits, other->second) ? 1 : 0;
  }
  for (const auto& [text, logits] : b) {
    count += a.contains(text) ? 0 : 1;
  }
  return count;
}

struct workload {
  std::vector<tokens> prompts;
  std::int32_t more = 10;  ///< tokens to generate
};

workload mixed(std::int64_t vocabulary) {
  workload w;
  for (const int n : {33, 1, 17, 61, 2, 48, 7, 16}) {
    w.prompts.push_back(testing::random_tokens(n, vocabulary, static_cast<std::uint64_t>(n)));
  }
  return w;
}

template <class Cache, class Schedule, class Model>
book run(Model& model, const workload& work, std::int64_t cache_tokens = 0,
         std::int64_t* preemptions = nullptr, std::int32_t block_tokens = 0) {
  book written;
  recording_sampler::to = &written;
  serve::engine<Model, Cache, Schedule, recording_sampler> engine(
      model, {.cache_tokens = cache_tokens != 0 ? cache_tokens : 8 * model.context_length(),
              .block_tokens = block_tokens});
  for (const tokens& prompt : work.prompts) {
    engine.submit({.tokens = prompt, .max_tokens = work.more});
  }
  for (const auto& f : engine.run()) {
    CHECK(f.reason == serve::finish_reason::length);
    CHECK(std::ssize(f.tokens) == work.more);
  }
  if (preemptions != nullptr) {
    *preemptions = engine.statistics().preemptions;
  }
  return written;
}

using whole = serve::continuous<serve::whole_prefill<4096>>;
template <int Tokens>
using chunks = serve::continuous<serve::chunked_prefill<Tokens>>;

/// The same requests twice; of the second time, when their beginnings are in the cache.
book again(testing::serving_llama& model, const workload& work) {
  serve::engine<testing::serving_llama, kv::vllm_v1<5>, chunks<16>, recording_sampler> engine(
      model, {.cache_tokens = 8 * model.context_length()});
  book written;
  for (int round = 0; round < 2; ++round) {
    written.clear();
    recording_sampler::to = &written;
    for (const tokens& prompt : work.prompts) {
      engine.submit({.tokens = prompt, .max_tokens = work.more});
    }
    engine.run();
  }
  CHECK(engine.statistics().prefix_hit_rate > 0.3);
  return written;
}

/// Proposes through a function, so that one type of engine does for all proposers.
struct any_proposer {
  std::function<void(const serve::proposal_context&, int, serve::proposal&)> say;
  void propose(const serve::proposal_context& c, int most, serve::proposal& out) {
    say(c, most, out);
  }
  static void finish(std::uint64_t) {}
};

/// With drafts; greedy, as everything here.
template <class P>
book speculative(testing::serving_llama& model, const workload& work, P& proposer,
                 std::int64_t& accepted, std::int64_t& rejected) {
  any_proposer any{
      .say = [&](const auto& c, int most, auto& out) { proposer.propose(c, most, out); }};
  serve::engine<testing::serving_llama, kv::paged<16>, chunks<64>, recording_sampler, any_proposer>
      engine(model, {.cache_tokens = 8 * model.context_length()}, any);
  book written;
  recording_sampler::to = &written;
  for (const tokens& prompt : work.prompts) {
    engine.submit({.tokens = prompt, .max_tokens = work.more});
  }
  engine.run();
  accepted = engine.statistics().accepted_drafts;
  rejected = engine.statistics().drafts - accepted;
  CHECK(engine.statistics().blocks_used == 0);
  return written;
}

/// Every request in an engine of its own, its prompt in one piece.
book alone(testing::serving_llama& model, const workload& work) {
  book all;
  for (const tokens& prompt : work.prompts) {
    all.merge(run<kv::paged<16>, whole>(model, {{prompt}, work.more}));
  }
  return all;
}

/// The forward pass of training over a finished text gives the logits of all its beginnings.
template <class Model>
std::size_t differences_to_whole(const Model& model, const book& served) {
  std::size_t count = 0;
  const auto width = static_cast<std::size_t>(model.config.vocab);
  const auto begins = [](const tokens& longer, const tokens& text) {
    return longer.size() >= text.size() && std::equal(text.begin(), text.end(), longer.begin());
  };
  for (auto at = served.begin(); at != served.end(); ++at) {
    const tokens& finished = at->first;
    if (const auto next = std::next(at); next != served.end() && begins(next->first, finished)) {
      continue;
    }
    const row all = testing::whole_logits(model, finished);
    for (const auto& [text, logits] : served) {
      if (begins(finished, text)) {
        const auto own = std::span(all).subspan((text.size() - 1) * width, width);
        count += same_bits(own, logits) ? 0 : 1;
      }
    }
  }
  return count;
}

/// The share of blocks of 16 that beams save, over the steps of `count` searches, eight at a time,
/// which begin somewhere in `text`. Lengths are quantiles of a log-normal distribution, of exactly
/// these means before they are cut: drawn one by one, 32 moved the result by a tenth
/// from seed to seed.
double saved_by_beams(testing::serving_llama& model, const tokens& text, int width,
                      std::size_t count, double prompt_mean, double output_mean) {
  std::mt19937 random(5);
  const auto draw = [&](double mean) {
    std::lognormal_distribution<double> around(0, 1);
    std::vector<double> drawn(64 * count);
    std::ranges::generate(drawn, [&] { return around(random); });
    std::ranges::sort(drawn);
    std::vector<double> all(count);
    for (std::size_t i = 0; i < count; ++i) {
      all[i] = drawn[64 * i + 32];
    }
    std::ranges::shuffle(all, random);
    const double sum = std::accumulate(all.begin(), all.end(), 0.0);
    std::ranges::for_each(all, [&](double& x) { x *= mean * static_cast<double>(count) / sum; });
    return all;
  };
  const auto cut = [](double length, std::int64_t most) {
    return std::clamp(static_cast<std::int64_t>(std::lround(length)), std::int64_t{1}, most);
  };
  const auto prompts = draw(prompt_mean);
  const auto outputs = draw(output_mean);
  serve::engine<testing::serving_llama, kv::paged<16>, whole, recording_sampler> engine(
      model, {.cache_tokens = 8 * width * model.context_length()});
  std::size_t sent = 0;
  for (int running = 0; running > 0 || sent < count;
       running -= static_cast<int>(engine.take_finished().size()) / width) {
    for (; running < 8 && sent < count; ++running, ++sent) {
      const auto length = cut(prompts[sent], std::ssize(text) / 2);
      const auto from = text.begin() + static_cast<std::ptrdiff_t>(random() % (text.size() / 2));
      const auto output = cut(outputs[sent], model.context_length() - length);
      engine.submit({.tokens = tokens(from, from + length),
                     .max_tokens = static_cast<std::int32_t>(output),
                     .ignore_eos = true,
                     .beam_width = width});
    }
    engine.step();
  }
  CHECK(engine.statistics().blocks_used == 0);
  CHECK(engine.statistics().preemptions == 0);
  return engine.statistics().sharing_mean;
}

/// All the ways to serve the same requests.
void check_invariance(testing::serving_llama& model, const workload& work) {
  const al::chip::thread_limit one(1);
  const book expected = alone(model, work);
  CHECK(expected.size() == work.prompts.size() * static_cast<std::size_t>(work.more));

  {
    INFO("a batch of eight");
    CHECK(differences(expected, run<kv::paged<16>, whole>(model, work)) == 0);
  }
  {
    INFO("prompts in chunks");
    CHECK(differences(expected, run<kv::paged<16>, chunks<1>>(model, work)) == 0);
    CHECK(differences(expected, run<kv::paged<16>, chunks<7>>(model, work)) == 0);
    CHECK(differences(expected, run<kv::paged<16>, chunks<16>>(model, work)) == 0);
    CHECK(differences(expected, run<kv::paged<16>, chunks<64>>(model, work)) == 0);
  }
  {
    INFO("blocks of other sizes, and none: one block holds the context");
    CHECK(differences(expected, run<kv::paged<5>, chunks<16>>(model, work)) == 0);
    const auto context = static_cast<std::int32_t>(model.context_length());
    for (const std::int32_t tokens : {1, 3, 16, 48, context}) {
      CAPTURE(tokens);
      using any_size = kv::paged<kv::at_run_time>;
      CHECK(differences(expected, run<any_size, whole>(model, work, 0, nullptr, tokens)) == 0);
    }
  }
  {
    INFO("preempted, computed again");
    std::int64_t preemptions = 0;
    CHECK(differences(expected, run<kv::paged<5>, chunks<16>>(model, work, 100, &preemptions)) ==
          0);
    CHECK(preemptions > 0);
  }
  {
    INFO("preempted, swapped out and in");
    using swapping = serve::continuous<serve::chunked_prefill<16>, serve::preempt_by_swap>;
    std::int64_t preemptions = 0;
    CHECK(differences(expected, run<kv::vllm_v0<5>, swapping>(model, work, 100, &preemptions)) ==
          0);
    CHECK(preemptions > 0);
  }
  {
    INFO("as vLLM's schedulers and caches have it, the newer and the older");
    CHECK(differences(expected, run<kv::vllm_v1<16>, serve::vllm_v1<>>(model, work)) == 0);
    CHECK(differences(expected, run<kv::vllm_v0<16>, serve::vllm_v0<64, 4>>(model, work)) == 0);
  }
  {
    INFO("prompts whose beginnings are in the cache");
    CHECK(differences(expected, again(model, work)) == 0);
  }
  {
    INFO("drafts: n-grams, and the model's own tokens, now and then wrong");
    std::int64_t accepted = 0;
    std::int64_t rejected = 0;
    serve::ngram_proposer<1, 3> ngram;
    CHECK(differences(expected, speculative(model, work, ngram, accepted, rejected)) == 0);
    serve::draft_model itself(model, 200, 16);
    struct {
      decltype(itself)& model;
      void propose(const serve::proposal_context& c, int most, serve::proposal& out) {
        model.propose(c, most, out);
        if (c.text.size() % 3 == 0 && !out.tokens.empty()) {
          out.tokens.back() = out.tokens.back() == 0 ? 1 : 0;
        }
      }
    } doubtful{itself};
    CHECK(differences(expected, speculative(model, work, doubtful, accepted, rejected)) == 0);
    CHECK(accepted > 0);
    CHECK(rejected > 0);
  }
  {
    INFO("two threads");
    const al::chip::thread_limit two(2);
    if (al::chip::host_threads() < 2) {
      MESSAGE("SKIPPED: serve/llama on two threads: this build has no OpenMP");
    }
    CHECK(differences(expected, run<kv::paged<16>, whole>(model, work)) == 0);
    CHECK(differences(expected, run<kv::paged<5>, chunks<16>>(model, work)) == 0);
    CHECK(differences_to_whole(model, expected) == 0);
  }
  CHECK(differences_to_whole(model, expected) == 0);
  {
    INFO("weights by columns");
    model.lay_out_for_decoding();
    CHECK(differences(expected, run<kv::paged<16>, whole>(model, work)) == 0);
    CHECK(differences(expected, run<kv::paged<16>, chunks<7>>(model, work)) == 0);
    CHECK(differences_to_whole(model, expected) == 0);
    const al::chip::thread_limit two(2);
    CHECK(differences(expected, run<kv::paged<16>, whole>(model, work)) == 0);
  }
}

}  // namespace

TEST_CASE("serve/llama: logits depend on a request's own tokens alone, with sizes full of tails") {
  auto model = testing::make_serving(testing::odd_config(), 1);
  check_invariance(model, mixed(model.config.vocab));
}

TEST_CASE("serve/llama: the same with small heads, neighbouring pairs and a tied output layer") {
  auto model = testing::make_serving(testing::even_config(), 2);
  check_invariance(model, mixed(model.config.vocab));
}

TEST_CASE("serve/llama: a cache of 32-bit floats in bytes gives the same bits as the model's own") {
  auto model = testing::make_serving(testing::odd_config(), 1);
  const workload work = mixed(model.config.vocab);
  testing::narrow_llama<kv::as<float>> kept(model);
  CHECK(differences(run<kv::paged<16>, whole>(model, work),
                    run<kv::paged<5>, chunks<16>>(kept, work)) == 0);
}

TEST_CASE("serve/llama: with a cache of 8-bit integers logits still depend on own tokens alone") {
  auto model = testing::make_serving(testing::odd_config(), 1);
  const workload work = mixed(model.config.vocab);
  testing::narrow_llama<kv::int8_per_head> narrow(model);
  const book expected = run<kv::paged<16>, whole>(narrow, work);
  CHECK(differences(expected, run<kv::paged<5>, chunks<16>>(narrow, work)) == 0);
  std::int64_t preemptions = 0;
  using swapping = serve::continuous<serve::chunked_prefill<16>, serve::preempt_by_swap>;
  CHECK(differences(expected, run<kv::vllm_v0<5>, swapping>(narrow, work, 100, &preemptions)) == 0);
  CHECK(preemptions > 0);

  // Each kept number is off by at most 1/254 of its head's largest: other bits, near by.
  const book exact = run<kv::paged<16>, whole>(model, work);
  double error = 0;
  double size = 0;
  for (const tokens& prompt : work.prompts) {
    const row& a = exact.at(prompt);
    const row& b = expected.at(prompt);
    for (std::size_t i = 0; i < a.size(); ++i) {
      error += (a[i] - b[i]) * (a[i] - b[i]);
      size += a[i] * a[i];
    }
  }
  CAPTURE(error / size);
  CHECK(error > 0);
  CHECK(error < 0.05 * 0.05 * size);
  const auto own = model.make_cache(10, 16);
  CHECK(narrow.make_cache(10, 16).bytes() ==
        own.keys.size() * 2 * 10 * 16 * static_cast<std::size_t>(own.keys[0].extent(1)) *
            (4 + static_cast<std::size_t>(own.keys[0].extent(2))));
}

TEST_CASE("serve/llama: the same where kernels use a second thread") {
  auto model = testing::make_serving(testing::wide_config(), 3);
  check_invariance(model, mixed(model.config.vocab));
}

TEST_CASE("serve/llama: the same with stories260K") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  auto opened = testing::open(*folder / "stories260K.bin");
  workload work;
  for (const char* text :
       {"", "The", "One day a dog", "Tom and Ben went to the park to play with a big red ball.",
        "She was very sad because", "Lily had a cat. The cat liked to sleep in the warm sun.",
        "It was raining.",
        "\"Can I have a cookie?\" asked the boy. His mom smiled and said, \"Yes"}) {
    work.prompts.push_back(opened.tokenizer.encode_prompt(text));
  }
  check_invariance(opened.model, work);
}

TEST_CASE("serve/llama: beams of stories260K share at least as many blocks as the paper counted") {
  const auto folder = io_test::real_model();
  if (!folder) {
    return;
  }
  auto opened = testing::open(*folder / "stories260K.bin");
  std::ifstream file(*folder / "expected.txt");
  const tokens text =
      opened.tokenizer.encode_prompt(std::string{std::istreambuf_iterator<char>(file), {}});
  REQUIRE(text.size() > 200);
  // PagedAttention, 6.3: blocks of 16, widths of 2 and 6, the mean lengths of Alpaca and ShareGPT.
  // Here a context of 512 and prompts of half the text at most cut the latter to 98 and 264 tokens,
  // and the shorter a text, the less of it is shared.
  const auto saved = [&](int width, std::size_t count, double prompt, double output) {
    return saved_by_beams(opened.model, text, width, count, prompt, output);
  };
  const double two_short = saved(2, 64, 19.3, 58.5);
  const double six_short = saved(6, 32, 19.3, 58.5);
  const double two = saved(2, 4, 161.3, 338.0);
  const double six = saved(6, 4, 161.3, 338.0);
  MESSAGE("sharing: " << two << " to " << six << ", short: " << two_short << " to " << six_short);
  CHECK(two_short >= 0.376);
  CHECK(six_short >= 0.552);
  CHECK(two >= 0.443);
  CHECK(six >= 0.663);
}

TEST_CASE("serve/llama: a recorded forward pass has the bits of one without the tape") {
  const auto c = testing::odd_config();
  const auto trained = testing::make_training(c, 4);
  al::nn::require_grad(trained);
  auto plain = testing::served(trained);
  const workload work{{testing::random_tokens(9, c.vocab, 5)}, 12};
  const book served = run<kv::paged<16>, whole>(plain, work);
  CHECK(differences_to_whole(trained, served) == 0);
  const al::no_grad off;
  CHECK(differences_to_whole(trained, served) == 0);
}

TEST_CASE("serve/llama: sequences of a whole batch have the logits of each alone") {
  const auto c = testing::odd_config();
  const auto model = testing::make_serving(c, 6);
  using integers = testing::serving_llama::integers;
  const tokens all = testing::random_tokens(5 * 23, c.vocab, 7);
  const row together = al::to_vector(model(al::from_values<integers>({5, 23}, all)));
  const auto each = static_cast<std::size_t>(23 * c.vocab);
  for (std::size_t b = 0; b < 5; ++b) {
    const row own = testing::whole_logits(model, std::span(all).subspan(b * 23, 23));
    CHECK(same_bits(own, std::span(together).subspan(b * each, each)));
  }
}
