// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/serve/execution.hpp"
#include "ashlar/serve/step.hpp"

namespace ashlar::serve {

namespace detail {

/// Fills steps up to recorded sizes, with rows that read and write one spare block.
class step_padding {
 public:
  step_padding(std::int32_t most_rows, std::int32_t block_tokens, kv::block_id spare)
      : spare_(spare) {
    const auto rows = static_cast<std::size_t>(most_rows);
    padded_.block_tokens = block_tokens;
    padded_.tokens.reserve(rows);
    padded_.positions.reserve(rows);
    padded_.slots.reserve(rows);
    padded_.sequences.reserve(rows);
    padded_.logit_rows.reserve(rows);
  }

  /// Returns: `now` with `rows` rows and as many sequences, valid until the next call.
  /// Requires: `now` has no more than that, and asks for the logits of each row.
  [[nodiscard]] const step& operator()(const step& now, std::int32_t rows) {
    padded_.tokens = now.tokens;
    padded_.positions = now.positions;
    padded_.slots = now.slots;
    padded_.sequences = now.sequences;
    while (std::ssize(padded_.tokens) < rows) {
      add(std::ssize(padded_.tokens), 1, 0, std::span(&spare_, 1));
    }
    while (std::ssize(padded_.sequences) < rows) {  // of steps with drafts
      padded_.sequences.push_back({rows, 0, 0, std::span(&spare_, 1)});
    }
    ask_for_all();
    return padded_;
  }
  /// Returns: the longest step there is: `rows` tokens, each at the end of `table`.
  [[nodiscard]] const step& longest(std::int32_t rows, std::int32_t last,
                                    std::span<const kv::block_id> table) {
    padded_.clear();
    for (std::int32_t i = 0; i < rows; ++i) {
      add(i, 1, last, table);
    }
    ask_for_all();
    return padded_;
  }

 private:
  void add(std::ptrdiff_t row, std::int32_t rows, std::int32_t position,
           std::span<const kv::block_id> table) {
    padded_.tokens.push_back(0);
    padded_.positions.push_back(position);
    padded_.slots.push_back(std::int64_t{spare_} * padded_.block_tokens +
                            position % padded_.block_tokens);
    padded_.sequences.push_back({static_cast<std::int32_t>(row), rows, position + 1, table});
  }
  void ask_for_all() {
    padded_.logit_rows.clear();
    for (std::size_t i = 0; i < padded_.tokens.size(); ++i) {
      padded_.logit_rows.push_back(static_cast<std::int32_t>(i));
    }
  }

  kv::block_id spare_;
  step padded_;
};

}  // namespace detail

/// Steps of decoding are recorded for batches of `Rows...` tokens when the engine is made, each
/// with a fixed arena, and replayed: as in TensorRT-LLM.
///
/// A step all of whose rows' logits are asked for (a token of each sequence, or drafts behind it)
/// is padded to the nearest of these sizes; rows that are added read and write a block that nobody
/// else has. What fits none, chunks of prompts and larger batches, is a call of the model. Logits
/// are those of `dynamic`, to the bit, and a replayed step allocates nothing.
///
/// Requires: the model's weights are not replaced while the engine lives; what is written to their
///           elements is seen. `models::llama` and `models::gpt` are recorded by
///           `ashlar/models/recorded.hpp`.
/// Cost:     one capture, one step of longest context and the arena's memory for each size.
template <std::int32_t... Rows>
struct static_engine {
  static constexpr std::array<std::int32_t, sizeof...(Rows)> buckets{Rows...};
  static_assert(!buckets.empty() && ((Rows > 0) && ...) &&
                    std::ranges::adjacent_find(buckets, std::ranges::greater_equal{}) ==
                        buckets.end(),
                "ashlar::serve::static_engine<Rows...>: sizes of batches from 1, in ascending "
                "order");
  static constexpr kv::block_id spare_blocks = 1;

  template <class Model>
  class runner {
    static_assert(kv::RecordingModel<Model>,
                  "ashlar::serve::static_engine<Rows...>: the model must model kv::RecordingModel "
                  "(record_step beside it); for models::llama and models::gpt include "
                  "ashlar/models/recorded.hpp");

   public:
    runner(Model& model, typename Model::cache_type& cache, std::int32_t block_tokens,
           kv::block_id spare)
        : model_(model), cache_(cache), padding_(buckets.back(), block_tokens, spare) {
      const auto context = static_cast<std::int32_t>(
          std::min<std::int64_t>(model.context_length(), std::numeric_limits<std::int32_t>::max()));
      const auto table_blocks = static_cast<std::int32_t>(kv::blocks_for(context, block_tokens));
      const std::vector<kv::block_id> table(static_cast<std::size_t>(table_blocks), spare);
      recorded_.reserve(buckets.size());
      for (const std::int32_t rows : buckets) {
        recorded_.push_back(
            record_step(model, cache, kv::step_sizes{rows, table_blocks, block_tokens}));
        // Now kernels find out how much working memory they need, and later steps have it.
        static_cast<void>(recorded_.back()(padding_.longest(rows, context - 1, table)));
        statistics_.arena_bytes += recorded_.back().bytes();
      }
    }
    runner(const runner&) = delete;
    runner& operator=(const runner&) = delete;

    std::span<const float> operator()(const step& now) {
      const auto rows = static_cast<std::int32_t>(now.tokens.size());
      const auto bucket = std::ranges::lower_bound(buckets, rows);
      if (bucket == buckets.end() || now.logit_rows.size() != now.tokens.size()) {
        ++statistics_.dynamic;
        return called_.emplace(model_.forward(now, cache_));
      }
      const std::span<const float> logits =
          recorded_[static_cast<std::size_t>(bucket - buckets.begin())](padding_(now, *bucket));
      ++statistics_.replayed;
      statistics_.padded_rows += *bucket - rows;
      return logits.first(now.tokens.size() * static_cast<std::size_t>(model_.vocabulary()));
    }
    [[nodiscard]] const execution_statistics& statistics() const { return statistics_; }

   private:
    using recorded =
        decltype(record_step(std::declval<Model&>(), std::declval<typename Model::cache_type&>(),
                             std::declval<const kv::step_sizes&>()));
    using called = std::decay_t<decltype(std::declval<Model&>().forward(
        std::declval<const step&>(), std::declval<typename Model::cache_type&>()))>;

    Model& model_;
    typename Model::cache_type& cache_;
    detail::step_padding padding_;
    std::vector<recorded> recorded_;  // by bucket
    std::optional<called> called_;    // what the model's own call returned last
    execution_statistics statistics_;
  };
};

}  // namespace ashlar::serve
