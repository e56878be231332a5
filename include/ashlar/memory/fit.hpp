// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ashlar/memory/detail/block.hpp"
#include "ashlar/memory/detail/treap.hpp"
#include "ashlar/memory/kinds.hpp"

/// Which free block serves a request.
namespace ashlar::memory {

namespace detail {

/// Lists of sizes, eight per power of two, and a bit for each that is not empty.
template <class List>
class size_bins {
 public:
  [[nodiscard]] List& of(std::size_t size) { return lists_[bin(size)]; }
  [[nodiscard]] const List& of(std::size_t size) const { return lists_[bin(size)]; }
  void mark(std::size_t size) {
    const std::size_t b = bin(size);
    if (lists_[b].empty()) {
      bits_[b / 64] &= ~(std::uint64_t{1} << b % 64);
    } else {
      bits_[b / 64] |= std::uint64_t{1} << b % 64;
    }
  }
  /// The first list after the one of `size` that has a block, or null: each of its blocks fits.
  [[nodiscard]] const List* after(std::size_t size) const {
    const std::size_t from = bin(size) + 1;
    std::size_t word = from / 64;
    if (word >= bits_.size()) {
      return nullptr;
    }
    std::uint64_t bits = bits_[word] & (~std::uint64_t{0} << from % 64);
    while (bits == 0) {
      if (++word == bits_.size()) {
        return nullptr;
      }
      bits = bits_[word];
    }
    return &lists_[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))];
  }
  [[nodiscard]] const List* last() const {
    for (std::size_t word = bits_.size(); word-- > 0;) {
      if (bits_[word] != 0) {
        return &lists_[word * 64 + 63 - static_cast<std::size_t>(std::countl_zero(bits_[word]))];
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
  std::array<List, (digits - 2) * 8> lists_{};
  std::array<std::uint64_t, ((digits - 2) * 8 + 63) / 64> bits_{};
};

/// A stack of blocks, linked through themselves.
class block_stack {
 public:
  [[nodiscard]] bool empty() const { return top_ == nullptr; }
  [[nodiscard]] block* top() const { return top_; }
  void push(block& b) noexcept {
    b.left = nullptr;
    b.right = top_;
    if (top_ != nullptr) {
      top_->left = &b;
    }
    top_ = &b;
  }
  void remove(block& b) noexcept {
    (b.left != nullptr ? b.left->right : top_) = b.right;
    if (b.right != nullptr) {
      b.right->left = b.left;
    }
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

}  // namespace detail

/// An index of free blocks; `find(n)` names one of at least `n` bytes, or none.
template <class I>
concept FreeIndex =
    std::default_initializable<I> && requires(I i, const I c, detail::block& b, std::size_t n) {
      { i.insert(b) } noexcept;
      { i.erase(b) } noexcept;
      { c.find(n) } -> std::same_as<detail::block*>;
      { c.largest() } -> std::same_as<detail::block*>;
      c.for_each([](detail::block&) {});
    };

/// Which free block serves a request: `P::index` is a `FreeIndex`.
template <class P>
concept FitPolicy = FreeIndex<typename P::index>;

/// The smallest block that is large enough; of equals the one at the lowest address.
/// Cost: O(log n) among blocks whose sizes differ by less than an eighth.
struct best_fit {
  using kind = kinds::fit;
  class index {
   public:
    void insert(detail::block& b) noexcept {
      bins_.of(b.size).insert(b);
      bins_.mark(b.size);
    }
    void erase(detail::block& b) noexcept {
      bins_.of(b.size).erase(b);
      bins_.mark(b.size);
    }
    [[nodiscard]] detail::block* find(std::size_t bytes) const {
      detail::block* best = nullptr;
      for (detail::block* at = bins_.of(bytes).root(); at != nullptr;) {
        if (at->size >= bytes) {
          best = at;
          at = at->left;
        } else {
          at = at->right;
        }
      }
      if (best == nullptr) {
        if (const auto* larger = bins_.after(bytes)) {
          best = larger->first();
        }
      }
      return best;
    }
    [[nodiscard]] detail::block* largest() const {
      const auto* top = bins_.last();
      return top != nullptr ? top->last() : nullptr;
    }
    template <class F>
    void for_each(F&& f) const {
      bins_.for_each(f);
    }

   private:
    detail::size_bins<detail::treap<detail::by_size_and_address>> bins_;
  };
};

/// The block that was freed last among those of about the right size. Cost: O(1).
/// Source: TLSF (Masmano et al., 2004), eight lists per power of two.
struct first_fit {
  using kind = kinds::fit;
  class index {
   public:
    void insert(detail::block& b) noexcept {
      bins_.of(b.size).push(b);
      bins_.mark(b.size);
    }
    void erase(detail::block& b) noexcept {
      bins_.of(b.size).remove(b);
      bins_.mark(b.size);
    }
    [[nodiscard]] detail::block* find(std::size_t bytes) const {
      detail::block* at = bins_.of(bytes).top();
      while (at != nullptr && at->size < bytes) {  // only this list has blocks that are too small
        at = at->right;
      }
      if (at == nullptr) {
        if (const auto* larger = bins_.after(bytes)) {
          at = larger->top();
        }
      }
      return at;
    }
    [[nodiscard]] detail::block* largest() const {
      detail::block* most = nullptr;
      if (const auto* top = bins_.last()) {
        top->for_each(
            [&](detail::block& b) { most = most == nullptr || b.size > most->size ? &b : most; });
      }
      return most;
    }
    template <class F>
    void for_each(F&& f) const {
      bins_.for_each(f);
    }

   private:
    detail::size_bins<detail::block_stack> bins_;
  };
};

/// The block at the lowest address that is large enough: what is in use gathers at the bottom, and
/// the top of the address space empties. Cost: O(log n).
struct lowest_address {
  using kind = kinds::fit;
  class index {
   public:
    void insert(detail::block& b) noexcept { blocks_.insert(b); }
    void erase(detail::block& b) noexcept { blocks_.erase(b); }
    [[nodiscard]] detail::block* find(std::size_t bytes) const {
      detail::block* at = blocks_.root();
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
    [[nodiscard]] detail::block* largest() const {
      return blocks_.empty() ? nullptr : find(blocks_.root()->largest);
    }
    template <class F>
    void for_each(F&& f) const {
      blocks_.for_each(f);
    }

   private:
    detail::treap<detail::by_address> blocks_;
  };
};

}  // namespace ashlar::memory
