// SPDX-License-Identifier: Apache-2.0
// Speculative decoding and a beam search over rows of logits: no engine, no tensor in sight.
#include <ashlar/serve/beam.hpp>
#include <ashlar/serve/proposers.hpp>
#include <ashlar/serve/speculative.hpp>
#include <cstddef>
#include <cstdio>
#include <span>
#include <vector>

namespace al = ashlar;
using al::serve::token;

/// Stands for a chip: after each token two others are likely.
std::vector<float> logits_after(std::span<const token> text) {
  std::vector<float> logits(12, 0);
  logits[static_cast<std::size_t>(text.back() * 5 + 1) % 12] = 6;
  logits[static_cast<std::size_t>(text.back() + 7) % 12] = 4;
  return logits;
}

void drafts() {
  al::serve::vllm_sampler sample;
  const al::serve::sampling_options options{.temperature = 0.7};
  std::vector<token> text{3, 1};
  int steps = 0;
  while (text.size() < 102) {
    al::serve::proposal guess;
    al::serve::ngram_proposer<2, 4>::propose({.text = text}, 4, guess);
    // On a chip one step gives the rows of logits behind the text and behind each draft.
    bool all = true;
    for (std::size_t i = 0; all && i < guess.tokens.size(); ++i) {
      const auto v = al::serve::verify(sample, logits_after(text), guess.tokens[i], guess.from(i),
                                       options, {.history = text, .seed = 1});
      text.push_back(v.chosen);
      all = v.accepted;
    }
    if (all) {
      text.push_back(sample(logits_after(text), options, {.history = text, .seed = 1}));
    }
    ++steps;
  }
  std::printf("%zu tokens in %d steps\n", text.size() - 2, steps);
}

void beams() {
  const std::vector<token> prompt{3, 1};
  al::serve::beam search({.width = 3, .max_tokens = 6, .eos_tokens = {0}}, std::ssize(prompt));
  while (!search.over()) {
    std::vector<std::vector<al::serve::token_logprob>> next;
    for (const al::serve::hypothesis& h : search.live()) {
      std::vector<token> text = prompt;
      text.insert(text.end(), h.tokens.begin(), h.tokens.end());
      next.push_back(search.continuations(logits_after(text)));
    }
    search.advance(next);  // says which text goes on from which: fork and drop block tables so
  }
  for (const al::serve::hypothesis& h : search.best()) {
    std::printf("%.3f:", h.score);
    for (const token t : h.tokens) {
      std::printf(" %d", t);
    }
    std::printf("\n");
  }
}

int main() {
  drafts();
  beams();
}
// prints: 100 tokens in 40 steps
// prints: -0.111: 6 7 0
// prints: -0.361: 6 7 2 11 8 5
// prints: -0.361: 8 5 2 11 8 5
