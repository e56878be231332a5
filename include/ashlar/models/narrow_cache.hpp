// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/kept_attention.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/kv/precision.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/models/detail/decoder.hpp"
#include "ashlar/ops/creation.hpp"

namespace ashlar::models {

/// A model whose key-value cache keeps numbers by `Precision`: `kv::int8_per_head`,
/// `kv::as<float8_e4m3>`, `kv::as<bfloat16>`.
///
/// The cache lies in the host's memory, and the host computes the attention, which reads it as it
/// is (`kept_attention`); everything else runs where the model does. A head's bytes depend on its
/// own numbers alone, so logits depend on a sequence alone as they do without this, and are those
/// of a cache of the same numbers in the model's type. The model must outlive it.
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
    heads_ = sizes.keys.at(0).extent(1);
    head_dim_ = sizes.keys.at(0).extent(2);
  }

  /// Per layer (blocks, Hkv, block_tokens, `Precision::bytes(Dh)`).
  struct cache_type {
    std::int64_t blocks = 0;
    std::int64_t block_tokens = 0;
    std::vector<std::vector<std::byte>> keys{}, values{};
    [[nodiscard]] std::size_t bytes() const {
      return keys.empty() ? 0 : 2 * keys.size() * keys[0].size();
    }
  };

  [[nodiscard]] cache_type make_cache(kv::block_id blocks, std::int32_t block_tokens) const {
    cache_type c{.blocks = blocks, .block_tokens = block_tokens};
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
    const std::size_t widest = detail::widest_table(input);
    std::vector<std::int32_t> owner(input.tokens.size());
    std::vector<std::int32_t> tables(widest * input.sequences.size(), 0);
    detail::number_sequences(input, widest, owner, tables);
    const tensor_spec table_spec =
        integer_spec({std::ssize(input.sequences), static_cast<std::int64_t>(widest)});
    const tensor_spec row_spec = integer_spec({std::ssize(input.tokens)});
    const auto attend = [&](const auto&, std::size_t layer, const auto& q, const auto& k,
                            const auto& v) {
      using tensor = std::remove_cvref_t<decltype(q)>;
      write(to_vector(k), input.slots, cache, cache.keys[layer]);
      write(to_vector(v), input.slots, cache, cache.values[layer]);
      const auto rows = converted<number>(to_vector(q));
      std::vector<number> mixed(rows.size());
      const tensor_spec spec = contiguous_spec(dtype_of<number>, q.shape());
      chip::host_kernels::kept_attention<number>(
          {mixed.data(), &spec}, {rows.data(), &spec},
          {cache.keys[layer], cache.values[layer], cache.blocks, heads_, head_dim_,
           cache.block_tokens, static_cast<std::int64_t>(head_bytes())},
          {tables.data(), &table_spec}, {owner.data(), &row_spec},
          {input.positions.data(), &row_spec}, detail::attention_scale(head_dim_),
          &Precision::read);
      return from_values<tensor>(shape(q.shape()), converted<typename tensor::value_type>(mixed));
    };
    return model_->forward_through(input, attend);
  }

 private:
  using value = typename Model::parameter::value_type;
  /// What attention is computed in.
  using number = std::conditional_t<std::is_same_v<value, double>, double, float>;

  static tensor_spec integer_spec(const shape& extents) {
    return contiguous_spec(dtype_of<std::int32_t>, extents.span());
  }
  template <class To>
  static std::vector<To> converted(const auto& values) {
    std::vector<To> all(values.size());
    std::ranges::transform(values, all.begin(), [](auto x) { return static_cast<To>(x); });
    return all;
  }
  [[nodiscard]] std::size_t head_bytes() const {
    return Precision::bytes(static_cast<std::size_t>(head_dim_));
  }
  [[nodiscard]] std::size_t block_bytes(const cache_type& c) const {
    return static_cast<std::size_t>(c.block_tokens * heads_) * head_bytes();
  }

  /// `numbers`: (rows, Hkv, Dh).
  void write(const auto& numbers, std::span<const std::int64_t> slots, const cache_type& c,
             std::span<std::byte> to) {
    head_.resize(static_cast<std::size_t>(head_dim_));
    auto from = numbers.begin();
    for (const std::int64_t slot : slots) {
      for (std::int64_t h = 0; h < heads_; ++h, from += head_dim_) {
        std::transform(from, from + head_dim_, head_.begin(),
                       [](auto x) { return static_cast<float>(x); });
        const std::int64_t place =
            (slot / c.block_tokens * heads_ + h) * c.block_tokens + slot % c.block_tokens;
        Precision::write(head_,
                         to.subspan(static_cast<std::size_t>(place) * head_bytes(), head_bytes()));
      }
    }
  }

  Model* model_;
  std::size_t layers_ = 0;
  std::int64_t heads_ = 0;
  std::int64_t head_dim_ = 0;
  std::vector<float> head_;
};

}  // namespace ashlar::models
