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

/// What the owner of the memory must copy before it writes a step's tokens. Copies are made in the
/// order in which they were asked for: a later one may overwrite what an earlier one reads.
struct block_copy {
  block_id from;
  block_id to;
  tier from_place = tier::device;
  tier to_place = tier::device;
  friend constexpr bool operator==(const block_copy&, const block_copy&) = default;
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
        dropped_(std::exchange(other.dropped_, 0)),
        block_tokens_(other.block_tokens_) {}
  block_table& operator=(block_table&& other) noexcept {
    block_table old(std::move(*this));
    pool_ = other.pool_;
    blocks_ = std::exchange(other.blocks_, {});
    tokens_ = std::exchange(other.tokens_, 0);
    dropped_ = std::exchange(other.dropped_, 0);
    block_tokens_ = other.block_tokens_;
    return *this;
  }
  ~block_table() { truncate(0); }

  [[nodiscard]] std::int32_t tokens() const { return tokens_; }
  [[nodiscard]] std::int32_t block_tokens() const { return block_tokens_; }
  [[nodiscard]] std::span<const block_id> blocks() const { return blocks_; }
  /// Places for tokens in the blocks of the table, reserved ones included.
  [[nodiscard]] std::int64_t room() const { return std::ssize(blocks_) * block_tokens_; }
  /// Tokens at the beginning whose blocks were given back by `drop_before`.
  [[nodiscard]] std::int32_t dropped() const { return dropped_ * block_tokens_; }
  /// Whether the blocks are those of `pool`.
  [[nodiscard]] bool in(const block_pool& pool) const { return pool_ == &pool; }
  /// Whether the blocks are in the host's memory, see `swap_space`.
  [[nodiscard]] bool swapped() const { return pool_->options().place == tier::host; }

  /// Returns: how many free blocks `append(count, reserve)` would take.
  [[nodiscard]] std::int64_t blocks_needed(std::int32_t count, std::int32_t reserve = 0) const {
    const std::int64_t more = std::int64_t{count} + reserve;
    const std::int64_t total = blocks_for(tokens_ + more, block_tokens_);
    return std::max<std::int64_t>(0, total - std::ssize(blocks_)) +
           (more > 0 && writes_shared() ? 1 : 0);
  }

  /// Makes room for `count` more tokens, and for `reserve` that may follow (drafts, say).
  ///
  /// Effects: takes blocks from the pool. A half-filled last block that others hold or may find as
  ///          well is replaced by a block of this table's own (copy on write). What is reserved
  ///          and not used is kept for the next call; `truncate(tokens())` gives it back.
  /// Returns: the copy that this replacement asks for.
  /// Throws:  `out_of_blocks`, `argument_error` where a count is negative, the sequence would have
  ///          more than 2^31 - 1 tokens, or it is swapped out; the table is as it was.
  std::optional<block_copy> append(std::int32_t count, std::int32_t reserve = 0) {
    if (count < 0 || reserve < 0 ||
        std::int64_t{count} + reserve > std::numeric_limits<std::int32_t>::max() - tokens_) {
      throw argument_error("ashlar::kv::block_table::append",
                           std::to_string(count) + " tokens and " + std::to_string(reserve) +
                               " to follow after " + std::to_string(tokens_) +
                               "; give none or more, up to 2^31 - 1 in all");
    }
    if (swapped()) {
      throw argument_error("ashlar::kv::block_table::append",
                           "the sequence is swapped out; swap it in first");
    }
    const std::int64_t needed = blocks_needed(count, reserve);
    if (needed > pool_->free()) {
      throw out_of_blocks(needed, pool_->free(), pool_->options().place);
    }
    const bool copies = count + reserve > 0 && writes_shared();
    const std::size_t old_size = blocks_.size();
    blocks_.resize(old_size + static_cast<std::size_t>(needed));
    pool_->allocate(std::span(blocks_).subspan(old_size));
    const std::size_t last = index_of(tokens_);
    tokens_ += count;
    if (!copies) {
      return std::nullopt;
    }
    // The new block of the copy is the first one taken; it stands where the shared one stood.
    const block_copy copy{blocks_[last], blocks_[old_size]};
    blocks_[last] = copy.to;
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(old_size));
    pool_->release(copy.from);
    return copy;
  }

  /// Begins the sequence with blocks that hold its first tokens already.
  ///
  /// Requires: the blocks are kept (`block_pool::keep`).
  /// Throws:   `argument_error` where the table is not empty, a block is not kept, or there would
  ///           be more than 2^31 - 1 tokens; the table is as it was.
  void adopt(std::span<const block_id> blocks) {
    if (!blocks_.empty() || swapped()) {
      throw argument_error("ashlar::kv::block_table::adopt",
                           "the sequence has blocks already; adopt before the first append");
    }
    if (std::ssize(blocks) > std::numeric_limits<std::int32_t>::max() / block_tokens_) {
      throw argument_error("ashlar::kv::block_table::adopt",
                           std::to_string(blocks.size()) + " blocks of " +
                               std::to_string(block_tokens_) +
                               " tokens; a sequence has up to 2^31 - 1");
    }
    blocks_.reserve(blocks.size());
    try {
      for (const block_id id : blocks) {
        pool_->reuse(id);
        blocks_.push_back(id);
      }
    } catch (...) {
      release_from(0);
      throw;
    }
    tokens_ = static_cast<std::int32_t>(std::ssize(blocks)) * block_tokens_;
  }

  /// Where token `index` lives, in tokens from the start of the pool's memory.
  ///
  /// Throws: `argument_error` where the sequence has no place for such a token.
  [[nodiscard]] std::int64_t slot(std::int32_t index) const {
    if (index < dropped() || index >= room()) {
      throw argument_error("ashlar::kv::block_table::slot",
                           "there is no place for token " + std::to_string(index) +
                               " in a sequence of " + std::to_string(tokens_) + " with room for " +
                               std::to_string(room()));
    }
    return std::int64_t{blocks_[index_of(index)]} * block_tokens_ + index % block_tokens_;
  }

  /// Forgets the tokens from `tokens` on and releases the blocks that then hold none, last first.
  ///
  /// Throws: `argument_error` where `tokens` is negative, more than the sequence has, or among
  ///         those that `drop_before` gave back (0 is always possible).
  void truncate(std::int32_t tokens) {
    if (tokens < 0 || tokens > tokens_ || (tokens > 0 && tokens < dropped())) {
      throw argument_error("ashlar::kv::block_table::truncate",
                           std::to_string(tokens) + " tokens of " + std::to_string(tokens_) +
                               " cannot remain; " + std::to_string(dropped()) + " were dropped");
    }
    release_from(static_cast<std::size_t>(blocks_for(tokens, block_tokens_)));
    tokens_ = tokens;
    dropped_ = tokens == 0 ? 0 : dropped_;
  }

  /// Gives back the blocks whose tokens are all before `position`, last first; the null block
  /// stands in their place. For attention through a window.
  ///
  /// Throws: `argument_error` where the pool has no null block or the sequence no such position.
  void drop_before(std::int32_t position) {
    if (!pool_->options().null_block || position > tokens_) {
      throw argument_error("ashlar::kv::block_table::drop_before",
                           "position " + std::to_string(position) + " of " +
                               std::to_string(tokens_) +
                               "; it must be in the sequence, and the pool have a null block");
    }
    const std::int32_t end = std::max(position / block_tokens_, dropped_);
    for (std::int32_t i = end; i-- > dropped_;) {
      pool_->release(std::exchange(blocks_[static_cast<std::size_t>(i)], block_pool::null_block));
    }
    dropped_ = end;
  }

  /// Holds `id` in place of the block at `index`: two blocks of one content become one.
  ///
  /// Requires: `id` is kept and has the content of the block that it replaces.
  /// Throws:   `argument_error` where the table has no such block or `id` is not kept.
  void exchange(std::size_t index, block_id id) {
    if (index >= blocks_.size() || index < static_cast<std::size_t>(dropped_)) {
      throw argument_error("ashlar::kv::block_table::exchange",
                           "there is no block at " + std::to_string(index));
    }
    pool_->reuse(id);
    pool_->release(std::exchange(blocks_[index], id));
  }

  /// A second sequence with the same tokens in the same blocks; takes nothing from the pool, and
  /// nothing of what this one has reserved.
  [[nodiscard]] block_table fork() const {
    block_table twin(*pool_, block_tokens_);
    twin.share_with(*this);
    return twin;
  }

 protected:
  /// Requires: this table is empty.
  void share_with(const block_table& other) {
    const auto count = blocks_for(other.tokens_, block_tokens_);
    pool_ = other.pool_;
    blocks_.assign(other.blocks_.begin(), other.blocks_.begin() + count);
    tokens_ = other.tokens_;
    dropped_ = other.dropped_;
    for (std::size_t i = static_cast<std::size_t>(dropped_); i < blocks_.size(); ++i) {
      pool_->share(blocks_[i]);
    }
  }

 private:
  friend class swap_space;

  [[nodiscard]] std::size_t index_of(std::int32_t token) const {
    return static_cast<std::size_t>(token / block_tokens_);
  }
  [[nodiscard]] bool writes_shared() const {
    if (tokens_ % block_tokens_ == 0) {
      return false;
    }
    const block_id last = blocks_[index_of(tokens_)];
    return pool_->references(last) > 1 || pool_->kept(last);
  }
  void release_from(std::size_t keep) {
    while (blocks_.size() > keep) {
      if (std::ssize(blocks_) > dropped_) {
        pool_->release(blocks_.back());
      }
      blocks_.pop_back();
    }
  }

  block_pool* pool_;
  std::vector<block_id> blocks_;
  std::int32_t tokens_ = 0;
  std::int32_t dropped_ = 0;  // blocks
  std::int32_t block_tokens_;
};

}  // namespace ashlar::kv
