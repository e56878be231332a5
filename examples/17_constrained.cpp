// SPDX-License-Identifier: Apache-2.0
// Constrained decoding: whatever the model prefers, the text matches a regular expression.
#include <ashlar/serve/constraint.hpp>
#include <ashlar/serve/sampler.hpp>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace al = ashlar;
using al::serve::token;

int main() {
  // A vocabulary whose tokens hold several bytes, and an end of text. With a tokenizer of
  // `ashlar/io` these are `at(id).text`, and none for control tokens.
  const std::vector<std::string> pieces{"",   "20", "26",    "1",    "2", "0",   "-",
                                        "-0", "7",  "Novem", "ber ", " ", "12-", "9"};
  const token end = 0;
  // A model that would rather write the month in letters.
  const std::vector<float> logits{1, 3, 2, 1, 1, 1, 1, 0, 1, 6, 7, 5, 0, 1};

  const al::serve::byte_regex date(R"(20\d\d-(0[1-9]|1[0-2])-([0-2]\d))");
  al::serve::sampling_options options{.temperature = 1};
  options.mask = al::serve::regex_constraint(date, pieces, {end});

  al::serve::vllm_sampler sample;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    std::vector<token> output;
    std::string text;
    while (true) {
      const token t = sample(logits, options, {.history = output, .seed = seed});
      if (t == end) {
        break;
      }
      output.push_back(t);
      text += pieces[static_cast<std::size_t>(t)];
    }
    std::printf("%s in %zu tokens, %s\n", text.c_str(), output.size(),
                date.matches(text) ? "a date" : "no date");
  }
  options.mask = nullptr;
  const token free_choice = sample(logits, {}, {});
  std::printf("without the constraint: `%s`\n",
              pieces[static_cast<std::size_t>(free_choice)].c_str());
}
// prints: 2020-10-11 in 8 tokens, a date
// prints: 2026-02-20 in 8 tokens, a date
// prints: 2020-07-20 in 6 tokens, a date
// prints: without the constraint: `ber `
