// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ashlar/kv/block_pool.hpp"

namespace ashlar::kv {

/// A token's number in the model's vocabulary.
using token = std::int32_t;

/// One sequence's part of a step.
struct sequence_step {
  std::int32_t first_row = 0;        ///< of this sequence's new tokens in `step::tokens`
  std::int32_t rows = 0;             ///< new tokens
  std::int32_t context = 0;          ///< tokens in the cache once the new ones are written
  std::span<const block_id> blocks;  ///< position `i` lives in `blocks[i / block_tokens]`
  std::string_view adapter{};        ///< weights added to the model's; empty: none
};

/// The input of one forward pass: new tokens of several sequences, one row each, back to back.
///
/// A model writes the keys and values of row `i` to slot `slots[i]` of its cache, in every layer
/// before that layer's attention reads, and lets the row attend to the positions `0 ..
/// positions[i]` of its own sequence, found through `sequences[...].blocks`.
struct step {
  std::int32_t block_tokens = 0;
  std::vector<token> tokens;             ///< (rows)
  std::vector<std::int32_t> positions;   ///< (rows) place of the token in its sequence
  std::vector<std::int64_t> slots;       ///< (rows) `block * block_tokens + offset`
  std::vector<sequence_step> sequences;  ///< in order of their rows
  std::vector<std::int32_t> logit_rows;  ///< ascending: the rows whose logits are asked for

  void clear() {
    tokens.clear();
    positions.clear();
    slots.clear();
    sequences.clear();
    logit_rows.clear();
  }
};

/// A model that reads and writes its keys and values through block tables.
///
/// `make_cache(blocks, block_tokens)` allocates key-value memory; `forward(step, cache)` returns
/// something that converts to `std::span<const float>`: the logits of the rows in
/// `step.logit_rows`, in that order, `vocabulary()` numbers each, row-major. The logits of a
/// sequence depend on that sequence alone.
template <class M>
concept PagedModel = requires(M& model, const step& input, typename M::cache_type& cache,
                              block_id blocks, std::int32_t block_tokens) {
  { model.make_cache(blocks, block_tokens) } -> std::same_as<typename M::cache_type>;
  { model.forward(input, cache) } -> std::convertible_to<std::span<const float>>;
  { model.vocabulary() } -> std::convertible_to<std::int64_t>;
  { model.context_length() } -> std::convertible_to<std::int64_t>;
};

/// A paged model whose blocks can be copied, as sequences that fork or are swapped out ask for.
///
/// `copy_block(from, block, to, other)`: `other` of the cache `to` gets what `block` of `from`
/// holds, in every layer. The two caches are of the same model and block size, and may be the same.
template <class M>
concept CopyingModel =
    PagedModel<M> && requires(M& model, typename M::cache_type& cache, block_id block) {
      model.copy_block(cache, block, cache, block);
    };

/// A paged model with weights that are added to its own for the sequences that ask for them by
/// name (`sequence_step::adapter`). `has_adapter(name)`: whether there are such.
template <class M>
concept AdaptedModel = PagedModel<M> && requires(const M& model, std::string_view name) {
  { model.has_adapter(name) } -> std::convertible_to<bool>;
};

/// What a recorded step has of everything, whatever is served.
struct step_sizes {
  std::int32_t rows = 0;          ///< tokens, each of a sequence of its own or not
  std::int32_t table_blocks = 0;  ///< block tables are as wide
  std::int32_t block_tokens = 0;
};

/// A step of fixed sizes, recorded once: `run(step)` takes as many tokens and sequences as were
/// recorded, all of whose logits are asked for, and returns these. `bytes()` is its own memory.
template <class R>
concept RecordedStep = std::movable<R> && requires(R& run, const R& made, const step& input) {
  { run(input) } -> std::convertible_to<std::span<const float>>;
  { made.bytes() } -> std::convertible_to<std::size_t>;
};

/// A paged model whose steps can be recorded, by a function beside it:
/// `record_step(model, cache, sizes)`. Such a step reads and writes that cache; logits are those of
/// `forward`, to the bit.
template <class M>
concept RecordingModel =
    PagedModel<M> && requires(M& model, typename M::cache_type& cache, const step_sizes& sizes) {
      { record_step(model, cache, sizes) } -> RecordedStep;
    };

}  // namespace ashlar::kv
