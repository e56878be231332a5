// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_pool.hpp"

namespace ashlar::kv {

/// Whole blocks that hold `tokens`. Requires: `tokens >= 0`, `block_tokens > 0`.
constexpr std::int64_t blocks_for(std::int64_t tokens, std::int64_t block_tokens) {
  return ceil_div(tokens, block_tokens);
}

/// What the owner of the memory must copy before it writes the new tokens.
struct block_copy {
  block_id from;
  block_id to;
};

/// The blocks that hold one sequence, in order: token `i` lives in `blocks()[i / block_tokens]`.
///
/// The table owns one reference to each of its blocks and drops them when it is destroyed. The
/// pool must outlive it.
class block_table {
 public:
  /// Throws: `argument_error` where `block_tokens` is not positive.
  block_table(block_pool& pool, std::int32_t block_tokens)
      : pool_(&pool), block_tokens_(block_tokens) {
    if (block_tokens <= 0) {
      throw argument_error(
          "ashlar::kv::block_table",
          "block_tokens is " + std::to_string(block_tokens) + "; it must be positive");
    }
  }
  block_table(block_table&& other) noexcept
      : pool_(other.pool_),
        blocks_(std::exchange(other.blocks_, {})),
        tokens_(std::exchange(other.tokens_, 0)),
        block_tokens_(other.block_tokens_) {}
  block_table& operator=(block_table&& other) noexcept {
    block_table old(std::move(*this));
    pool_ = other.pool_;
    blocks_ = std::exchange(other.blocks_, {});
    tokens_ = std::exchange(other.tokens_, 0);
    block_tokens_ = other.block_tokens_;
    return *this;
  }
  ~block_table() { truncate(0); }

  [[nodiscard]] std::int32_t tokens() const { return tokens_; }
  [[nodiscard]] std::int32_t block_tokens() const { return block_tokens_; }
  [[nodiscard]] std::span<const block_id> blocks() const { return blocks_; }

  /// Returns: how many free blocks `append(count)` would take.
  [[nodiscard]] std::int64_t blocks_needed(std::int32_t count) const {
    const std::int64_t total = blocks_for(std::int64_t{tokens_} + count, block_tokens_);
    return total - std::ssize(blocks_) + (count > 0 && writes_shared() ? 1 : 0);
  }

  /// Makes room for `count` more tokens.
  ///
  /// Effects: takes blocks from the pool. A half-filled last block that others hold as well is
  ///          replaced by a block of this table's own (copy on write).
  /// Returns: the copy that this replacement asks for.
  /// Throws:  `out_of_blocks`, `argument_error` where `count` is negative or the sequence would
  ///          have more than 2^31 - 1 tokens; the table is as it was.
  std::optional<block_copy> append(std::int32_t count) {
    if (count < 0 || count > std::numeric_limits<std::int32_t>::max() - tokens_) {
      throw argument_error("ashlar::kv::block_table::append",
                           std::to_string(count) + " tokens after " + std::to_string(tokens_) +
                               "; give none or more, up to 2^31 - 1 in all");
    }
    const std::int64_t needed = blocks_needed(count);
    if (needed > pool_->free()) {
      throw out_of_blocks(needed, pool_->free());
    }
    const bool copies = count > 0 && writes_shared();
    const std::size_t old_size = blocks_.size();
    blocks_.resize(old_size + static_cast<std::size_t>(needed));
    pool_->allocate(std::span(blocks_).subspan(old_size));
    tokens_ += count;
    if (!copies) {
      return std::nullopt;
    }
    // The new block of the copy is the first one taken; it stands where the shared one stood.
    const block_id shared = blocks_[old_size - 1];
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(old_size) - 1);
    pool_->release(shared);
    return block_copy{shared, blocks_[old_size - 1]};
  }

  /// Where token `index` lives, in tokens from the start of the pool's memory.
  ///
  /// Throws: `argument_error` where the sequence has no such token.
  [[nodiscard]] std::int64_t slot(std::int32_t index) const {
    if (index < 0 || index >= tokens_) {
      throw argument_error("ashlar::kv::block_table::slot",
                           "there is no token " + std::to_string(index) + " in a sequence of " +
                               std::to_string(tokens_));
    }
    return std::int64_t{blocks_[static_cast<std::size_t>(index / block_tokens_)]} * block_tokens_ +
           index % block_tokens_;
  }

  /// Forgets the tokens from `tokens` on and releases the blocks that then hold none, last first.
  ///
  /// Throws: `argument_error` where `tokens` is negative or more than the sequence has.
  void truncate(std::int32_t tokens) {
    if (tokens < 0 || tokens > tokens_) {
      throw argument_error(
          "ashlar::kv::block_table::truncate",
          std::to_string(tokens) + " tokens of " + std::to_string(tokens_) + " cannot remain");
    }
    const auto keep = static_cast<std::size_t>(blocks_for(tokens, block_tokens_));
    while (blocks_.size() > keep) {
      pool_->release(blocks_.back());
      blocks_.pop_back();
    }
    tokens_ = tokens;
  }

  /// A second sequence with the same tokens in the same blocks; takes nothing from the pool.
  [[nodiscard]] block_table fork() const {
    block_table twin(*pool_, block_tokens_);
    twin.blocks_ = blocks_;
    twin.tokens_ = tokens_;
    for (const block_id id : blocks_) {
      pool_->share(id);
    }
    return twin;
  }

 private:
  [[nodiscard]] bool writes_shared() const {
    return tokens_ % block_tokens_ != 0 && pool_->references(blocks_.back()) > 1;
  }

  block_pool* pool_;
  std::vector<block_id> blocks_;
  std::int32_t tokens_ = 0;
  std::int32_t block_tokens_;
};

}  // namespace ashlar::kv
