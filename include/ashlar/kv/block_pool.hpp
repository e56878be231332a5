// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::kv {

/// A block's place in its pool: `0 .. size - 1`.
using block_id = std::int32_t;

/// Which memory a pool's blocks are in.
enum class tier : std::uint8_t { device, host };

/// Thrown where a pool has fewer free blocks than a caller needs; the pool is as it was.
struct out_of_blocks final : error {
  std::int64_t requested;
  std::int64_t free;
  tier place;

  out_of_blocks(std::int64_t wanted, std::int64_t available, tier where_to = tier::device,
                std::source_location where = std::source_location::current())
      : error(where), requested(wanted), free(available), place(where_to) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::kv: " + std::to_string(requested) +
           (place == tier::host ? " host blocks" : " blocks") + " requested, " +
           std::to_string(free) + " free";
  }
};

/// Thrown by `validate()`: a rule that the library, not its user, must keep is broken.
struct broken_invariant final : error {
  std::string entity;
  std::string rule;

  broken_invariant(std::string of, std::string which,
                   std::source_location where = std::source_location::current())
      : error(where), entity(std::move(of)), rule(std::move(which)) {}

 private:
  [[nodiscard]] std::string message() const override { return entity + ": broken: " + rule; }
};

/// Which free block is taken next.
enum class free_order : std::uint8_t {
  oldest_first,  ///< the one freed longest ago (vLLM v1)
  empty_first    ///< one whose content nobody named, else the one freed longest ago (vLLM v0)
};

struct pool_options {
  /// Block 0 is never handed out: it stands in tables where a block was given back.
  bool null_block = false;
  free_order order = free_order::oldest_first;
  std::int32_t watermark = 0;  ///< thousandths of the pool that `admit` keeps free
  std::int32_t host_blocks = 0;
  tier place = tier::device;
  std::int32_t block_tokens = 16;  ///< of a cache that does not say them, see `at_run_time`
};

/// Whether a newcomer gets its blocks.
enum class admission : std::uint8_t {
  now,
  later,  ///< when others have given blocks back
  never   ///< the pool is too small
};

/// A fixed number of equal blocks of key-value memory, counted by reference.
///
/// The pool hands out numbers; whoever owns the memory decides what a block holds. Free blocks
/// wait in a list: the pool begins with the blocks in order of their ids, and a freed block goes
/// to the end, so that it is reused as late as possible. A block that is kept has a content that
/// somebody may come back for: it can be taken out of the middle of the list, until it is handed
/// out for something else.
/// Cost: every operation on one block is O(1).
class block_pool {
 public:
  static constexpr block_id null_block = 0;

  /// Throws: `argument_error` where `blocks` is negative, there is none for the null block, or
  ///         the watermark is not from 0 to 1000.
  explicit block_pool(block_id blocks, pool_options options = {}) : options_(options) {
    if (blocks < (options.null_block ? 1 : 0) ||
        blocks > std::numeric_limits<block_id>::max() - 2) {
      throw argument_error("ashlar::kv::block_pool",
                           "the number of blocks is " + std::to_string(blocks) +
                               "; it must not be negative, and 1 at least with a null block");
    }
    if (options.watermark < 0 || options.watermark > 1000) {
      throw argument_error(
          "ashlar::kv::block_pool",
          "the watermark is " + std::to_string(options.watermark) + " thousandths; give 0 to 1000");
    }
    const auto n = static_cast<std::size_t>(blocks);
    links_.resize(n + 2);
    references_.resize(n);
    kept_.resize(n);
    for (const std::size_t list : {n, n + 1}) {
      links_[list] = {static_cast<block_id>(list), static_cast<block_id>(list)};
    }
    for (block_id id = options.null_block ? 1 : 0; id < blocks; ++id) {
      push_free(id);
    }
  }
  // Tables point at their pool.
  block_pool(const block_pool&) = delete;
  block_pool& operator=(const block_pool&) = delete;

  /// Takes the next free block, with one reference.
  ///
  /// Throws: `out_of_blocks`.
  [[nodiscard]] block_id allocate() {
    block_id id = 0;
    allocate({&id, 1});
    return id;
  }

  /// Fills `ids` with blocks of one reference each: all of them or none.
  ///
  /// Effects: what was kept in these blocks is kept no more.
  /// Throws:  `out_of_blocks`.
  void allocate(std::span<block_id> ids) {
    if (std::ssize(ids) > free_) {
      throw out_of_blocks(std::ssize(ids), free_, options_.place);
    }
    for (block_id& id : ids) {
      id = links_[at(empty_list())].next;
      if (id == empty_list()) {
        id = links_[at(kept_list())].next;
      }
      evictions_ += kept_[at(id)];
      kept_[at(id)] = 0;
      take_free(id);
    }
    peak_used_ = std::max(peak_used_, used());
  }

  /// Adds a reference to a block in use.
  ///
  /// Throws: `argument_error` where the block is not in use.
  void share(block_id id) {
    ++references_[in_use("ashlar::kv::block_pool::share", id)];
    ++total_references_;
  }

  /// Adds a reference to a kept block, in use or free.
  ///
  /// Throws: `argument_error` where the block is not kept.
  void reuse(block_id id) {
    if (!kept(id)) {
      throw argument_error("ashlar::kv::block_pool::reuse",
                           "block " + std::to_string(id) + " is not kept");
    }
    if (references_[at(id)] > 0) {
      share(id);
      return;
    }
    take_free(id);
    peak_used_ = std::max(peak_used_, used());
  }

  /// Drops a reference; the last one returns the block to the pool.
  ///
  /// Throws: `argument_error` where the block is not in use, so also on a second release.
  void release(block_id id) {
    const std::size_t block = in_use("ashlar::kv::block_pool::release", id);
    --total_references_;
    if (--references_[block] == 0) {
      push_free(id);
    }
  }

  /// Marks a block in use as one whose content somebody may come back for.
  ///
  /// Throws: `argument_error` where the block is not in use.
  void keep(block_id id) { kept_[in_use("ashlar::kv::block_pool::keep", id)] = 1; }

  /// Takes the mark away, from a free block too.
  ///
  /// Throws: `argument_error` where there is no such block.
  void forget(block_id id) {
    if (kept(id)) {
      kept_[at(id)] = 0;
      if (references_[at(id)] == 0 && options_.order == free_order::empty_first) {
        unlink(id);
        --free_;
        push_free(id);
      }
    }
  }

  /// Throws: `argument_error` where there is no such block.
  [[nodiscard]] bool kept(block_id id) const {
    return kept_[exists("ashlar::kv::block_pool::kept", id)] != 0;
  }

  /// Returns: how many hold the block; 0 where it is free, and for the null block.
  /// Throws: `argument_error` where there is no such block.
  [[nodiscard]] std::int32_t references(block_id id) const {
    return references_[exists("ashlar::kv::block_pool::references", id)];
  }

  /// Whether a newcomer that needs `blocks` may come in. Who is in already may go below the
  /// watermark.
  ///
  /// Throws: `argument_error` where `blocks` is negative.
  [[nodiscard]] admission admit(std::int64_t blocks) const {
    if (blocks < 0) {
      throw argument_error("ashlar::kv::block_pool::admit",
                           std::to_string(blocks) + " blocks are asked for; give 0 or more");
    }
    if (capacity() - blocks < watermark()) {
      return admission::never;
    }
    return free_ - blocks >= watermark() ? admission::now : admission::later;
  }
  [[nodiscard]] std::int64_t watermark() const { return capacity() * options_.watermark / 1000; }

  [[nodiscard]] const pool_options& options() const { return options_; }
  /// Blocks of memory; ids are below.
  [[nodiscard]] std::int64_t size() const { return std::ssize(references_); }
  /// Blocks that can be handed out: all but the null block.
  [[nodiscard]] std::int64_t capacity() const { return size() - (options_.null_block ? 1 : 0); }
  [[nodiscard]] bool is_null(block_id id) const { return options_.null_block && id == null_block; }
  /// Kept ones included.
  [[nodiscard]] std::int64_t free() const { return free_; }
  [[nodiscard]] std::int64_t used() const { return capacity() - free_; }
  /// The most blocks that were ever in use at once.
  [[nodiscard]] std::int64_t peak_used() const { return peak_used_; }
  [[nodiscard]] std::int64_t total_references() const { return total_references_; }
  /// Kept blocks that were handed out for something else.
  [[nodiscard]] std::int64_t evictions() const { return evictions_; }
  /// Whether a block has more than one reference.
  [[nodiscard]] bool any_shared() const { return total_references_ != used(); }

  /// Checks every rule of the pool.
  ///
  /// Throws: `broken_invariant`. Cost: O(blocks).
  void validate() const {
    const auto require = [](bool holds, const char* rule) {
      if (!holds) {
        throw broken_invariant("ashlar::kv::block_pool", rule);
      }
    };
    std::int64_t listed = 0;
    for (const block_id list : {empty_list(), kept_list()}) {
      for (block_id id = links_[at(list)].next; id != list; id = links_[at(id)].next) {
        require(id >= 0 && id < size() && !is_null(id), "free lists hold blocks of the pool only");
        require(references_[at(id)] == 0, "a free block has no reference");
        require(links_[at(links_[at(id)].next)].previous == id, "free lists link both ways");
        require(list_of(id) == list, "a free block is in the list of its kind");
        require(++listed <= free_, "no block is in a free list twice");
      }
    }
    require(listed == free_, "as many blocks are listed as free");
    std::int64_t total = 0;
    std::int64_t held = 0;
    for (const std::int32_t count : references_) {
      require(count >= 0, "no count of references is negative");
      total += count;
      held += count > 0 ? 1 : 0;
    }
    require(held == used(), "every block is free or has a reference");
    require(total == total_references_, "references add up");
  }

 private:
  struct link {
    block_id previous = 0;
    block_id next = 0;
  };

  static std::size_t at(block_id id) { return static_cast<std::size_t>(id); }
  [[nodiscard]] block_id empty_list() const { return static_cast<block_id>(size()); }
  [[nodiscard]] block_id kept_list() const { return static_cast<block_id>(size() + 1); }
  [[nodiscard]] block_id list_of(block_id id) const {
    return options_.order == free_order::empty_first && kept_[at(id)] != 0 ? kept_list()
                                                                           : empty_list();
  }

  void push_free(block_id id) {
    const block_id list = list_of(id);
    const block_id last = links_[at(list)].previous;
    links_[at(id)] = {last, list};
    links_[at(last)].next = id;
    links_[at(list)].previous = id;
    ++free_;
  }
  void unlink(block_id id) {
    const auto [previous, next] = links_[at(id)];
    links_[at(previous)].next = next;
    links_[at(next)].previous = previous;
  }
  void take_free(block_id id) {
    unlink(id);
    --free_;
    references_[at(id)] = 1;
    ++total_references_;
  }

  std::size_t exists(const char* entity, block_id id) const {
    if (id < 0 || id >= size()) {
      throw argument_error(entity, "there is no block " + std::to_string(id) + " in a pool of " +
                                       std::to_string(size()));
    }
    return at(id);
  }
  std::size_t in_use(const char* entity, block_id id) const {
    const std::size_t block = exists(entity, id);
    if (references_[block] == 0) {
      throw argument_error(entity, "block " + std::to_string(id) +
                                       (is_null(id) ? " is the null block" : " is free"));
    }
    return block;
  }

  pool_options options_;
  std::vector<link> links_;  // of free blocks; the last two are the ends of the lists
  std::vector<std::int32_t> references_;
  std::vector<std::uint8_t> kept_;
  std::int64_t free_ = 0;
  std::int64_t total_references_ = 0;
  std::int64_t peak_used_ = 0;
  std::int64_t evictions_ = 0;
};

}  // namespace ashlar::kv
