// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/sampling.hpp"
#include "ashlar/serve/speculative.hpp"

namespace ashlar::serve::detail {

/// What a step found out about one of its sequences.
struct outcome {
  bool whole = false;             ///< all known tokens are computed: there is a next one
  std::int32_t prompt_rows = 0;   ///< rows of logits for `prompt_logprobs`
  std::int32_t drafts = 0;        ///< computed behind the known tokens
  std::int32_t accepted = 0;      ///< of these
  std::vector<token> tokens{};    ///< what follows
  std::vector<token> siblings{};  ///< the first tokens of other completions of the prompt
  std::vector<position_logprobs> logprobs{};  ///< of `tokens`, then of `siblings`
  std::vector<position_logprobs> prompt_logprobs{};
  std::vector<token_logprob> continuations{};  ///< of a text of a beam
  std::exception_ptr error{};

  void clear() {
    whole = false;
    prompt_rows = drafts = accepted = 0;
    tokens.clear();
    siblings.clear();
    logprobs.clear();
    prompt_logprobs.clear();
    continuations.clear();
    error = nullptr;
  }
};

/// A beam search among an engine's requests.
template <class Sequence>
struct beam_run {
  beam search;
  std::vector<Sequence*> members;                  ///< by the place of their text among the live
  std::vector<std::vector<token_logprob>> next{};  ///< what they may go on with
  std::size_t ready = 0;                           ///< members whose `next` is known
  std::exception_ptr error{};

  /// Returns: whether all members are ready.
  bool add(const Sequence& s, outcome& o) {
    const auto at = static_cast<std::size_t>(std::ranges::find(members, &s) - members.begin());
    next.resize(members.size());
    next[at] = std::move(o.continuations);
    error = o.error ? o.error : error;
    return ++ready == members.size();
  }

  /// One token more for every text: their sequences fork, go on or leave `queue`.
  template <class Queue>
  void grow(Queue& queue) {
    const auto steps = search.advance(next);
    next.clear();
    ready = 0;
    if (search.over()) {
      return;
    }
    std::vector<char> used(members.size());
    for (const beam::step& s : steps) {
      used[s.parent] = 1;
    }
    for (std::size_t i = 0; i < members.size(); ++i) {  // first, for the room
      if (used[i] == 0) {
        queue.drop(*members[i]);
      }
    }
    std::vector<Sequence*> grown;
    for (const beam::step& s : steps) {
      Sequence& parent = *members[s.parent];
      grown.push_back(std::exchange(used[s.parent], char{0}) != 0 ? &parent : &queue.fork(parent));
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
      grown[i]->tokens.push_back(steps[i].token);
    }
    members = std::move(grown);
  }
};

}  // namespace ashlar::serve::detail
