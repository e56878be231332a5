// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace ashlar::memory {

/// An ordered list of launches on a device, by number; 0 is the one that calls run on by default.
using queue_id = std::uint32_t;

namespace detail {

struct pool_base;

/// A run of bytes inside a segment, free or in use. Blocks of a segment are a list by address.
struct block {
  std::byte* address = nullptr;
  std::size_t size = 0;
  std::size_t requested = 0;  ///< by the caller; 0 while the block is free
  block* previous = nullptr;  ///< the neighbour below, in the same segment
  block* next = nullptr;      ///< the neighbour above
  pool_base* pool = nullptr;  ///< whose free blocks it belongs to
  block* left = nullptr;      ///< links of the index that holds the block while it is free
  block* right = nullptr;
  block* noted = nullptr;       ///< the next one to be given back to the chip
  std::size_t largest = 0;      ///< what an index notes about the blocks below this one
  std::uint64_t born = 0;       ///< the pool's clock when the block became free: its age
  const char* label = nullptr;  ///< who asked for it
  std::uint32_t waits_for = 0;  ///< events of other queues that have not happened yet
  bool used = false;            ///< by a caller
  bool shared = false;          ///< `record_use` named other queues
  bool mapped = true;           ///< there are bytes at its addresses
  bool grows = false;           ///< it lies in addresses that were reserved

  /// Whether it is a segment of its own.
  [[nodiscard]] bool is_whole() const { return previous == nullptr && next == nullptr && !grows; }
  /// Whether a neighbour may be joined to it.
  [[nodiscard]] bool is_free() const { return !used && waits_for == 0 && mapped; }
};

/// Blocks that exist, kept for their next use: making one inside a reserve cannot fail.
class block_store {
 public:
  /// Effects: the next `count` calls of `take` need no memory. Throws: `std::bad_alloc`.
  void reserve(std::size_t count) {
    while (spare_count_ < count) {
      chunks_.reserve(chunks_.size() + 1);
      auto chunk = std::make_unique<std::array<block, 64>>();
      for (block& b : *chunk) {
        give(&b);
      }
      chunks_.push_back(std::move(chunk));
    }
  }
  block* take() noexcept {
    block* b = spare_;
    spare_ = b->right;
    --spare_count_;
    *b = block{};
    return b;
  }
  void give(block* b) noexcept {
    b->right = std::exchange(spare_, b);
    ++spare_count_;
  }

 private:
  std::vector<std::unique_ptr<std::array<block, 64>>> chunks_;
  block* spare_ = nullptr;
  std::size_t spare_count_ = 0;
};

/// Finds the block that starts at an address: open addressing, at most half full.
class block_map {
 public:
  /// Effects: the next `count` insertions need no memory. Throws: `std::bad_alloc`.
  void reserve(std::size_t count) {
    if ((size_ + count) * 2 <= slots_.size()) [[likely]] {
      return;
    }
    std::vector<block*> before(std::bit_ceil((size_ + count) * 4));
    before.swap(slots_);
    size_ = 0;
    for (block* b : before) {
      if (b != nullptr) {
        insert(b);
      }
    }
  }
  void insert(block* b) noexcept {
    std::size_t at = home(b->address);
    while (slots_[at] != nullptr) {
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = b;
    ++size_;
  }
  [[nodiscard]] block* find(const std::byte* address) const noexcept {
    if (slots_.empty()) {
      return nullptr;
    }
    for (std::size_t at = home(address);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] == nullptr || slots_[at]->address == address) {
        return slots_[at];
      }
    }
  }
  void erase(const std::byte* address) noexcept {
    const std::size_t mask = slots_.size() - 1;
    std::size_t hole = home(address);
    while (slots_[hole]->address != address) {
      hole = (hole + 1) & mask;
    }
    --size_;
    // Moves back whatever a search would no longer find behind the hole.
    for (std::size_t at = (hole + 1) & mask; slots_[at] != nullptr; at = (at + 1) & mask) {
      if (((at - home(slots_[at]->address)) & mask) >= ((at - hole) & mask)) {
        slots_[hole] = slots_[at];
        hole = at;
      }
    }
    slots_[hole] = nullptr;
  }
  template <class F>
  void for_each(F&& f) const {
    for (block* b : slots_) {
      if (b != nullptr) {
        f(*b);
      }
    }
  }

 private:
  [[nodiscard]] std::size_t home(const std::byte* address) const {
    const auto bits = reinterpret_cast<std::uintptr_t>(address);
    return static_cast<std::size_t>((bits * 0x9E3779B97F4A7C15U) >> 32U) & (slots_.size() - 1);
  }
  std::vector<block*> slots_;
  std::size_t size_ = 0;
};

}  // namespace detail
}  // namespace ashlar::memory
