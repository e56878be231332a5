// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/detail/treap.hpp"

namespace ashlar::memory::detail {

/// A stack of blocks, linked through themselves.
class block_stack {
 public:
  [[nodiscard]] bool empty() const { return top_ == nullptr; }
  [[nodiscard]] block* first() const { return top_; }
  void insert(block& b) noexcept {
    b.left = nullptr;
    b.right = top_;
    if (top_ != nullptr) {
      top_->left = &b;
    }
    top_ = &b;
  }
  void erase(block& b) noexcept {
    (b.left != nullptr ? b.left->right : top_) = b.right;
    if (b.right != nullptr) {
      b.right->left = b.left;
    }
  }
  [[nodiscard]] block* find(std::size_t bytes) const {
    block* b = top_;
    while (b != nullptr && b->size < bytes) {
      b = b->right;
    }
    return b;
  }
  [[nodiscard]] block* largest() const {
    block* most = top_;
    for (block* b = top_; b != nullptr; b = b->right) {
      most = b->size > most->size ? b : most;
    }
    return most;
  }
  template <class F>
  void for_each(F&& f) const {
    for (block* b = top_; b != nullptr;) {
      block* const below = b->right;
      f(*b);
      b = below;
    }
  }

 private:
  block* top_ = nullptr;
};

/// Blocks by size, of equals by address.
class sorted_blocks : public treap<by_size_and_address> {
 public:
  [[nodiscard]] block* find(std::size_t bytes) const {
    return lowest([&](const block& b) { return b.size >= bytes; });
  }
  [[nodiscard]] block* after(const block& b) const {
    return lowest([&](const block& c) { return by_size_and_address::less(b, c); });
  }
  [[nodiscard]] block* largest() const { return last(); }

 private:
  /// The first block for which `above` holds; it holds for all that come after.
  template <class F>
  [[nodiscard]] block* lowest(F&& above) const {
    block* best = nullptr;
    for (block* at = root(); at != nullptr;) {
      const bool here = above(*at);
      best = here ? at : best;
      at = here ? at->left : at->right;
    }
    return best;
  }
};

/// Free blocks in lists by size, eight per power of two, and a bit for each that is not empty: only
/// in the list of the size that is looked for may a block be too small.
template <class List>
class size_bins {
 public:
  void insert(block& b) noexcept {
    const std::size_t at = bin(b.size);
    lists_[at].insert(b);
    bits_[at / 64] |= std::uint64_t{1} << at % 64;
  }
  void erase(block& b) noexcept {
    const std::size_t at = bin(b.size);
    lists_[at].erase(b);
    if (lists_[at].empty()) {
      bits_[at / 64] &= ~(std::uint64_t{1} << at % 64);
    }
  }
  [[nodiscard]] block* find(std::size_t bytes) const {
    block* const b = lists_[bin(bytes)].find(bytes);
    return b != nullptr ? b : first_above(bin(bytes));
  }
  /// The block that comes after `b`. Requires: `List` is ordered.
  [[nodiscard]] block* after(const block& b) const
    requires requires(const List& l) { l.after(b); }
  {
    block* const next = lists_[bin(b.size)].after(b);
    return next != nullptr ? next : first_above(bin(b.size));
  }
  [[nodiscard]] block* largest() const {
    for (std::size_t word = bits_.size(); word-- > 0;) {
      if (bits_[word] != 0) {
        return lists_[word * 64 + 63 - static_cast<std::size_t>(std::countl_zero(bits_[word]))]
            .largest();
      }
    }
    return nullptr;
  }
  template <class F>
  void for_each(F&& f) const {
    for (std::size_t word = 0; word < bits_.size(); ++word) {
      for (std::uint64_t bits = bits_[word]; bits != 0; bits &= bits - 1) {
        lists_[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))].for_each(f);
      }
    }
  }

 private:
  static constexpr std::size_t digits = std::numeric_limits<std::size_t>::digits;
  /// Larger sizes have larger bins, sizes of one bin differ by less than an eighth.
  static constexpr std::size_t bin(std::size_t size) {
    if (size < 8) {
      return size;
    }
    const auto high = static_cast<std::size_t>(std::bit_width(size)) - 1;  // at least 3
    return (high - 2) * 8 + (size >> (high - 3)) % 8;
  }
  [[nodiscard]] block* first_above(std::size_t bin) const {
    std::size_t word = (bin + 1) / 64;
    if (word >= bits_.size()) {
      return nullptr;
    }
    std::uint64_t bits = bits_[word] & (~std::uint64_t{0} << (bin + 1) % 64);
    while (bits == 0) {
      if (++word == bits_.size()) {
        return nullptr;
      }
      bits = bits_[word];
    }
    return lists_[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))].first();
  }
  std::array<List, (digits - 2) * 8> lists_{};
  std::array<std::uint64_t, ((digits - 2) * 8 + 63) / 64> bits_{};
};

/// Free blocks by address: the first that fits.
class lowest_first : public treap<by_address> {
 public:
  [[nodiscard]] block* find(std::size_t bytes) const {
    block* at = root();
    if (at == nullptr || at->largest < bytes) {
      return nullptr;
    }
    while (true) {
      if (at->left != nullptr && at->left->largest >= bytes) {
        at = at->left;
      } else if (at->size >= bytes) {
        return at;
      } else {
        at = at->right;
      }
    }
  }
  [[nodiscard]] block* largest() const { return empty() ? nullptr : find(root()->largest); }
};

}  // namespace ashlar::memory::detail
