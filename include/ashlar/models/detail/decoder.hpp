// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/thread.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/views.hpp"

/// What decoders of every architecture do alike.
namespace ashlar::models::detail {

/// (..., H * Dh) -> (..., H, Dh)
auto split_heads(const auto& x, std::int64_t heads, std::int64_t head_dim) {
  shape s(x.shape().first(x.shape().size() - 1));
  s.push_back(heads);
  s.push_back(head_dim);
  return reshape(x, s);
}
/// (..., H, Dh) -> (..., H * Dh)
auto merge_heads(const auto& x) {
  shape s(x.shape().first(x.shape().size() - 2));
  s.push_back(x.extent(-2) * x.extent(-1));
  return reshape(x, s);
}

inline double attention_scale(std::int64_t head_dim) {
  return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

/// Attention of whole sequences; q, k, v and the result are (B, T, H, Dh).
inline constexpr auto causal_attention = [](const auto& q, const auto& k, const auto& v) {
  const auto turn = [](const auto& x) { return transpose(x, 1, 2); };  // (B, H, T, Dh)
  return turn(
      scaled_dot_product_attention(turn(q), turn(k), turn(v), true, attention_scale(q.extent(-1))));
};

void require_tokens(std::string_view entity, const auto& tokens, std::int64_t context) {
  if (tokens.rank() != 2 || tokens.extent(1) > context) {
    throw shape_error(entity, tokens.shape(), shape{context}.span(),
                      "tokens are (B, T), T at most the context on the right");
  }
}

/// Draws matrices: normal with deviation 0.02; what `writes(name)` to the residual stream has it
/// divided by sqrt(2 layers). Source: GPT-2.
void draw_matrices(auto& model, std::int64_t layers, std::uint64_t seed, const auto& writes) {
  std::uint64_t index = 0;
  const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(layers));
  nn::named_parameters(model, [&](const std::string& name, auto& x) {
    if (x.rank() == 2) {
      normal.in_place(x, seed, index << 32, 0.0, writes(name) ? residual : 0.02);
    }
    ++index;
  });
}

/// The same matrix, stored by columns.
template <class Parameter>
Parameter by_columns(const Parameter& w) {
  tensor_spec spec = contiguous_spec(w.spec().type, w.shape());
  std::swap(spec.stride[0], spec.stride[1]);
  spec.stride[0] = 1;
  spec.stride[1] = w.extent(0);
  spec.contiguous = is_dense(spec);
  auto turned = allocate_tensor<Parameter>(spec);
  copy.in_place(turned, w);
  return turned;
}

/// Keys (blocks, Hkv, Dh, block_tokens) and values (blocks, Hkv, block_tokens, Dh) per layer.
template <class Parameter>
struct paged_cache {
  std::vector<Parameter> keys, values;

  static paged_cache make(std::int64_t layers, std::int64_t kv_heads, std::int64_t head_dim,
                          std::int32_t blocks, std::int32_t block_tokens) {
    paged_cache c;
    for (std::int64_t i = 0; i < layers; ++i) {
      c.keys.push_back(zeros<Parameter>({blocks, kv_heads, head_dim, block_tokens}));
      c.values.push_back(zeros<Parameter>({blocks, kv_heads, block_tokens, head_dim}));
    }
    return c;
  }

  /// `other` of `to` gets what `block` holds here.
  void copy_block(std::int32_t block, paged_cache& to, std::int32_t other) const {
    const auto copy_one = [&](const Parameter& from, const Parameter& target) {
      auto place = narrow(target, 0, other, 1);
      copy.in_place(place, narrow(from, 0, block, 1));
    };
    for (std::size_t i = 0; i < keys.size(); ++i) {
      copy_one(keys[i], to.keys[i]);
      copy_one(values[i], to.values[i]);
    }
  }
};

/// Attention of new rows over the cache of `layer`, which gets their keys and values first.
///
/// Shapes: `q`: (rows, H, Dh); `k`, `v`: (rows, Hkv, Dh); the step's numbers as in `step_tensors`.
template <class X>
auto attend_paged(const paged_cache<X>& cache, std::size_t layer, const auto& q, const auto& k,
                  const auto& v, const auto& places, const auto& block_tables,
                  const auto& sequences, const auto& positions) {
  cache_write(cache.keys[layer], cache.values[layer], k, v, places);
  return paged_attention(q, cache.keys[layer], cache.values[layer], block_tables, sequences,
                         positions, attention_scale(q.extent(-1)));
}

/// How many blocks the longest table of a step has.
inline std::size_t widest_table(const kv::step& input) {
  std::size_t widest = 0;
  for (const kv::sequence_step& s : input.sequences) {
    widest = std::max(widest, s.blocks.size());
  }
  return widest;
}

/// Writes to `owner` (rows) which sequence a row is of.
///
/// Throws: `argument_error` where a sequence has rows that are none of the step's.
inline void number_rows(const kv::step& input, std::vector<std::int32_t>& owner) {
  for (std::size_t i = 0; i < input.sequences.size(); ++i) {
    const kv::sequence_step& s = input.sequences[i];
    const std::int64_t end = std::int64_t{s.first_row} + s.rows;
    if (s.first_row < 0 || s.rows < 0 || end > std::ssize(owner)) {
      throw argument_error("ashlar::kv::step", "sequence " + std::to_string(i) + " has rows " +
                                                   std::to_string(s.first_row) + " to " +
                                                   std::to_string(end) + "; the step has " +
                                                   std::to_string(owner.size()));
    }
    std::fill_n(owner.begin() + s.first_row, s.rows, static_cast<std::int32_t>(i));
  }
}

/// The same, and to `tables` (sequences, widest table) their block tables; what is behind a shorter
/// one stays.
inline void number_sequences(const kv::step& input, std::size_t widest,
                             std::vector<std::int32_t>& owner, std::vector<std::int32_t>& tables) {
  number_rows(input, owner);
  for (std::size_t i = 0; i < input.sequences.size(); ++i) {
    std::ranges::copy(input.sequences[i].blocks,
                      tables.begin() + static_cast<std::ptrdiff_t>(i * widest));
  }
}

/// A step's numbers as tensors.
template <class Stack>
struct step_tensors {
  using integers = typename Stack::template tensor<std::int32_t>;
  using slots = typename Stack::template tensor<std::int64_t>;

  integers tokens, positions;
  integers sequences;     ///< (rows) which sequence a row belongs to
  integers block_tables;  ///< (sequences, widest table)
  slots places;
  integers logit_rows;  ///< empty handle: all of them

  explicit step_tensors(const kv::step& input) {
    const auto tensor_of = [](const std::vector<std::int32_t>& values) {
      return from_values<integers>({std::ssize(values)}, values);
    };
    const std::size_t widest = widest_table(input);
    std::vector<std::int32_t> owner(input.tokens.size());
    std::vector<std::int32_t> tables(widest * input.sequences.size(), 0);
    number_sequences(input, widest, owner, tables);
    tokens = tensor_of(input.tokens);
    positions = tensor_of(input.positions);
    sequences = tensor_of(owner);
    places = from_values<slots>({std::ssize(input.tokens)}, input.slots);
    block_tables = from_values<integers>(
        {std::ssize(input.sequences), static_cast<std::int64_t>(widest)}, tables);
    if (input.logit_rows.size() != input.tokens.size()) {
      logit_rows = tensor_of(input.logit_rows);
    }
  }

  template <class X>
  X attend(const paged_cache<X>& cache, std::size_t layer, const X& q, const X& k,
           const X& v) const {
    return attend_paged(cache, layer, q, k, v, places, block_tables, sequences, positions);
  }

  /// The rows whose logits are asked for.
  template <class X>
  X asked(const X& x) const {
    return logit_rows ? embedding(x, logit_rows) : x;
  }
};

/// Copies logits out for whoever samples.
template <class X>
std::span<const float> read_logits(const X& from, std::vector<float>& to) {
  if constexpr (std::is_same_v<typename X::value_type, float>) {
    to = to_vector(from);
  } else {
    const auto values = to_vector(from);
    to.assign(values.begin(), values.end());
  }
  return to;
}

/// A step by a model's `of_rows`, with attention by `attend(now, layer, q, k, v)`.
template <class Stack>
std::span<const float> forward_rows(const auto& model, const kv::step& input, const auto& attend,
                                    std::vector<float>& logits) {
  const no_grad off;
  const step_tensors<Stack> now(input);
  return read_logits(model.of_rows(
                         now.tokens, now.positions,
                         [&](std::size_t layer, const auto& q, const auto& k, const auto& v) {
                           return attend(now, layer, q, k, v);
                         },
                         [&](const auto& x) { return now.asked(x); }),
                     logits);
}

}  // namespace ashlar::models::detail
