// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"

namespace ashlar::kv {

/// Blocks in the host's memory for sequences that must make room on the device.
///
/// A table that is swapped out holds blocks of the host's pool: it can be read, forked, truncated
/// and destroyed there, but not appended to. Who swaps several tables at once (a beam's, say) has
/// the blocks that they share moved once, and shared again on the other side.
/// The copies are the caller's to make. Where one fails the sequence is lost, not its blocks:
/// `truncate(0)`, swap in (which then needs nothing), and compute it again.
/// Source: the block manager of vLLM 0.5.
class swap_space {
 public:
  /// Throws: `argument_error` where `blocks` is negative or no pool can be so large.
  swap_space(block_pool& device, block_id blocks)
      : device_(&device),
        host_(blocks + (device.options().null_block && blocks < largest ? 1 : 0),
              {.null_block = device.options().null_block, .place = tier::host}) {}

  [[nodiscard]] const block_pool& host() const { return host_; }

  /// Distinct blocks that hold tokens of `tables`: what moving them takes on the other side.
  [[nodiscard]] static std::int64_t blocks_needed(std::span<block_table* const> tables) {
    return std::ssize(distinct(tables));
  }

  /// Moves sequences to the host.
  ///
  /// Effects: what tables have reserved is given back. `copies` gets one copy per distinct block.
  /// Throws:  `out_of_blocks`, `argument_error` where a table is not on the device or is given
  ///          twice; nothing has changed.
  void out(std::span<block_table* const> tables, std::vector<block_copy>& copies) {
    move("ashlar::kv::swap_space::out", tables, *device_, host_, copies);
  }

  /// Moves sequences back to the device; else as `out`.
  void in(std::span<block_table* const> tables, std::vector<block_copy>& copies) {
    move("ashlar::kv::swap_space::in", tables, host_, *device_, copies);
  }

  /// Whether `in(tables)` should be done now, with `more` blocks left for what comes next.
  ///
  /// Throws: `argument_error` where `more` is negative.
  [[nodiscard]] admission can_return(std::span<block_table* const> tables,
                                     std::int64_t more = 0) const {
    if (more < 0) {
      throw argument_error("ashlar::kv::swap_space::can_return",
                           std::to_string(more) + " blocks are to be left; give 0 or more");
    }
    const std::int64_t needed = blocks_needed(tables);
    return device_->admit(needed +
                          std::min(more, std::numeric_limits<std::int64_t>::max() - needed));
  }

 private:
  static constexpr block_id largest = std::numeric_limits<block_id>::max();

  static std::size_t filled(const block_table& table) {
    return static_cast<std::size_t>(blocks_for(table.tokens(), table.block_tokens()));
  }
  static std::vector<block_id> distinct(std::span<block_table* const> tables) {
    std::vector<block_id> ids;
    for (const block_table* table : tables) {
      const auto held = table->blocks().first(filled(*table));
      ids.insert(ids.end(), held.begin() + table->dropped() / table->block_tokens(), held.end());
    }
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  }

  static void move(const char* entity, std::span<block_table* const> tables, block_pool& from,
                   block_pool& to, std::vector<block_copy>& copies) {
    for (std::size_t i = 0; i < tables.size(); ++i) {
      if (!tables[i]->in(from) || std::ranges::count(tables.first(i), tables[i]) != 0) {
        throw argument_error(entity, "table " + std::to_string(i) + " of " +
                                         std::to_string(tables.size()) +
                                         " is not in the memory to move from, or given twice");
      }
    }
    const std::vector<block_id> old_ids = distinct(tables);
    std::vector<block_id> new_ids(old_ids.size());
    std::vector<std::vector<block_id>> homes;
    homes.reserve(tables.size());
    copies.reserve(copies.size() + old_ids.size());
    for (const block_table* table : tables) {
      homes.emplace_back(table->blocks().begin(),
                         table->blocks().begin() + static_cast<std::ptrdiff_t>(filled(*table)));
    }
    to.allocate(new_ids);
    // From here on nothing throws.
    for (std::size_t i = 0; i < old_ids.size(); ++i) {
      copies.push_back({old_ids[i], new_ids[i], from.options().place, to.options().place});
    }
    for (std::size_t i = 0; i < tables.size(); ++i) {
      block_table& table = *tables[i];
      for (std::size_t at = static_cast<std::size_t>(table.dropped_); at < homes[i].size(); ++at) {
        block_id& id = homes[i][at];
        const auto old = std::lower_bound(old_ids.begin(), old_ids.end(), id);
        id = new_ids[static_cast<std::size_t>(old - old_ids.begin())];
        to.share(id);
      }
      table.release_from(0);
      table.blocks_ = std::move(homes[i]);
      table.pool_ = &to;
    }
    for (const block_id id : new_ids) {
      to.release(id);  // the reference it was allocated with; tables have theirs
    }
  }

  block_pool* device_;
  block_pool host_;
};

}  // namespace ashlar::kv
