// SPDX-License-Identifier: Apache-2.0
#include "ashlar/serve/processors.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "ashlar/serve/sampler.hpp"
#include "laws/logits_processor.hpp"

namespace serve = ashlar::serve;
namespace processors = ashlar::serve::processors;
using serve::token;

namespace {

constexpr float out = -std::numeric_limits<float>::infinity();
using logits = std::vector<float>;

template <class Processor>
logits after(logits l, const serve::sampling_options& options,
             const serve::sampling_state& state = {}) {
  Processor().apply(std::span(l), options, state);
  return l;
}

}  // namespace

TEST_CASE_TEMPLATE("serve/processors: the laws of a processor hold", Processor,
                   processors::allowed_tokens, processors::bad_words, processors::mask,
                   processors::logit_bias, processors::penalties, processors::window_penalties<7>,
                   ashlar::laws::less_of_the_first) {
  ashlar::laws::check_logits_processor<Processor>();
}

TEST_CASE("serve/processors: a sampler asks no more of a processor than the concept does") {
  serve::sampler<ashlar::laws::less_of_the_first> sample;
  CHECK(sample(logits{2, 1.5F}, {}, {}) == 1);
}

TEST_CASE("serve/processors: a bias is cut at 100, and brings nothing back") {
  CHECK(after<processors::logit_bias>(
            {1, 2, out}, {.logit_bias = {{0, 1e9F}, {1, -1e9F}, {2, 5}}}) == logits{101, -98, out});
}

TEST_CASE("serve/processors: a bad word is ruled out where only its last token is missing") {
  const std::array<token, 4> history{3, 1, 2, 1};
  const serve::sampling_options options{.bad_words = {{2, 1, 0}, {3, 1, 2, 1, 3}, {1, 2}, {2}}};
  // with the prompt {3}: the second word would need a token of the prompt
  CHECK(after<processors::bad_words>({0, 0, 0, 0}, options,
                                     {.history = history, .prompt_tokens = 1}) ==
        logits{out, 0, out, 0});
  CHECK(after<processors::bad_words>({0, 0, 0, 0}, options,
                                     {.history = history, .prompt_tokens = 4}) ==
        logits{0, 0, out, 0});
  CHECK(after<processors::bad_words>({0, 0, 0, 0}, options, {.history = history}) ==
        logits{out, 0, out, out});
}

TEST_CASE("serve/processors: frequency and presence count the output, or all of a window") {
  const std::array<token, 6> history{0, 0, 1, 2, 1, 1};
  const serve::sampling_options options{.frequency_penalty = 0.5, .presence_penalty = 0.25};
  CHECK(after<processors::penalties>({0, 0, 0, 0}, options,
                                     {.history = history, .prompt_tokens = 3}) ==
        logits{0, -1.25F, -0.75F, 0});
  CHECK(after<processors::window_penalties<5>>({0, 0, 0, 0}, options,
                                               {.history = history, .prompt_tokens = 3}) ==
        logits{-0.75F, -1.75F, -0.75F, 0});
}

TEST_CASE("serve/processors: a mask is asked with the output, and must be as large as the logits") {
  const std::array<token, 3> history{2, 1, 0};
  serve::token_mask mask(3, true);
  mask.forbid(1);
  std::vector<token> asked;
  serve::sampling_options options{.mask = [&](std::span<const token> generated) {
    asked.assign(generated.begin(), generated.end());
    return &mask;
  }};
  CHECK(after<processors::mask>({1, 2, 3}, options, {.history = history, .prompt_tokens = 1}) ==
        logits{1, out, 3});
  CHECK(asked == std::vector<token>{1, 0});
  CHECK_THROWS_AS(after<processors::mask>({1, 2}, options), ashlar::argument_error);
  options.mask = [](std::span<const token>) -> const serve::token_mask* { return nullptr; };
  CHECK(after<processors::mask>({1, 2}, options) == logits{1, 2});
}

TEST_CASE("serve/processors: a mask knows its tokens at every size") {
  for (const int size : {0, 1, 63, 64, 65, 127, 128, 131}) {
    serve::token_mask all(size, true);
    serve::token_mask none(size);
    CHECK(all.count() == size);
    CHECK(none.count() == 0);
    for (token t = 0; t < size; ++t) {
      CHECK(all.allows(t));
      none.allow(t);
      CHECK(none.count() == t + 1);
    }
    CHECK(none == all);
    for (token t = 0; t < size; t += 2) {
      all.forbid(t);
      CHECK(!all.allows(t));
    }
    CHECK(all.count() == size / 2);
  }
}
