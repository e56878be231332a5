// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/philox.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/speculative.hpp"
#include "ashlar/serve/step.hpp"
#include "ashlar/serve/stop_text.hpp"

namespace ashlar::serve {

/// What an engine knows of a sequence's output besides its tokens.
struct generation {
  proposal drafts{};       ///< for the coming step
  draft_length length{0};  ///< how many to ask for
  bool streams = false;    ///< text is made token by token
  stop_text stop{};
  std::string text{};  ///< shown so far, where it streams
  std::vector<position_logprobs> logprobs{};
  std::vector<position_logprobs> prompt_logprobs{};
};

/// The seed of one of the completions of a prompt; that of the first is the request's own.
constexpr std::uint64_t branch_seed(std::uint64_t seed, std::uint64_t branch) {
  if (branch == 0) {
    return seed;
  }
  const auto bits = philox(
      {static_cast<std::uint32_t>(branch), static_cast<std::uint32_t>(branch >> 32), 0, 2}, seed);
  return (std::uint64_t{bits[1]} << 32) | bits[0];
}

/// The text that token `at` adds to an output: the difference of two texts that begin a few tokens
/// before it. Requires: `decode` gives bytes, not replaced by others where a character is cut.
inline std::string piece_of(const std::function<std::string(std::span<const token>)>& decode,
                            std::span<const token> output, std::size_t at) {
  const std::size_t window = std::min<std::size_t>(at, 8);
  const auto tokens = output.subspan(at - window, window + 1);
  const std::string before = window == 0 ? std::string() : decode(tokens.first(window));
  const std::string after = decode(tokens);
  const auto differ = std::mismatch(after.begin(), after.end(), before.begin(), before.end());
  return {differ.first, after.end()};
}

}  // namespace ashlar::serve
