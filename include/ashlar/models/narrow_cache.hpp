// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/kv/precision.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/models/detail/decoder.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/paged_attention.hpp"

namespace ashlar::models {

/// A model whose key-value cache keeps numbers by `Precision`: `kv::int8_per_head`,
/// `kv::as<float8_e4m3>`, `kv::as<bfloat16>`.
///
/// The cache lies in the host's memory. For each layer, the blocks that a step reads are widened
/// into tensors of the model's own type, which its attention then reads as it would its own cache:
/// memory is saved, not time. A head's bytes depend on its own numbers alone, so logits depend on a
/// sequence alone as they do without this. The model must outlive it.
template <class Model, class Precision>
class narrow_cache {
  static_assert(
      kv::Precision<Precision>,
      "ashlar::models::narrow_cache<Model, Precision>: Precision must model kv::Precision "
      "(bytes, write, read)");

 public:
  explicit narrow_cache(Model& model) : model_(&model) {
    const auto sizes = model.make_cache(1, 1);
    layers_ = sizes.keys.size();
    heads_ = static_cast<std::size_t>(sizes.keys.at(0).extent(1));
    head_dim_ = static_cast<std::size_t>(sizes.keys.at(0).extent(2));
  }

  /// Per layer (blocks, block_tokens, Hkv, `Precision::bytes(Dh)`).
  struct cache_type {
    std::size_t block_tokens = 0;
    std::vector<std::vector<std::byte>> keys{}, values{};
    [[nodiscard]] std::size_t bytes() const {
      return keys.empty() ? 0 : 2 * keys.size() * keys[0].size();
    }
  };

  [[nodiscard]] cache_type make_cache(kv::block_id blocks, std::int32_t block_tokens) const {
    cache_type c{.block_tokens = static_cast<std::size_t>(block_tokens)};
    const std::size_t bytes = static_cast<std::size_t>(blocks) * block_bytes(c);
    c.keys.assign(layers_, std::vector<std::byte>(bytes));
    c.values = c.keys;
    return c;
  }
  void copy_block(const cache_type& from, kv::block_id block, cache_type& to,
                  kv::block_id other) const {
    const std::size_t bytes = block_bytes(from);
    const auto copy_one = [&](const std::vector<std::byte>& source,
                              std::vector<std::byte>& target) {
      std::copy_n(
          source.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(block) * bytes),
          bytes,
          target.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(other) * bytes));
    };
    for (std::size_t i = 0; i < layers_; ++i) {
      copy_one(from.keys[i], to.keys[i]);
      copy_one(from.values[i], to.values[i]);
    }
  }
  [[nodiscard]] std::int64_t vocabulary() const { return model_->vocabulary(); }
  [[nodiscard]] std::int64_t context_length() const { return model_->context_length(); }

  [[nodiscard]] std::span<const float> forward(const kv::step& input, cache_type& cache) {
    read_.clear();
    std::size_t widest = 0;
    for (const kv::sequence_step& s : input.sequences) {
      read_.insert(read_.end(), s.blocks.begin(), s.blocks.end());
      widest = std::max(widest, s.blocks.size());
    }
    std::ranges::sort(read_);
    read_.erase(std::ranges::unique(read_).begin(), read_.end());
    std::vector<std::int32_t> tables(widest * input.sequences.size(), 0);  // places in `read_`
    for (std::size_t i = 0; i < input.sequences.size(); ++i) {
      for (std::size_t b = 0; b < input.sequences[i].blocks.size(); ++b) {
        tables[i * widest + b] = static_cast<std::int32_t>(
            std::ranges::lower_bound(read_, input.sequences[i].blocks[b]) - read_.begin());
      }
    }
    using integers = typename Model::integers;
    const auto block_tables = from_values<integers>(
        {std::ssize(input.sequences), static_cast<std::int64_t>(widest)}, tables);
    const auto attend = [&](const auto& now, std::size_t layer, const auto& q, const auto& k,
                            const auto& v) {
      using tensor = std::remove_cvref_t<decltype(q)>;
      write(to_vector(k), input.slots, cache.keys[layer]);
      write(to_vector(v), input.slots, cache.values[layer]);
      const auto blocks = std::ssize(read_);
      const auto heads = static_cast<std::int64_t>(heads_);
      const auto dim = static_cast<std::int64_t>(head_dim_);
      const auto width = static_cast<std::int64_t>(cache.block_tokens);
      const auto keys = from_values<tensor>({blocks, heads, dim, width},
                                            widened<tensor>(cache, cache.keys[layer], true));
      const auto values = from_values<tensor>({blocks, heads, width, dim},
                                              widened<tensor>(cache, cache.values[layer], false));
      return paged_attention(q, keys, values, block_tables, now.sequences, now.positions,
                             detail::attention_scale(dim));
    };
    return model_->forward_through(input, attend);
  }

 private:
  [[nodiscard]] std::size_t head_bytes() const { return Precision::bytes(head_dim_); }
  [[nodiscard]] std::size_t block_bytes(const cache_type& c) const {
    return c.block_tokens * heads_ * head_bytes();
  }

  /// `numbers`: (rows, Hkv, Dh).
  void write(const auto& numbers, std::span<const std::int64_t> slots, std::span<std::byte> to) {
    head_.resize(head_dim_);
    auto from = numbers.begin();
    for (const std::int64_t slot : slots) {
      for (std::size_t h = 0; h < heads_; ++h, from += static_cast<std::ptrdiff_t>(head_dim_)) {
        std::transform(from, from + static_cast<std::ptrdiff_t>(head_dim_), head_.begin(),
                       [](auto x) { return static_cast<float>(x); });
        const std::size_t at = (static_cast<std::size_t>(slot) * heads_ + h) * head_bytes();
        Precision::write(head_, to.subspan(at, head_bytes()));
      }
    }
  }

  /// The blocks that are read, as (blocks, Hkv, block_tokens, Dh), or with the last two `turned`.
  template <class Tensor>
  auto widened(const cache_type& c, std::span<const std::byte> from, bool turned) {
    using value = typename Tensor::value_type;
    std::vector<value> numbers(read_.size() * c.block_tokens * heads_ * head_dim_);
    head_.resize(head_dim_);
    for (std::size_t b = 0; b < read_.size(); ++b) {
      for (std::size_t t = 0; t < c.block_tokens; ++t) {
        const std::size_t slot = static_cast<std::size_t>(read_[b]) * c.block_tokens + t;
        for (std::size_t h = 0; h < heads_; ++h) {
          Precision::read(from.subspan((slot * heads_ + h) * head_bytes(), head_bytes()), head_);
          const std::size_t first = (b * heads_ + h) * c.block_tokens * head_dim_;
          for (std::size_t d = 0; d < head_dim_; ++d) {
            numbers[first + (turned ? d * c.block_tokens + t : t * head_dim_ + d)] =
                static_cast<value>(head_[d]);
          }
        }
      }
    }
    return numbers;
  }

  Model* model_;
  std::size_t layers_ = 0;
  std::size_t heads_ = 0;
  std::size_t head_dim_ = 0;
  std::vector<kv::block_id> read_;  // by the step that is being computed
  std::vector<float> head_;
};

}  // namespace ashlar::models
