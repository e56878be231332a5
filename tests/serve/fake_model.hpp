// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/serve/step.hpp"

namespace ashlar::serve::testing {

constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = (a ^ (b * 0x9E3779B97F4A7C15u)) + 0x632BE59BD9B4E019u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// The state of a token: it depends on every earlier state, as in a deep model.
constexpr std::uint64_t next_state(std::uint64_t earlier, token t, std::int64_t position) {
  return mix(earlier, mix(static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(position)));
}

inline std::vector<float> logits_of(std::uint64_t state, int vocabulary) {
  std::vector<float> logits;
  for (int v = 0; v < vocabulary; ++v) {
    logits.push_back(static_cast<float>(mix(state, static_cast<std::uint64_t>(v)) >> 44) *
                     0x1p-17F);  // [0, 8)
  }
  return logits;
}

/// The same model without a cache; a token sees the last `window` tokens, itself included.
inline std::vector<float> naive_logits(std::span<const token> tokens, int vocabulary,
                                       std::size_t window = 1u << 20, std::uint64_t adapter = 0) {
  std::vector<std::uint64_t> states;
  std::uint64_t sum = adapter;  // of the states that a token sees
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    sum -= i >= window ? states[i - window] : 0;
    states.push_back(next_state(sum, tokens[i], static_cast<std::int64_t>(i)));
    sum += states.back();
  }
  return logits_of(states.empty() ? 0 : states.back(), vocabulary);
}

/// A language model made of hashes: one wrong slot, position or block changes its tokens.
struct fake_model {
  using cache_type = std::vector<std::uint64_t>;

  std::vector<std::string> adapters{""};  ///< the first is none
  int words = 23;
  int context = 96;
  int seen = 96;          ///< a token sees so many tokens before itself
  int fail_at = -1;       ///< the step in which `forward` throws
  int nan_at = -1;        ///< the step whose first row of logits holds a NaN
  int cut_at = -1;        ///< the step that returns a logit too few
  int fail_copy_at = -1;  ///< the copy of a block that throws
  int steps = 0;
  int copies = 0;
  int block_tokens = 0;  ///< of the cache made last
  double waste_sum = 0;  ///< of what `forward` was shown
  double waste_peak = 0;
  std::size_t widest = 0;  ///< most rows in one step
  std::size_t most = 0;    ///< most sequences in one step

  [[nodiscard]] cache_type make_cache(kv::block_id blocks, std::int32_t tokens) {
    block_tokens = tokens;
    return cache_type(static_cast<std::size_t>(blocks) * static_cast<std::size_t>(tokens), 0xDEADu);
  }
  void copy_block(const cache_type& from, kv::block_id block, cache_type& to, kv::block_id other) {
    if (copies++ == fail_copy_at) {
      throw std::runtime_error("the link is down");
    }
    std::copy_n(from.begin() + std::ptrdiff_t{block} * block_tokens, block_tokens,
                to.begin() + std::ptrdiff_t{other} * block_tokens);
  }
  [[nodiscard]] int vocabulary() const { return words; }
  [[nodiscard]] int context_length() const { return context; }
  [[nodiscard]] int window() const { return seen + 1; }
  [[nodiscard]] bool has_adapter(std::string_view name) const {
    return std::ranges::count(adapters, name) != 0;
  }
  /// What an adapter adds to each state; none adds nothing.
  static std::uint64_t seed_of(const std::vector<std::string>& adapters, std::string_view name) {
    return static_cast<std::uint64_t>(std::ranges::find(adapters, name) - adapters.begin());
  }

  std::vector<float> forward(const step& s, cache_type& cache) {
    const int now = steps++;
    std::vector<float> out;
    std::size_t next_row = 0;
    std::int64_t slots = 0;
    std::int64_t held = 0;
    for (const sequence_step& q : s.sequences) {
      slots += std::ssize(q.blocks) * s.block_tokens;
      held += q.context;
      const auto at = [&](std::int32_t position) -> std::uint64_t& {
        return cache[static_cast<std::size_t>(
            q.blocks[static_cast<std::size_t>(position / s.block_tokens)] * s.block_tokens +
            position % s.block_tokens)];
      };
      for (std::int32_t row = q.first_row; row < q.first_row + q.rows; ++row) {
        const auto r = static_cast<std::size_t>(row);
        std::uint64_t sum = seed_of(adapters, q.adapter);
        for (std::int32_t p = std::max(0, s.positions[r] - seen); p < s.positions[r]; ++p) {
          sum += at(p);
        }
        const std::uint64_t state = next_state(sum, s.tokens[r], s.positions[r]);
        cache[static_cast<std::size_t>(s.slots[r])] = state;
        if (next_row < s.logit_rows.size() && s.logit_rows[next_row] == row) {
          const auto logits = logits_of(state, words);
          out.insert(out.end(), logits.begin(), logits.end());
          ++next_row;
        }
      }
    }
    if (now == fail_at) {
      throw std::runtime_error("the chip is on fire");
    }
    if (now == nan_at) {
      out[1] = __builtin_nanf("");
    }
    if (now == cut_at) {
      out.pop_back();
    }
    const double waste = static_cast<double>(slots - held) / static_cast<double>(slots);
    waste_sum += waste;
    waste_peak = waste > waste_peak ? waste : waste_peak;
    widest = s.tokens.size() > widest ? s.tokens.size() : widest;
    most = s.sequences.size() > most ? s.sequences.size() : most;
    return out;
  }
};

}  // namespace ashlar::serve::testing
