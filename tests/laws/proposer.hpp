// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ashlar/serve/speculative.hpp"

/// Laws of `serve::Proposer`, and a proposer that does as little as one may.
namespace ashlar::laws {

/// At most as many tokens as asked for, of the vocabulary; what was drawn comes with a distribution
/// that has it; the same calls give the same proposals; a sequence that is over leaves others be.
template <class Make>
void check_proposer(const Make& make, int vocabulary) {
  static_assert(serve::Proposer<decltype(make())>, "ashlar::laws::check_proposer: no Proposer");
  auto first = make();
  auto second = make();
  std::mt19937 random(10);
  const serve::sampling_options options{.temperature = 1};
  std::vector<std::vector<serve::token>> texts(3);
  for (int round = 0; round < 120; ++round) {
    const std::size_t which = random() % texts.size();
    auto& text = texts[which];
    if (text.size() > 80) {
      first.finish(which);
      second.finish(which);
      text.clear();
    }
    for (auto more = 1 + random() % 5; more-- > 0;) {  // with repetitions
      text.push_back(static_cast<serve::token>(random() % 2 == 0 || text.size() < 9
                                                   ? random() % static_cast<unsigned>(vocabulary)
                                                   : static_cast<unsigned>(text[text.size() - 7])));
    }
    const int most = static_cast<int>(random() % 6);
    const serve::proposal_context context{
        .sequence = which, .text = text, .prompt_tokens = 1, .options = &options, .seed = which};
    serve::proposal a;
    serve::proposal b;
    first.propose(context, most, a);
    second.propose(context, most, b);
    CHECK(a.tokens == b.tokens);
    CHECK(std::ssize(a.tokens) <= most);
    CHECK((a.drawn_from.empty() || a.drawn_from.size() == a.tokens.size()));
    for (std::size_t i = 0; i < a.tokens.size(); ++i) {
      CHECK((a.tokens[i] >= 0 && a.tokens[i] < vocabulary));
      if (!a.drawn_from.empty()) {
        double total = 0;
        serve::token before = -1;
        for (const serve::weighted_token& w : a.from(i)) {
          CHECK(w.id > before);
          before = w.id;
          total += w.probability;
        }
        CHECK(serve::probability_of(a.from(i), a.tokens[i]) > 0);
        CHECK(std::abs(total - 1) < 1e-9);
      }
    }
  }
}

/// The last token once more.
struct once_more {
  static void propose(const serve::proposal_context& context, int most, serve::proposal& out) {
    if (most > 0) {
      out.tokens.push_back(context.text.back());
    }
  }
  static void finish(std::uint64_t) {}
};

}  // namespace ashlar::laws
