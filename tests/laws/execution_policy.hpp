// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "ashlar/kv/step.hpp"
#include "ashlar/serve/execution.hpp"
#include "serve/fake_model.hpp"

namespace ashlar::serve::testing {

/// A step of the fake model "recorded": it takes the sizes it was made for and no others.
struct recorded_fake {
  fake_model* model;
  fake_model::cache_type* cache;
  kv::step_sizes sizes;
  std::vector<float> logits{};

  std::span<const float> operator()(const step& now) {
    const auto rows = static_cast<std::size_t>(sizes.rows);
    CHECK(now.block_tokens == sizes.block_tokens);
    CHECK(now.tokens.size() == rows);
    CHECK(now.positions.size() == rows);
    CHECK(now.slots.size() == rows);
    CHECK(now.sequences.size() == rows);
    CHECK(now.logit_rows.size() == rows);
    std::int32_t next = 0;
    for (const sequence_step& s : now.sequences) {
      CHECK(s.first_row == next);
      next += s.rows;
    }
    CHECK(next == sizes.rows);
    logits = model->forward(now, *cache);
    return logits;
  }
  [[nodiscard]] std::size_t bytes() const { return 1000 * static_cast<std::size_t>(sizes.rows); }
};
inline recorded_fake record_step(fake_model& model, fake_model::cache_type& cache,
                                 const kv::step_sizes& sizes) {
  return {&model, &cache, sizes};
}

}  // namespace ashlar::serve::testing

/// Laws of `serve::ExecutionPolicy`, and a policy that has no more than the concept asks.
namespace ashlar::laws {

/// A step is built sequence by sequence, as an engine does.
struct built_step {
  serve::step now;

  explicit built_step(std::int32_t block_tokens) { now.block_tokens = block_tokens; }

  /// The next `rows` tokens of a sequence that has `computed` in `blocks`.
  void add(std::span<const kv::block_id> blocks, std::int32_t computed,
           std::span<const serve::token> rows, bool ask_for_all = true) {
    now.sequences.push_back({static_cast<std::int32_t>(now.tokens.size()),
                             static_cast<std::int32_t>(rows.size()),
                             computed + static_cast<std::int32_t>(rows.size()), blocks});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int32_t at = computed + static_cast<std::int32_t>(i);
      if (ask_for_all || i + 1 == rows.size()) {
        now.logit_rows.push_back(static_cast<std::int32_t>(now.tokens.size()));
      }
      now.tokens.push_back(rows[i]);
      now.positions.push_back(at);
      now.slots.push_back(std::int64_t{blocks[static_cast<std::size_t>(at / now.block_tokens)]} *
                              now.block_tokens +
                          at % now.block_tokens);
    }
  }
};

/// Logits of any steps are those of the model's own call, and so is what the cache holds
/// afterwards, but for the policy's spare blocks; every step is counted once.
template <class E>
serve::execution_statistics check_execution_policy(std::uint32_t seed) {
  static_assert(serve::ExecutionPolicy<E>, "ashlar::laws::check_execution_policy: no policy");
  using serve::testing::fake_model;
  constexpr std::int32_t block_tokens = 5;
  constexpr std::int32_t blocks_each = 20;  // of 5 tokens: more than the context
  constexpr std::int32_t sequences = 11;
  std::mt19937 random(seed);
  const auto below = [&random](std::int32_t n) {
    return static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(n));
  };
  std::vector<kv::block_id> blocks(blocks_each * sequences);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = static_cast<kv::block_id>(i);
  }
  std::ranges::shuffle(blocks, random);
  const auto pool = static_cast<kv::block_id>(blocks.size());

  fake_model plain;
  fake_model used;
  auto expected_cache = plain.make_cache(pool, block_tokens);
  auto cache = used.make_cache(pool + E::spare_blocks, block_tokens);
  typename E::template runner<fake_model> run(used, cache, block_tokens, pool);
  std::vector<std::int32_t> computed(sequences);
  int steps = 0;
  for (; steps < 300; ++steps) {
    built_step built(block_tokens);
    const bool decoding = below(4) != 0;
    const std::int32_t share = 1 + below(sequences);
    for (std::int32_t s = 0; s < sequences; ++s) {
      if (below(sequences) >= share && !(s + 1 == sequences && built.now.tokens.empty())) {
        continue;
      }
      const std::int32_t rows = below(3) != 0 ? 1 : 1 + below(decoding ? 4 : 30);
      std::int32_t& at = computed[static_cast<std::size_t>(s)];
      if (at + rows > plain.context) {
        at = 0;  // another one in the same blocks
      }
      std::vector<serve::token> tokens;
      for (std::int32_t i = 0; i < rows; ++i) {
        tokens.push_back(below(plain.words));
      }
      const auto first = static_cast<std::size_t>(s * blocks_each);
      built.add(std::span(blocks).subspan(first, blocks_each), at, tokens, decoding);
      at += rows - (decoding ? below(rows) : 0);  // the last drafts were wrong
    }
    const auto expected = plain.forward(built.now, expected_cache);
    const auto result = run(built.now);
    const std::span<const float> logits = result;
    CHECK(std::ranges::equal(logits, expected));
    CHECK(std::equal(expected_cache.begin(), expected_cache.end(), cache.begin()));
  }
  const serve::execution_statistics& done = run.statistics();
  CHECK(done.replayed + done.dynamic == steps);
  return done;
}

/// Counts and calls.
struct plain_calls {
  static constexpr int spare_blocks = 2;  // and writes nothing there
  template <class Model>
  struct runner {
    Model& model;
    typename Model::cache_type& cache;
    serve::execution_statistics done{};

    runner(Model& m, typename Model::cache_type& c, std::int32_t, kv::block_id)
        : model(m), cache(c) {}
    auto operator()(const serve::step& now) {
      ++done.dynamic;
      return model.forward(now, cache);
    }
    [[nodiscard]] serve::execution_statistics statistics() const { return done; }
  };
};

}  // namespace ashlar::laws
