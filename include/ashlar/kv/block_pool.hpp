// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::kv {

/// A block's place in the pool: `0 .. capacity - 1`.
using block_id = std::int32_t;

/// Thrown where a pool has fewer free blocks than a caller needs; the pool is as it was.
struct out_of_blocks final : error {
  std::int64_t requested;
  std::int64_t free;

  out_of_blocks(std::int64_t wanted, std::int64_t available,
                std::source_location where = std::source_location::current())
      : error(where), requested(wanted), free(available) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::kv: " + std::to_string(requested) + " blocks requested, " +
           std::to_string(free) + " free";
  }
};

/// A fixed number of equal blocks of key-value memory, counted by reference.
///
/// The pool hands out numbers; whoever owns the memory decides what a block holds. Free blocks
/// wait in a queue: the pool begins with the blocks in order of their ids, and a freed block goes
/// to the end, so that it is reused as late as possible.
/// Cost: every operation on one block is O(1).
class block_pool {
 public:
  /// Throws: `argument_error` where `blocks` is negative.
  explicit block_pool(block_id blocks) {
    if (blocks < 0) {
      throw argument_error(
          "ashlar::kv::block_pool",
          "the number of blocks is " + std::to_string(blocks) + "; it must not be negative");
    }
    queue_.resize(static_cast<std::size_t>(blocks));
    references_.resize(static_cast<std::size_t>(blocks));
    for (block_id id = 0; id < blocks; ++id) {
      queue_[static_cast<std::size_t>(id)] = id;
    }
    free_ = queue_.size();
  }
  // Tables point at their pool.
  block_pool(const block_pool&) = delete;
  block_pool& operator=(const block_pool&) = delete;

  /// Takes the block that has been free for the longest time, with one reference.
  ///
  /// Throws: `out_of_blocks`.
  [[nodiscard]] block_id allocate() {
    block_id id = 0;
    allocate({&id, 1});
    return id;
  }

  /// Fills `ids` with blocks of one reference each: all of them or none.
  ///
  /// Throws: `out_of_blocks`.
  void allocate(std::span<block_id> ids) {
    if (ids.size() > free_) {
      throw out_of_blocks(static_cast<std::int64_t>(ids.size()), free());
    }
    for (block_id& id : ids) {
      id = queue_[head_];
      head_ = head_ + 1 == queue_.size() ? 0 : head_ + 1;
      references_[static_cast<std::size_t>(id)] = 1;
    }
    free_ -= ids.size();
    total_references_ += static_cast<std::int64_t>(ids.size());
    peak_used_ = std::max(peak_used_, used());
  }

  /// Adds a reference to a block in use.
  ///
  /// Throws: `argument_error` where the block is not in use.
  void share(block_id id) {
    ++references_[in_use("ashlar::kv::block_pool::share", id)];
    ++total_references_;
  }

  /// Drops a reference; the last one returns the block to the pool.
  ///
  /// Throws: `argument_error` where the block is not in use, so also on a second release.
  void release(block_id id) {
    const std::size_t at = in_use("ashlar::kv::block_pool::release", id);
    --total_references_;
    if (--references_[at] == 0) {
      const std::size_t tail = head_ + free_;
      queue_[tail < queue_.size() ? tail : tail - queue_.size()] = id;
      ++free_;
    }
  }

  /// Returns: how many hold the block; 0 where it is free.
  /// Throws: `argument_error` where there is no such block.
  [[nodiscard]] std::int32_t references(block_id id) const {
    return references_[exists("ashlar::kv::block_pool::references", id)];
  }

  [[nodiscard]] std::int64_t capacity() const { return static_cast<std::int64_t>(queue_.size()); }
  [[nodiscard]] std::int64_t free() const { return static_cast<std::int64_t>(free_); }
  [[nodiscard]] std::int64_t used() const { return capacity() - free(); }
  /// The most blocks that were ever in use at once.
  [[nodiscard]] std::int64_t peak_used() const { return peak_used_; }
  /// Whether a block has more than one reference.
  [[nodiscard]] bool any_shared() const { return total_references_ != used(); }

 private:
  std::size_t exists(const char* entity, block_id id) const {
    if (id < 0 || id >= capacity()) {
      throw argument_error(entity, "there is no block " + std::to_string(id) + " in a pool of " +
                                       std::to_string(capacity()));
    }
    return static_cast<std::size_t>(id);
  }
  std::size_t in_use(const char* entity, block_id id) const {
    const std::size_t at = exists(entity, id);
    if (references_[at] == 0) {
      throw argument_error(entity, "block " + std::to_string(id) + " is free");
    }
    return at;
  }

  std::vector<block_id> queue_;  // a ring: `free_` ids from `head_` on
  std::vector<std::int32_t> references_;
  std::size_t head_ = 0;
  std::size_t free_ = 0;
  std::int64_t total_references_ = 0;
  std::int64_t peak_used_ = 0;
};

}  // namespace ashlar::kv
